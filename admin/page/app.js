// The status page: listens to the point and shows what it says. It asks
// nobody but the point.

import * as format from "./format.js";
import { bars, lines } from "./charts.js";
import { put, table } from "./tables.js";
import { listen } from "./stream.js";

const $ = (id) => document.getElementById(id);
const keep = 600; // samples, as many as the point keeps

// history is the past by column: history.time[i], history.waiting[i], …
let history = {}, columns = [], now = null;

function load(h) {
  columns = h.columns;
  history = Object.fromEntries(columns.map((c, k) => [c, h.rows.map((r) => r[k])]));
}

// sample is what a snapshot adds to the history: the point's columns.
function sample(s) {
  const r = s.rendezvous, l = s.relay, d = s.discv5, p = s.pubsub;
  return {
    time: Date.parse(s.time) / 1000,
    registrations: r ? r.registrations + r.waku_registrations : 0,
    register: r?.requests?.register || 0, discover: r?.requests?.discover || 0, unregister: r?.requests?.unregister || 0,
    waiting: l?.waiting || 0, pairs: l?.pairs || 0, relays: l?.relays || 0,
    relayed_bytes: l?.relayed_bytes || 0, direct_bytes: l?.direct_bytes || 0,
    pairs_direct: l?.pairs_direct || 0, pairs_relayed: l?.pairs_relayed || 0,
    nodes: d?.nodes || 0, alive: d?.alive || 0, sessions: d?.sessions || 0,
    mesh: (p?.topics || []).reduce((n, t) => n + t.mesh, 0), peers: p?.peers || 0, delivered: p?.delivered || 0,
    conns: s.node.conns || 0,
  };
}

function append(s) {
  const v = sample(s);
  const t = history.time;
  const last = t[t.length - 1];
  if (v.time === last) return; // the first status repeats the last sample
  if (v.time < last) for (const c of columns) history[c].length = 0; // the point's clock was set back
  for (const c of columns) {
    history[c].push(v[c] ?? 0);
    if (history[c].length > keep) history[c].shift();
  }
}

// perSecond is a counter's rate at each sample. A counter that fell belongs to
// a daemon that was started again: no rate is known there.
function perSecond(name) {
  const v = history[name] || [], t = history.time;
  return v.map((n, i) => {
    if (i === 0) return null;
    const dt = t[i] - t[i - 1];
    return dt > 0 && n >= v[i - 1] ? (n - v[i - 1]) / dt : null;
  });
}

const latest = (list) => list[list.length - 1];
const zip = (...cols) => (history.time || []).map((t, i) => [t, ...cols.map((c) => c[i])]);

const time = [
  { id: "registrations", title: "Registrations", unit: "now", least: 10, wing: "rendezvous",
    series: [{ label: "live", colour: 1, fill: true }],
    rows: () => zip(history.registrations) },
  { id: "requests", title: "Requests", unit: "per second", text: format.rate, wing: "rendezvous",
    series: [{ label: "discover", colour: 1, fill: true }, { label: "register", colour: 2 }, { label: "unregister", colour: 3 }],
    rows: () => zip(perSecond("discover"), perSecond("register"), perSecond("unregister")) },
  { id: "lobby", title: "Lobby", unit: "now", wing: "relay",
    series: [{ label: "waiting", colour: 3, fill: true }, { label: "met", colour: 1 }, { label: "relayed", colour: 2 }],
    rows: () => zip(history.waiting, history.pairs, history.relays) },
  { id: "bytes", title: "Traffic", unit: "per second", text: format.byteRate, axis: format.bytes, wide: 56, least: 1000, wing: "relay",
    series: [{ label: "direct, own links", colour: 1 }, { label: "relayed", colour: 2, fill: true }],
    rows: () => zip(perSecond("direct_bytes"), perSecond("relayed_bytes")) },
  { id: "mesh", title: "Gossip", unit: "now", wing: "pubsub",
    series: [{ label: "in meshes", colour: 1, fill: true }, { label: "peers", colour: 3 }],
    rows: () => zip(history.mesh, history.peers) },
];

const grid = $("grid");
const charts = time.slice(0, 4).map((spec) => ({ spec, chart: lines(grid, spec) }));
const nodes = bars(grid, { id: "discv5", title: "Nodes by distance", unit: "discv5 table", series: [{ label: "nodes", colour: 1 }, { label: "answering", colour: 1, fill: true }] });
charts.push({ spec: time[4], chart: lines(grid, time[4]) });

