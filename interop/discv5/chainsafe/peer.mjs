// A @chainsafe/discv5 node behind the line protocol that ../README.md describes.
import { createInterface } from "node:readline";
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { Discv5 } from "@chainsafe/discv5";
import { ENR, SignableENR } from "@chainsafe/enr";
import { multiaddr } from "@multiformats/multiaddr";
import { privateKeyFromRaw } from "@libp2p/crypto/keys";

const { values: flags } = parseArgs({
  options: {
    addr: { type: "string", default: "127.0.0.1:0" },
    key: { type: "string", default: "" },
    bootnode: { type: "string", multiple: true, default: [] },
    v: { type: "boolean", default: false },
  },
});

const [host, port] = [flags.addr.slice(0, flags.addr.lastIndexOf(":")), Number(flags.addr.slice(flags.addr.lastIndexOf(":") + 1))];
const privateKey = privateKeyFromRaw(flags.key ? Buffer.from(flags.key, "hex") : randomBytes(32));
const enr = SignableENR.createFromPrivateKey(privateKey);
enr.seq = BigInt(Date.now()); // a restarted node must not go back
enr.ip = host;
enr.udp = port;
const node = Discv5.create({
  enr,
  privateKey,
  bindAddrs: { ip4: multiaddr(`/ip4/${host}/udp/${port}`) },
  config: { enrUpdate: false },
});
node.on("talkReqReceived", (from, _enr, message) => {
  const echo = Buffer.from(message.protocol).toString() === "echo";
  node.sendTalkResp(from, message.id, echo ? message.request : new Uint8Array());
});
await node.start();
for (const text of flags.bootnode) node.addEnr(ENR.decodeTxt(text));
if (flags.bootnode.length > 0) node.findRandomNode().catch(() => {});
console.log(node.enr.encodeTxt());

const hex = (b) => Buffer.from(b).toString("hex");
const ids = (found) => ["ok", found.length, ...found.map((r) => r.nodeId)].join(" ");
const commands = {
  enr: async () => `ok ${node.enr.encodeTxt()}`,
  ping: async (text) => {
    const pong = await node.sendPing(ENR.decodeTxt(text));
    return `ok ${pong.enrSeq} ${ip(pong.addr.ip)} ${pong.addr.port}`;
  },
  findnode: async (text, distances) => ids(await node.sendFindNode(ENR.decodeTxt(text), distances.split(",").map(Number))),
  talk: async (text, protocol, payload = "") =>
    `ok ${hex(await node.sendTalkReq(ENR.decodeTxt(text), Buffer.from(payload, "hex"), protocol))}`,
  lookup: async (id) => ids(await node.findNode(id)),
  request: async (text) => `ok ${(await node.sendFindNode(ENR.decodeTxt(text), [0]))[0].encodeTxt()}`,
  knows: async (id) => {
    const record = node.getKadValue(id);
    if (!record) throw new Error("not known");
    return `ok ${record.seq}`;
  },
  set: async (key, value) => {
    node.enr.set(key, Buffer.from(value, "hex"));
    return `ok ${node.enr.encodeTxt()}`;
  },
};

function ip(addr) {
  return addr.octets ? Array.from(addr.octets).join(".") : String(addr);
}

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...args] = line.trim().split(/\s+/);
  try {
    if (!commands[verb]) throw new Error(`unknown command ${JSON.stringify(line)}`);
    console.log(await commands[verb](...args));
  } catch (e) {
    console.log(`err ${String(e.message ?? e).replaceAll("\n", " ")}`);
  }
}
await node.stop();
process.exit(0);
