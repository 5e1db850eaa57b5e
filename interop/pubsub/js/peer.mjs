// @libp2p/gossipsub and @libp2p/floodsub as a process. It speaks the lines of
// interop/pubsub/internal/peerproc.

import { createHash } from 'node:crypto'
import readline from 'node:readline'
import { parseArgs } from 'node:util'

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { floodsub } from '@libp2p/floodsub'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const { values: flags } = parseArgs({
  options: {
    router: { type: 'string', default: 'gossipsub' },
    sign: { type: 'string', default: 'strict' },
    px: { type: 'boolean', default: false },
    degree: { type: 'string', default: '0' },
  },
})

const print = (o) => process.stdout.write(JSON.stringify(o) + '\n')
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const globalSignaturePolicy = flags.sign === 'none' ? 'StrictNoSign' : 'StrictSign'
const msgIdFn = flags.sign === 'none'
  ? (msg) => createHash('sha256').update(msg.data).digest()
  // The id that go-libp2p-pubsub uses: the author's bytes and the sequence number.
  : (msg) => {
      const seqno = Buffer.alloc(8)
      seqno.writeBigUInt64BE(msg.sequenceNumber)
      return Buffer.concat([msg.from.toMultihash().bytes, seqno])
    }

function router() {
  if (flags.router === 'floodsub') return floodsub({ globalSignaturePolicy })
  const degree = Number(flags.degree)
  const mesh = degree > 0 ? { D: degree, Dlo: degree, Dhi: degree, Dout: 0, Dscore: Math.min(4, degree) } : {}
  return gossipsub({
    globalSignaturePolicy,
    msgIdFn,
    doPX: flags.px,
    // The default takes no peers from one whose score is below 10.
    scoreThresholds: { acceptPXThreshold: 0 },
    allowPublishToZeroTopicPeers: true,
    maxInboundDataLength: 4 << 20,
    maxOutboundBufferSize: 64 << 20,
    ...mesh,
  })
}

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionGater: { denyDialMultiaddr: () => false },
  // The default refuses the sixth connection of an address within a second.
  connectionManager: { inboundConnectionThreshold: Infinity },
  services: { identify: identify(), pubsub: router() },
})
const pubsub = node.services.pubsub

// What goes over the wire, by peer.
const counts = {}
const summary = () => ({ rpcs: 0, graft: 0, prune: 0, px: 0, idontwant: 0, ihave: 0, iwant: 0 })
function count(peer, way, rpc) {
  counts[peer] ??= { in: summary(), out: summary() }
  const s = counts[peer][way]
  const c = rpc.control ?? {}
  const ids = (list) => (list ?? []).reduce((n, e) => n + (e.messageIDs?.length ?? 0), 0)
  s.rpcs++
  s.graft += c.graft?.length ?? 0
  s.prune += c.prune?.length ?? 0
  for (const p of c.prune ?? []) s.px += (p.peers ?? []).filter((i) => i.signedPeerRecord?.length > 0).length
  s.idontwant += ids(c.idontwant)
  s.ihave += ids(c.ihave)
  s.iwant += ids(c.iwant)
}
if (flags.router === 'gossipsub') {
  const receive = pubsub.handleReceivedRpc.bind(pubsub)
  pubsub.handleReceivedRpc = (from, rpc) => { count(from.toString(), 'in', rpc); return receive(from, rpc) }
  const send = pubsub.sendRpc.bind(pubsub)
  pubsub.sendRpc = (id, rpc) => { count(id, 'out', rpc); return send(id, rpc) }
}

const seen = {} // topic → head → copies
const corrupt = {}
pubsub.addEventListener('message', ({ detail: msg }) => {
  const data = Buffer.from(msg.data)
  const cut = data.indexOf(0x20)
  if (cut < 0 || data.subarray(cut + 1).some((b) => b !== 0x78)) {
    corrupt[msg.topic] = (corrupt[msg.topic] ?? 0) + 1
    return
  }
  const topic = (seen[msg.topic] ??= new Map())
  const head = data.subarray(0, cut).toString()
  topic.set(head, (topic.get(head) ?? 0) + 1)
})

function received(topic, tag) {
  let n = 0
  let duplicates = 0
  for (const [head, copies] of seen[topic] ?? []) {
    if (head.slice(0, head.lastIndexOf('-')) === tag) {
      n++
      duplicates += copies - 1
    }
  }
  return { event: 'received', count: n, duplicates, corrupt: corrupt[topic] ?? 0 }
}

async function publish(topic, tag, total, size) {
  for (let i = 0; i < total; i++) {
    const head = Buffer.from(`${tag}-${i} `)
    const data = Buffer.concat([head, Buffer.alloc(Math.max(0, size - head.length), 'x')])
    await pubsub.publish(topic, data)
    if (i % 16 === 15) await sleep(2)
  }
  return { event: 'published', count: total }
}

async function obey(words) {
  switch (words[0]) {
    case 'connect':
      await node.dial(multiaddr(words[1]))
      return { event: 'ok' }
    case 'subscribe':
      pubsub.subscribe(words[1])
      return { event: 'ok' }
    case 'unsubscribe':
      pubsub.unsubscribe(words[1])
      return { event: 'ok' }
    case 'publish':
      return publish(words[1], words[2], Number(words[3]), Number(words[4]))
    case 'received':
      return received(words[1], words[2])
    case 'state':
      return {
        event: 'state',
        mesh: pubsub.getMeshPeers?.(words[1]) ?? [],
        subscribers: pubsub.getSubscribers(words[1]).map(String),
        connected: node.getPeers().map(String),
        counts,
        rejected: {},
        dropped: 0,
      }
    default:
      throw new Error(`unknown command ${words.join(' ')}`)
  }
}

print({ event: 'listen', addr: node.getMultiaddrs()[0].toString(), peer: node.peerId.toString() })
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