const showLinks = table("links", [
  { label: "peer", text: (l) => format.id(l.peer), title: (l) => l.peer, mono: true },
  { label: "service", text: (l) => l.service || "pipe" },
  { label: "path", text: (l) => l.path, title: (l) => l.addr, path: true },
  { label: "age", text: (l) => format.duration((Date.parse(now.time) - Date.parse(l.since)) / 1000), n: true },
  { label: "round trip", text: (l) => format.millis(l.rtt_ms), n: true },
  { label: "sent", text: (l) => format.bytes(l.sent_bytes), n: true },
  { label: "received", text: (l) => format.bytes(l.received_bytes), n: true },
  { label: "switches", text: (l) => l.switches, n: true },
]);
const showPoints = table("points", [
  { label: "point", text: (p) => format.id(p.peer), title: (p) => p.peer + " " + p.addr, mono: true },
  { label: "role", text: (p) => p.role },
  { label: "state", text: (p) => p.state, title: (p) => p.error, fresh: (p) => !!p.error },
  { label: "round trip", text: (p) => format.millis(p.rtt_ms), n: true },
]);
const showTopics = table("topics", [
  { label: "topic", text: (t) => t.name },
  { label: "peers", text: (t) => format.count(t.peers), n: true },
  { label: "in the mesh", text: (t) => format.count(t.mesh), n: true },
]);

// When a limit's count last rose, as far as this page has seen.
const rose = new Map();
function watchLimits(list) {
  for (const l of list) {
    const key = l.part + " " + l.limit, was = rose.get(key);
    if (!was) rose.set(key, { count: l.count, at: 0 });
    else if (l.count > was.count) rose.set(key, { count: l.count, at: Date.now() });
    else if (l.count < was.count) rose.set(key, { count: l.count, at: 0 });
  }
}
const since = (l) => rose.get(l.part + " " + l.limit)?.at || 0;
const showLimits = table("limits", [
  { label: "part", text: (l) => l.part },
  { label: "limit", text: (l) => l.limit.replaceAll("_", " ") },
  { label: "times", text: (l) => format.count(l.count), n: true },
  { label: "last", text: (l) => (since(l) ? format.duration((Date.now() - since(l)) / 1000) + " ago" : "earlier"),
    fresh: (l) => Date.now() - since(l) < 10000, n: true },
]);

function hero(l) {
  const direct = l?.pairs_direct || 0, relayed = l?.pairs_relayed || 0, all = direct + relayed;
  put($("offload"), format.percent(direct, all));
  $("offload").parentElement.classList.toggle("no", !all);
  put($("offload-says"), !l ? "The relay is off in this point." : all
    ? "of the pairs that met here went on without the relay."
    : "No pair has met here yet.");
  const [d, r] = $("offload-meter").children;
  d.style.width = all ? (100 * direct) / all + "%" : "0";
  r.style.width = all ? (100 * relayed) / all + "%" : "0";
  $("offload-meter").setAttribute("aria-label", all ? format.percent(direct, all) + " direct, the rest relayed" : "no pairs yet");
  put($("pairs-direct"), format.count(direct));
  put($("pairs-relayed"), format.count(relayed));
  put($("relayed-total"), format.bytes(l?.relayed_bytes || 0));
  const pd = history.pairs_direct, pr = history.pairs_relayed;
  const dd = direct - pd[0], dr = relayed - pr[0];
  put($("offload-recent"), dd >= 0 && dr >= 0 ? format.percent(dd, dd + dr) : format.none);
}

function tile(id, wing, big, small, smallID) {
  $(id).parentElement.classList.toggle("off", !wing);
  put($(id), wing ? big() : "off");
  if (smallID) put($(smallID), wing ? small() : "");
}

