// The status page in a real browser, over a daemon whose numbers are made up
// (examples/statuspage), so that each can be made to move or stand still.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { executable, faint, launch, nameless, pixels, watched } from "./browser.mjs";
import { endAll, start as run } from "./programs.mjs";

const artefacts = new URL("artifacts/", import.meta.url).pathname;
mkdirSync(artefacts, { recursive: true });

// start runs the daemon whose numbers are made up, and gives its page's address.
function start(...args) {
  const p = run(process.env.STATUSPAGE || "../bin/statuspage", args);
  return { ...p, url: p.first };
}

const skip = executable ? false : "no Chromium: install Debian's package chromium, or set CHROMIUM";
const rules = { skip, timeout: 60000 };
let browser, daemon, url;
before(async () => {
  if (skip) return;
  browser = await launch();
  daemon = start();
  url = await daemon.url;
});
after(async () => {
  await browser?.close();
  endAll();
});

const live = (page) => page.waitForSelector("body.live");
const charts = ["registrations", "requests", "lobby", "bytes", "discv5", "mesh"];
const text = (page, id) => page.textContent("#" + id);

// moves waits until what f returns is another than it was.
async function moves(f, what, ms = 6000) {
  const was = JSON.stringify(await f());
  for (const end = Date.now() + ms; Date.now() < end;) {
    if (JSON.stringify(await f()) !== was) return;
    await new Promise((ok) => setTimeout(ok, 250));
  }
  assert.fail(`${what} did not move in ${ms} ms`);
}

for (const [name, options] of Object.entries({
  "light": { colorScheme: "light", viewport: { width: 1280, height: 900 } },
  "dark": { colorScheme: "dark", viewport: { width: 1280, height: 900 } },
  "phone-light": { colorScheme: "light", viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  "phone-dark": { colorScheme: "dark", viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  "tablet": { colorScheme: "light", viewport: { width: 834, height: 1112 } },
})) {
  test(`the page, ${name}`, rules, async () => {
    const { page, faults, requests, close } = await watched(browser, url, options);
    await live(page);
    for (const c of charts) {
      await page.locator("#chart-" + c).scrollIntoViewIfNeeded();
      await moves(() => pixels(page, c), `chart ${c}`);
      assert.ok((await pixels(page, c)).ink > 200, `chart ${c} is empty`);
    }
    await moves(() => text(page, "t-requests"), "requests per second");
    assert.match(await text(page, "offload"), /^9\d\.\d %$/);
    assert.equal(await page.locator("#links tbody tr").count(), 5);
    assert.equal(await page.locator("#points tbody tr").count(), 2);
    assert.equal(await page.locator("#limits tbody tr").count(), 3);
    assert.equal(await page.textContent("#topics tbody tr:last-child td"), "<img src=x onerror=alert(1)>", "names are text");
    assert.equal(await page.locator("img").count(), 0);
    assert.deepEqual(await faint(page), [], "texts that are too faint");
    assert.deepEqual(await nameless(page), [], "elements without a name");
    const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= seen, `the page is ${wide} wide on ${seen}`);
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: `${artefacts}status-${name}.png`, fullPage: true });
    assert.deepEqual(faults, []);
    assert.ok(requests.length < 20, `${requests.length} requests`);
    await close();
  });
}

test("a chart shows what is under the cursor, and ten minutes", rules, async () => {
  const { page, faults, close } = await watched(browser, url, { viewport: { width: 1280, height: 900 } });
  await live(page);
  await page.waitForTimeout(3000);
  await page.hover("#chart-requests .u-over", { position: { x: 250, y: 60 } });
  assert.equal(await page.locator("#chart-lobby .u-cursor-x").evaluate((e) => getComputedStyle(e).display !== "none"), true, "charts share their cursor");
  await page.click("[data-span='600']");
  assert.equal(await page.getAttribute("[data-span='600']", "aria-pressed"), "true");
  assert.equal(await page.getAttribute("[data-span='120']", "aria-pressed"), "false");
  assert.deepEqual(faults, []);
  await close();
});

