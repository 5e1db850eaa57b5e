// The status page of a real point, while real peers use it: they register and
// look for each other, meet, send bytes by way of the relay and directly, find
// nodes and say messages. Each is a process of its own.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { executable, launch, pixels, watched } from "./browser.mjs";
import { endAll, start } from "./programs.mjs";

const muster = process.env.MUSTER || "../bin/muster";
const artefacts = new URL("artifacts/", import.meta.url).pathname;
mkdirSync(artefacts, { recursive: true });

const skip = executable ? false : "no Chromium: install Debian's package chromium, or set CHROMIUM";
let browser, dir, ready;
before(async () => {
  if (skip) return;
  dir = mkdtempSync(join(tmpdir(), "muster-e2e-"));
  browser = await launch();
  const point = start(muster, ["serve", "--data-dir", join(dir, "point"), "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0",
    "--discv5-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--topic", "lab", "--json",
    "--relay-access", "open", "--i-know-this-is-an-open-relay"], { stderr: "pipe" });
  ready = await new Promise((ok, no) => {
    createInterface({ input: point.child.stderr }).on("line", (l) => {
      try { const e = JSON.parse(l); if (e.event === "ready") ok(e); } catch { /* a person's line */ }
    });
    point.ended.then((code) => no(new Error("serve ended with " + code)));
  });
});
after(async () => {
  await browser?.close();
  endAll();
  if (dir) rmSync(dir, { recursive: true, force: true });
});

// load is what peers do until it is stopped.
function load() {
  let on = true;
  const work = [];
  const again = (f) => work.push((async () => { for (let i = 0; on; i++) await f(i); })());
  const quiet = { stderr: "ignore" };
  const point = ["--point", ready.addrs[0]];
  for (let i = 0; i < 6; i++) {
    start(muster, ["rendezvous", "register", "lab" + (i % 3), "--addr", "/ip4/192.0.2.1/tcp/4001", "--keep", ...point], quiet);
  }
  again((i) => start(muster, ["rendezvous", "discover", "lab" + (i % 3), ...point], quiet).ended);
  const spaces = ["none", "all"]; // the relay, and on one machine a direct path
  again(async (i) => {
    const at = [ready.rdv[0], `e2e-token-${i}`, "--spaces", spaces[i % 2]];
    const to = start(muster, ["rdv", "accept", ...at], quiet), from = start(muster, ["rdv", "dial", ...at], quiet);
    to.child.stdout.resume();
    const block = Buffer.alloc(256 << 10, 7);
    for (let sent = 0; on && sent < 24; sent++) {
      if (!from.child.stdin.write(block)) await Promise.race([once(from.child.stdin, "drain"), from.ended]);
      await new Promise((ok) => setTimeout(ok, 50));
    }
    from.child.stdin.end();
    to.child.stdin.end();
    await Promise.all([from.ended, to.ended]);
  });
  start(muster, ["rdv", "accept", ready.rdv[0], "nobody-comes-for-this"], quiet);
  for (let i = 0; i < 3; i++) start(muster, ["discv5", "listen", "--addr", "127.0.0.1:0", "--bootnode", ready.enr], quiet);
  for (let i = 0; i < 2; i++) start(muster, ["sub", "lab", "--listen", "/ip4/127.0.0.1/tcp/0", "--peer", ready.addrs[0]], quiet);
  again((i) => start(muster, ["pub", "lab", "message " + i, "--peer", ready.addrs[0]], quiet).ended);
  return async () => { on = false; await Promise.race([Promise.all(work), new Promise((ok) => setTimeout(ok, 5000))]); };
}

const number = (s) => Number((s.match(/[\d.,]+/) || ["0"])[0].replaceAll(",", ""));

test("a real point under load", { skip, timeout: 120000 }, async () => {
  const { page, faults, close } = await watched(browser, ready.admin, { viewport: { width: 1280, height: 900 }, colorScheme: "dark" });
  await page.waitForSelector("body.live");
  assert.equal(await page.textContent("#t-registrations"), "0");
  assert.equal(await page.textContent("#offload"), "–");
  await page.screenshot({ path: `${artefacts}serve-idle.png`, fullPage: true });

  const stop = load();
  // reaches waits until the number in an element is at least so much.
  const reaches = (id, least) => page.waitForFunction(([id, least]) =>
    Number((document.getElementById(id).textContent.match(/[\d.,]+/) || ["0"])[0].replaceAll(",", "")) >= least, [id, least], { timeout: 60000 });
  await reaches("t-registrations", 6);
  await reaches("t-requests", 1);
  await reaches("t-waiting", 1);
  await reaches("t-relay", 0.1);
  await reaches("t-nodes", 2);
  await reaches("t-gossip", 2);
  await reaches("pairs-direct", 1);
  await reaches("pairs-relayed", 1);
  for (const c of ["registrations", "requests", "lobby", "bytes", "discv5", "mesh"]) {
    const { ink } = await pixels(page, c);
    assert.ok(ink > 200, `chart ${c} is empty`);
  }
  const was = await pixels(page, "bytes");
  await page.waitForTimeout(2500);
  assert.notEqual((await pixels(page, "bytes")).hash, was.hash, "the chart of bytes moves");
  assert.ok(number(await page.textContent("#offload")) > 0);
  assert.equal(await page.locator("#topics tbody tr").count(), 1);
  await page.screenshot({ path: `${artefacts}serve-load.png`, fullPage: true });
  assert.deepEqual(faults, []);
  await stop();

  // The verbs say the same.
  const env = { MUSTER_ADMIN: new URL(ready.admin).host };
  const status = JSON.parse(await start(muster, ["status", "--json"], { env }).first);
  assert.equal(status.node.peer, ready.peer);
  assert.ok(status.rendezvous.registrations >= 6);
  assert.equal(await start(muster, ["healthcheck"], { env }).first, "ready");
  assert.match(await start(muster, ["peers"], { env }).first, /^12D3KooW/);
  await close();
});
