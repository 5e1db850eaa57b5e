"""py-libp2p's gossipsub and floodsub as a process.

It speaks the lines of interop/pubsub/internal/peerproc.
"""

import argparse
import functools
import hashlib
import json
import logging
import math
import socket
import sys

import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as new_x25519
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub import floodsub, gossipsub
from libp2p.pubsub import pubsub as pubsub_module
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.tools.anyio_service import background_trio_service

# One command.
TIMEOUT = 60
# Room for a message of 1 MiB and its envelope.
MAX_RPC = 2 << 20


def show(**event):
    print(json.dumps(event), flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def message_id(sign):
    if sign == "none":
        return lambda msg: hashlib.sha256(msg.data).digest()
    # The id that go-libp2p-pubsub uses: the author's bytes and the sequence number.
    return lambda msg: msg.from_id + msg.seqno


def make_router(args):
    if args.router == "floodsub":
        return floodsub.FloodSub([floodsub.PROTOCOL_ID])
    degree = args.degree or 6
    return gossipsub.GossipSub(
        protocols=[
            gossipsub.PROTOCOL_ID_V12,
            gossipsub.PROTOCOL_ID_V11,
            gossipsub.PROTOCOL_ID,
        ],
        degree=degree,
        degree_low=args.degree or 5,
        degree_high=args.degree or 12,
        do_px=args.px,
        heartbeat_interval=1,
        # The defaults accept ten messages a second, and no mesh on one machine.
        spam_protection_enabled=False,
        eclipse_protection_enabled=False,
        max_messages_per_topic_per_second=math.inf,
    )


class Node:
    def __init__(self, host, pubsub, nursery):
        self.host, self.pubsub, self.nursery = host, pubsub, nursery
        self.seen, self.corrupt = {}, {}

    async def collect(self, topic, subscription):
        while True:
            try:
                msg = await subscription.get()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                return
            head, space, rest = bytes(msg.data).partition(b" ")
            if not space or rest.strip(b"x"):
                self.corrupt[topic] = self.corrupt.get(topic, 0) + 1
                continue
            heads = self.seen.setdefault(topic, {})
            heads[head.decode()] = heads.get(head.decode(), 0) + 1

    def received(self, topic, tag):
        copies = [
            n
            for head, n in self.seen.get(topic, {}).items()
            if head.rpartition("-")[0] == tag
        ]
        return {
            "event": "received",
            "count": len(copies),
            "duplicates": sum(copies) - len(copies),
            "corrupt": self.corrupt.get(topic, 0),
        }

    def state(self, topic):
        mesh = getattr(self.pubsub.router, "mesh", {}).get(topic, ())
        return {
            "event": "state",
            "mesh": [str(p) for p in mesh],
            "subscribers": [str(p) for p in self.pubsub.peer_topics.get(topic, ())],
            "connected": [str(p) for p in self.host.get_connected_peers()],
            "dropped": 0,
        }

    async def publish(self, topic, tag, count, size):
        for i in range(count):
            data = f"{tag}-{i} ".encode()
            await self.pubsub.publish(topic, data + b"x" * max(0, size - len(data)))
            await trio.sleep(0.001)
        return {"event": "published", "count": count}

    async def obey(self, words):
        verb, args = words[0], words[1:]
        if verb == "connect":
            await self.host.connect(info_from_p2p_addr(multiaddr.Multiaddr(args[0])))
        elif verb == "subscribe":
            subscription = await self.pubsub.subscribe(args[0])
            self.nursery.start_soon(self.collect, args[0], subscription)
        elif verb == "unsubscribe":
            await self.pubsub.unsubscribe(args[0])
        elif verb == "publish":
            return await self.publish(args[0], args[1], int(args[2]), int(args[3]))
        elif verb == "received":
            return self.received(args[0], args[1])
        elif verb == "state":
            return self.state(args[0])
        else:
            raise ValueError("unknown command " + " ".join(words))
        return {"event": "ok"}


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--router", default="gossipsub")
    parser.add_argument("--sign", default="strict")
    parser.add_argument("--px", action="store_true")
    parser.add_argument("--degree", type=int, default=0)
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    # Queues as long as the others have them: what these drop is lost.
    pubsub_module.SUBSCRIPTION_CHANNEL_SIZE = 8192
    pubsub_module.RpcQueue = functools.partial(pubsub_module.RpcQueue, max_size=4096)

    key = create_new_key_pair()
    noise = NoiseTransport(
        libp2p_keypair=key, noise_privkey=new_x25519().private_key, early_data=None
    )
    host = new_host(key_pair=key, sec_opt={NOISE: noise}, muxer_preference="YAMUX")
    listen = multiaddr.Multiaddr(f"/ip4/127.0.0.1/tcp/{free_port()}")
    pubsub = Pubsub(
        host,
        make_router(args),
        strict_signing=args.sign == "strict",
        msg_id_constructor=message_id(args.sign),
        max_inbound_rpc_size=MAX_RPC,
    )
    async with (
        host.run(listen_addrs=[listen]),
        background_trio_service(pubsub),
        background_trio_service(pubsub.router)
        if args.router == "gossipsub"
        else nothing(),
        trio.open_nursery() as nursery,
    ):
        await pubsub.wait_until_ready()
        node = Node(host, pubsub, nursery)
        show(event="listen", peer=str(host.get_id()), addr=f"{listen}/p2p/{host.get_id()}")
        while True:
            line = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            words = line.split()
            if not line or words == ["quit"]:
                nursery.cancel_scope.cancel()
                return
            if not words:
                continue
            try:
                with trio.fail_after(TIMEOUT):
                    show(**await node.obey(words))
            except Exception as err:  # noqa: BLE001 - every failure is an answer
                show(event="error", error=f"{type(err).__name__}: {err}")


class nothing:
    async def __aenter__(self):
        return None

    async def __aexit__(self, *_):
        return None


if __name__ == "__main__":
    trio.run(main)
