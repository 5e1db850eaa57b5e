// A real Chromium, watched: what it says on its console and whom it asks.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export const executable = places.find((p) => p && existsSync(p));

export function launch() {
  return chromium.launch({
    executablePath: executable,
    // As root Chromium has no sandbox; and it is to ask nobody by itself.
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
}

// watched opens a page in a context of its own. Its faults lists errors and
// warnings of the console, failed requests, and requests to anybody but origin.
export async function watched(browser, url, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const origin = new URL(url).origin;
  const faults = [], requests = [];
  page.on("console", (m) => { if (["error", "warning"].includes(m.type())) faults.push(`console: ${m.text()}`); });
  page.on("pageerror", (e) => faults.push(`error: ${e.message}`));
  page.on("request", (r) => {
    requests.push(r.url());
    if (new URL(r.url()).origin !== origin) faults.push(`asked ${r.url()}`);
  });
  page.on("response", (r) => { if (r.status() >= 400) faults.push(`${r.status()} ${r.url()}`); });
  await page.goto(url);
  return { page, faults, requests, close: () => context.close() };
}

// pixels is a digest of what a chart shows: it changes when the chart moves.
export const pixels = (page, chart) => page.evaluate((id) => {
  const c = document.querySelector(`#chart-${id} canvas`);
  const copy = new OffscreenCanvas(c.width, c.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(c, 0, 0);
  const data = copy.getImageData(0, 0, c.width, c.height).data;
  let hash = 0, ink = 0;
  for (let i = 0; i < data.length; i += 4) {
    hash = (hash * 31 + data[i] + 7 * data[i + 1] + 13 * data[i + 2] + 17 * data[i + 3]) | 0;
    if (data[i + 3] > 128) ink++;
  }
  return { hash, ink };
}, chart);

// luminance and contrast are WCAG 2.2's:
// https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
};

// faint lists the visible texts whose contrast with what is behind them is
// below 4.5, the least for normal text.
export async function faint(page) {
  const texts = await page.evaluate(() => {
    const rgb = (s) => (s.match(/[\d.]+/g) || []).map(Number);
    const behind = (el) => {
      for (; el; el = el.parentElement) {
        const c = rgb(getComputedStyle(el).backgroundColor);
        if (c.length === 3 || c[3] > 0) return c.slice(0, 3);
      }
      return [255, 255, 255];
    };
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let n = walk.nextNode(); n; n = walk.nextNode()) {
      const el = n.parentElement;
      if (!n.data.trim() || !el.checkVisibility() || el.closest("noscript, script, .skip")) continue;
      found.push({ text: n.data.trim().slice(0, 40), ink: rgb(getComputedStyle(el).color).slice(0, 3), ground: behind(el) });
    }
    return found;
  });
  return texts.filter((t) => contrast(t.ink, t.ground) < 4.5).map((t) => `${t.text}: ${contrast(t.ink, t.ground).toFixed(2)}`);
}

// nameless lists what a screen reader could not name.
export const nameless = (page) => page.evaluate(() => {
  const bad = [];
  for (const el of document.querySelectorAll("button, a[href], [role=img], [role=region], [role=group]")) {
    if (!el.checkVisibility()) continue;
    const by = el.getAttribute("aria-labelledby");
    const name = el.getAttribute("aria-label") || (by && document.getElementById(by)?.textContent) || el.textContent;
    if (!name?.trim()) bad.push(el.outerHTML.slice(0, 80));
  }
  if (!document.documentElement.lang) bad.push("no language");
  if (document.querySelectorAll("h1").length !== 1) bad.push("not one h1");
  return bad;
});