function tiles(s) {
  const r = s.rendezvous, l = s.relay, d = s.discv5, p = s.pubsub;
  tile("t-registrations", r, () => format.count(r.registrations + r.waku_registrations),
    () => "in " + plainNamespaces(r.namespaces), "t-namespaces");
  tile("t-requests", r, () => format.rate(["register", "discover", "unregister"].reduce((n, k) => n + (latest(perSecond(k)) || 0), 0)));
  tile("t-waiting", l, () => format.count(l.waiting), () => format.plural(l.pairs, "pair") + " met", "t-pairs");
  tile("t-relay", l, () => format.byteRate(latest(perSecond("relayed_bytes"))), () => format.plural(l.relays, "pair") + " relayed", "t-relays");
  tile("t-nodes", d, () => format.count(d.nodes), () => format.count(d.alive) + " answer", "t-sessions");
  tile("t-gossip", p, () => format.count(p.peers), () => "in " + format.plural(p.topics.length, "topic"), "t-topics");
}
const plainNamespaces = (n) => format.plural(n, "namespace");

function head(s) {
  const n = s.node;
  document.title = "muster " + format.id(n.peer);
  copyable($("peer"), n.peer, format.id(n.peer));
  put($("version"), n.version);
  put($("uptime"), "up " + format.duration(n.uptime_seconds));
  $("uptime").title = "since " + new Date(n.started).toLocaleString();
  put($("process"), [format.plural(n.conns, "connection"), format.bytes(n.memory_bytes) + " of memory",
    format.plural(n.goroutines, "goroutine")].join(" · "));
}

// ready says which part is not ready, where the eye falls first. In its first
// moments a point has not asked its parts yet.
function ready(r) {
  const failing = Object.entries(r.failing || {}), bad = failing.length > 0;
  document.body.classList.toggle("unready", bad);
  put($("state"), bad ? "not ready" : "live");
  $("banner").hidden = !bad;
  if (bad) put($("banner"), "Not ready. " + failing.map(([part, why]) => part + ": " + why).join("; "));
}

function copyable(button, value, text) {
  button.hidden = !value;
  button.dataset.copy = value || "";
  put(button, text);
  button.title = value ? value + " (copy)" : "";
}

document.addEventListener("click", async (e) => {
  const b = e.target.closest("button.copy");
  if (!b || !navigator.clipboard) return;
  try {
    await navigator.clipboard.writeText(b.dataset.copy);
    b.classList.add("done");
    setTimeout(() => b.classList.remove("done"), 1200);
  } catch { /* the browser said no: the text can be selected */ }
});

// node lists what to tell others about this point; it is written again only
// when it changed.
let nodeWas = "";
function node(s) {
  const n = s.node;
  const lines = [
    ["Peer ID", n.peer && [n.peer], true],
    ["Addresses", n.addrs, true],
    ["rdv server", n.url && [n.url], true],
    ["Node record", n.enr && [n.enr], true],
    ["Started", [new Date(n.started).toLocaleString()]],
    ["Store", n.store && [n.store]],
    ["Open to anybody", n.open],
    ["Closed", n.closed],
  ].filter(([, list]) => list?.length);
  const is = JSON.stringify(lines);
  if (is === nodeWas) return;
  nodeWas = is;
  $("node").replaceChildren(...lines.flatMap(([name, list, copy]) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    const ul = dd.appendChild(document.createElement("ul"));
    for (const text of list) {
      const li = ul.appendChild(document.createElement("li"));
      if (!copy) { li.textContent = text; continue; }
      const b = li.appendChild(document.createElement("button"));
      b.type = "button";
      b.className = "copy";
      copyable(b, text, text);
    }
    return [dt, dd];
  }));
}

function draw() {
  for (const { spec, chart } of charts) chart.set(history, !!now[spec.wing]);
  nodes.set(now.discv5?.buckets, !!now.discv5);
}

for (const b of document.querySelectorAll("[data-span]")) {
  b.addEventListener("click", () => {
    for (const other of document.querySelectorAll("[data-span]")) other.setAttribute("aria-pressed", other === b);
    for (const { chart } of charts) chart.span(Number(b.dataset.span));
  });
}

listen({
  history: load,
  status(s) {
    now = s;
    append(s);
    watchLimits(s.limits);
    head(s);
    ready(s.readiness);
    hero(s.relay);
    tiles(s);
    showLinks(s.links);
    showPoints(s.points);
    showLimits(s.limits);
    showTopics(s.pubsub?.topics || []);
    node(s);
    draw();
  },
  state(state, last) {
    document.body.className = state;
    if (state !== "live") {
      put($("state"), "stale");
      $("banner").hidden = false;
      put($("banner"), last
        ? "Nothing heard from the point since " + format.clock(last / 1000) + ". What is shown is old. Trying again."
        : "The point does not answer. Trying again.");
    }
  },
});
