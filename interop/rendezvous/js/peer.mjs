// @canvas-js/libp2p-rendezvous as a process: a point and a client, under the
// protocol id of libp2p's specification. It speaks the lines of
// interop/rendezvous/internal/peerproc.
//
// Where the library's client hides what a conformance test must see (ttl,
// cookie), the same request is sent through its own codec on a stream of its
// own; its public client is used for everything that it offers.

import readline from 'node:readline'

import { Message, decodeMessages, encodeMessages } from '@canvas-js/libp2p-rendezvous/protocol'
import { RendezvousClient, rendezvousClient } from '@canvas-js/libp2p-rendezvous/client'
import { RendezvousServer, rendezvousServer } from '@canvas-js/libp2p-rendezvous/server'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { PeerRecord, RecordEnvelope } from '@libp2p/peer-record'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import * as lp from 'it-length-prefixed'
import { pipe } from 'it-pipe'
import { createLibp2p } from 'libp2p'

const protocol = '/rendezvous/1.0.0'
RendezvousServer.protocol = protocol
RendezvousClient.protocol = protocol

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionGater: { denyDialMultiaddr: () => false },
  // The default refuses the sixth connection of an address within a second.
  connectionManager: { inboundConnectionThreshold: Infinity },
  services: { identify: identify(), server: rendezvousServer({}), client: rendezvousClient({ autoDiscover: false }) },
})

const print = (o) => process.stdout.write(JSON.stringify(o) + '\n')
const hex = (b) => Buffer.from(b).toString('hex')

// discover sends one DISCOVER and checks the answer as the library's client does.
async function discover(point, ns, limit, cookie) {
  const conn = await node.dial(multiaddr(point))
  const stream = await conn.newStream(protocol)
  const request = { ns, limit: BigInt(limit), cookie: cookie === '-' ? new Uint8Array() : Buffer.from(cookie, 'hex') }
  const answers = pipe(
    [{ type: Message.MessageType.DISCOVER, discover: request }],
    encodeMessages, lp.encode, stream, lp.decode, decodeMessages,
  )
  try {
    const { done, value } = await answers.next()
    if (done) throw new Error('stream ended prematurely')
    const answer = value.discoverResponse
    if (answer?.status !== Message.ResponseStatus.OK) throw new Error(`${answer?.status} ${answer?.statusText}`)
    const peers = []
    for (const registration of answer.registrations) {
      if (registration.ns !== ns) throw new Error('invalid namespace in registration')
      const envelope = await RecordEnvelope.openAndCertify(registration.signedPeerRecord, PeerRecord.DOMAIN)
      const record = PeerRecord.createFromProtobuf(envelope.payload)
      peers.push({
        peer: record.peerId.toString(), ns: registration.ns, ttl: Number(registration.ttl),
        addrs: record.multiaddrs.map(String),
      })
    }
    return { event: 'discovered', cookie: hex(answer.cookie), peers }
  } finally {
    await stream.close()
  }
}

async function obey(words) {
  const [verb, point] = words
  const ns = words[2] === '-' ? '' : words[2]
  switch (verb) {
    case 'register':
      return node.services.client.connect(multiaddr(point), async (p) => {
        const { ttl } = await p.register(ns, { ttl: Number(words[3]) })
        return { event: 'registered', ttl }
      })
    case 'discover': {
      // The public client first: it throws where it does not like an answer.
      if (words[4] === '-') {
        await node.services.client.connect(multiaddr(point), (p) => p.discover(ns, { limit: Number(words[3]) }))
      }
      return discover(point, ns, words[3], words[4])
    }
    case 'unregister':
      // The client closes the stream when the callback returns, and loses what
      // it has only queued by then.
      await node.services.client.connect(multiaddr(point), async (p) => {
        await p.unregister(ns)
        await new Promise((resolve) => setTimeout(resolve, 200))
      })
      return { event: 'unregistered' }
    default:
      throw new Error(`unknown command ${words.join(' ')}`)
  }
}

const addr = node.getMultiaddrs()[0].toString()
print({ event: 'listen', addr, peer: node.peerId.toString() })
for await (const line of readline.createInterface({ input: process.stdin })) {
  const words = line.trim().split(/\s+/)
  if (words[0] === 'quit') break
  try {
    print(await obey(words))
  } catch (err) {
    print({ event: 'error', error: String(err?.message ?? err) })
  }
}
process.exit(0)