test("it can be used by keyboard", rules, async () => {
  const { page, close } = await watched(browser, url, {});
  await live(page);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  const seen = [];
  for (let i = 0; i < 12; i++) {
    await page.keyboard.press("Tab");
    seen.push(await page.evaluate(() => document.activeElement.id || document.activeElement.dataset.span || document.activeElement.className));
  }
  for (const want of ["peer", "120", "600", "scroll"]) assert.ok(seen.includes(want), `${want} is not reached: ${seen}`);
  await close();
});

test("a change between light and dark redraws the charts", rules, async () => {
  const { page, close } = await watched(browser, url, { colorScheme: "light" });
  await live(page);
  daemon.say("freeze");
  await page.waitForTimeout(1500);
  const was = await pixels(page, "discv5");
  await page.emulateMedia({ colorScheme: "dark" });
  await moves(() => pixels(page, "discv5").then((p) => p.hash === was.hash), "the chart's colours", 3000);
  daemon.say("thaw");
  await close();
});

test("a point that ends and comes back", rules, async () => {
  const own = start();
  const at = await own.url;
  const { page, close } = await watched(browser, at, { viewport: { width: 1280, height: 900 } });
  await live(page);
  await own.stop();
  await page.waitForSelector("body.stale", { timeout: 8000 });
  assert.match(await text(page, "state"), /stale/);
  assert.match(await text(page, "banner"), /Nothing heard from the point since \d\d:\d\d:\d\d/);
  assert.equal(await page.isVisible("#banner"), true);
  await page.screenshot({ path: `${artefacts}status-stale.png` });
  const again = start("-listen", new URL(at).host);
  await again.url;
  await page.waitForSelector("body.live", { timeout: 15000 });
  assert.equal(await page.isVisible("#banner"), false);
  await close();
  await again.stop();
});

test("a part that is not ready is named", rules, async () => {
  const own = start();
  const { page, close } = await watched(browser, await own.url, { viewport: { width: 1280, height: 900 } });
  await live(page);
  own.say("break");
  await page.waitForSelector("body.unready", { timeout: 8000 });
  assert.equal(await text(page, "banner"), "Not ready. store: no space left on device");
  assert.equal(await text(page, "state"), "not ready");
  await page.screenshot({ path: `${artefacts}status-not-ready.png` });
  own.say("mend");
  await page.waitForSelector("body.unready", { state: "detached", timeout: 8000 });
  assert.equal(await page.isVisible("#banner"), false);
  await close();
  await own.stop();
});

test("another site's page gets nothing", rules, async () => {
  const { page, faults, close } = await watched(browser, url, {});
  await live(page);
  const other = start();
  const got = await page.evaluate(async (at) => {
    try {
      return (await fetch(at + "api/status", { mode: "no-cors" })).type;
    } catch {
      return "refused";
    }
  }, await other.url);
  assert.equal(got, "refused"); // by the page's own policy
  assert.ok(faults.some((f) => /Content Security Policy/.test(f)), String(faults));
  // A page of another origin: what it fetches is refused by the point.
  const site = createServer((_, res) => res.end("<!doctype html><title>other</title>")).listen(0, "127.0.0.1");
  await new Promise((ok) => site.once("listening", ok));
  const plain = await browser.newContext();
  const outsider = await plain.newPage();
  await outsider.goto(`http://127.0.0.1:${site.address().port}/`);
  const refused = async () => Number((await (await fetch(url + "metrics")).text()).match(/muster_admin_refused_total\{reason="origin"\} (\d+)/)[1]);
  const was = await refused();
  const answer = await outsider.evaluate((at) => fetch(at + "api/status", { mode: "no-cors" }).then((r) => r.type, () => "refused"), url);
  assert.equal(answer, "refused");
  assert.equal(await refused(), was + 1);
  site.closeAllConnections();
  site.close();
  await plain.close();
  await other.stop();
  await close();
});
