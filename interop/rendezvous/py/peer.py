"""py-libp2p's rendezvous service and client as one process.

It speaks the lines of interop/rendezvous/internal/peerproc. py-libp2p is of
the unsigned PeerInfo family.
"""

import json
import logging
import socket
import sys

import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.discovery.rendezvous import client as rclient
from libp2p.discovery.rendezvous.client import RendezvousClient
from libp2p.discovery.rendezvous.service import RendezvousService
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport

# The client refuses less than two minutes by itself, which is too long to
# see a registration expire; the service has no such minimum.
rclient.MIN_TTL = 1

# One operation.
TIMEOUT = 30


def show(**event):
    print(json.dumps(event), flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


async def connected(host, point):
    info = info_from_p2p_addr(multiaddr.Multiaddr(point))
    await host.connect(info)
    return RendezvousClient(host, info.peer_id)


async def obey(host, words):
    verb, point, ns = words[0], words[1], words[2]
    client = await connected(host, point)
    if verb == "register":
        ttl = await client.register(ns, int(words[3]) or rclient.DEFAULT_TTL)
        return {"event": "registered", "ttl": int(ttl)}
    if verb == "discover":
        cookie = b"" if words[4] == "-" else bytes.fromhex(words[4])
        found, cookie = await client.discover(
            "" if ns == "-" else ns, int(words[3]), cookie
        )
        peers = [
            {"peer": str(p.peer_id), "ns": ns, "ttl": 0, "addrs": [str(a) for a in p.addrs]}
            for p in found
        ]
        return {"event": "discovered", "cookie": cookie.hex(), "peers": peers}
    if verb == "unregister":
        await client.unregister(ns)
        return {"event": "unregistered"}
    raise ValueError("unknown command " + " ".join(words))


async def main():
    logging.disable(logging.CRITICAL)
    key = create_new_key_pair()
    noise = NoiseTransport(
        libp2p_keypair=key, noise_privkey=create_x25519(), early_data=None
    )
    host = new_host(key_pair=key, sec_opt={NOISE: noise}, muxer_preference="YAMUX")
    listen = multiaddr.Multiaddr(f"/ip4/127.0.0.1/tcp/{free_port()}")
    async with host.run(listen_addrs=[listen]):
        RendezvousService(host)
        show(
            event="listen",
            peer=str(host.get_id()),
            addr=f"{listen}/p2p/{host.get_id()}",
        )
        while True:
            line = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            words = line.split()
            if not line or words == ["quit"]:
                return
            if not words:
                continue
            try:
                with trio.fail_after(TIMEOUT):
                    show(**await obey(host, words))
            except Exception as err:  # noqa: BLE001 - every failure is an answer
                show(event="error", error=f"{type(err).__name__}: {err}")


def create_x25519():
    from libp2p.crypto.x25519 import create_new_key_pair as new_x25519

    return new_x25519().private_key


if __name__ == "__main__":
    trio.run(main)
    # Threads that wait for stdin would keep the process.
    sys.stdout.flush()
