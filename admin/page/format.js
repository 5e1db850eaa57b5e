// Numbers, times and names as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const none = "–";

export function count(n) {
  if (n == null) return none;
  return n < 100000 ? whole.format(n) : short.format(n);
}

export function rate(n) {
  if (n == null) return none;
  return n < 100 ? one.format(n) : count(n);
}

export function bytes(n) {
  if (n == null) return none;
  let i = 0;
  while (n >= 1000 && i < 5) { n /= 1000; i++; }
  return (i === 0 || n >= 100 ? whole : one).format(n) + " " + ["B", "kB", "MB", "GB", "TB", "PB"][i];
}

export const byteRate = (n) => (n == null ? none : bytes(n) + "/s");

export function percent(part, all) {
  if (!all) return none;
  const p = (100 * part) / all;
  // 99.96 is not all of them: never round up to 100.
  return (p === 100 ? "100" : Math.min(p, 99.9).toFixed(1)) + " %";
}

export function duration(s) {
  s = Math.max(0, Math.floor(s));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

export const millis = (ms) => (ms ? (ms < 10 ? one.format(ms) : whole.format(ms)) + " ms" : "");

export function clock(unix) {
  const d = new Date(unix * 1000);
  return [d.getHours(), d.getMinutes(), d.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}

// id shortens a peer ID in its middle: its ends are what people compare.
export const id = (s) => (s && s.length > 20 ? s.slice(0, 8) + "…" + s.slice(-6) : s || "");

export const plural = (n, word) => count(n) + " " + word + (n === 1 ? "" : "s");
