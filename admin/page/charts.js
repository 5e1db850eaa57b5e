// The charts. Colours are read from the style sheet when a chart is drawn, so
// that a change between light and dark needs no more than a redraw.

import * as format from "./format.js";

const colours = { 1: "--direct", 2: "--relayed", 3: "--third" };
const dashes = { 1: [], 2: [6, 4], 3: [2, 3] };
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const alpha = (hex, a) => hex + Math.round(a * 255).toString(16).padStart(2, "0");

// A figure with a caption, a legend that shows the latest numbers or those
// under the cursor, and a place for the plot.
function figure(grid, spec) {
  const fig = document.createElement("figure");
  fig.className = "chart";
  fig.id = "chart-" + spec.id;
  fig.dataset.off = "off in this point";
  const cap = fig.appendChild(document.createElement("figcaption"));
  const h = cap.appendChild(document.createElement("h3"));
  h.textContent = spec.title;
  const unit = cap.appendChild(document.createElement("span"));
  unit.className = "unit";
  unit.textContent = spec.unit;
  const legend = cap.appendChild(document.createElement("div"));
  legend.className = "legend";
  const values = spec.series.map((s) => {
    const item = legend.appendChild(document.createElement("span"));
    item.className = "c" + s.colour;
    item.appendChild(document.createElement("i"));
    item.append(s.label + " ");
    return item.appendChild(document.createElement("b"));
  });
  const plot = fig.appendChild(document.createElement("div"));
  plot.className = "plot";
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", spec.title);
  grid.append(fig);
  return { fig, plot, values };
}

// Steps of axes that count: there is no half registration.
const steps = [1, 2, 5].flatMap((n) => Array.from({ length: 12 }, (_, i) => n * 10 ** i)).sort((a, b) => a - b);

const axis = (more) => ({
  stroke: () => css("--dim"),
  grid: { stroke: () => css("--grid"), width: 1 },
  ticks: { show: false },
  font: "11px system-ui, sans-serif",
  ...more,
});

function fit(u, plot) {
  new ResizeObserver(() => {
    if (plot.clientWidth) u.setSize({ width: plot.clientWidth, height: plot.clientHeight });
  }).observe(plot);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => u.redraw(false, true));
}

const least = 30; // seconds: a page opened just now shows no empty past

// cut says whether a time's label would not fit at the right end.
const cut = (u, t) => u.valToPos(t, "x") > u.over.clientWidth - 18;

// lines is a chart of one number or more over time.
export function lines(grid, spec) {
  const { fig, plot, values } = figure(grid, spec);
  let span = 120, rows = [];
  const u = new uPlot({
    width: plot.clientWidth || 300,
    height: plot.clientHeight || 170,
    padding: [8, 6, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "muster" }, y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: true, range: (_, __, max) => [max - Math.min(span, Math.max(max - rows[0]?.[0] || 0, least)), max] },
      y: { range: (_, __, max) => [0, Math.max(spec.least || 4, max * 1.15)] },
    },
    axes: [
      axis({ values: (u, ticks) => ticks.map((t) => (cut(u, t) ? "" : format.clock(t).slice(0, span > 300 ? 5 : 8))), space: span > 300 ? 60 : 80, size: 26 }),
      axis({ values: (_, ticks) => ticks.map(spec.axis || format.count), size: spec.wide || 44, space: 34, incrs: steps }),
    ],
    series: [{}, ...spec.series.map((s) => ({
      label: s.label,
      stroke: () => css(colours[s.colour]),
      fill: s.fill ? () => alpha(css(colours[s.colour]), 0.14) : undefined,
      width: 2,
      dash: dashes[s.colour],
      points: { show: false },
    }))],
    hooks: { setCursor: [(u) => show(u.cursor.idx)] },
  }, [[], ...spec.series.map(() => [])], plot);
  fit(u, plot);

  const show = (at) => {
    if (at == null || at >= rows.length) at = rows.length - 1;
    spec.series.forEach((s, i) => { values[i].textContent = (spec.text || format.count)(rows[at]?.[i + 1]); });
  };
  return {
    id: spec.id,
    span(seconds) { span = seconds; u.setData(u.data); },
    set(history, on) {
      fig.classList.toggle("off", !on);
      rows = spec.rows(history);
      u.setData([0, ...spec.series.map((_, i) => i + 1)].map((k) => rows.map((r) => r[k])));
      if (u.cursor.idx == null) show(null);
      const now = rows[rows.length - 1] || [];
      plot.setAttribute("aria-label", spec.title + ": " +
        spec.series.map((s, i) => s.label + " " + (spec.text || format.count)(now[i + 1])).join(", "));
    },
  };
}

// bars is the table of nodes by distance.
export function bars(grid, spec) {
  const { fig, plot, values } = figure(grid, spec);
  let data = [[], [], []];
  const paths = uPlot.paths.bars({ size: [0.72, 36], radius: 0.2 });
  const series = (s) => ({
    label: s.label,
    paths,
    stroke: () => css(colours[s.colour]),
    fill: () => (s.fill ? css(colours[s.colour]) : alpha(css(colours[s.colour]), 0.25)),
    width: 1,
    points: { show: false },
  });
  const u = new uPlot({
    width: plot.clientWidth || 300,
    height: plot.clientHeight || 170,
    padding: [8, 6, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: {
      x: { time: false, range: (_, min, max) => (max == null ? [240, 257] : [Math.min(min, 245) - 0.8, Math.max(max, 256) + 0.8]) },
      y: { range: (_, __, max) => [0, Math.max(8, max * 1.1)] },
    },
    axes: [
      axis({ values: (_, ticks) => ticks.map((t) => (Number.isInteger(t) ? t : "")), grid: { show: false }, size: 26, incrs: [1, 2, 4, 8, 16, 32] }),
      axis({ size: 34, space: 34, incrs: steps }),
    ],
    series: [{}, ...spec.series.map(series)],
    hooks: { setCursor: [(u) => show(u.cursor.idx)] },
  }, data, plot);
  fit(u, plot);

  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const show = (at) => {
    spec.series.forEach((s, i) => {
      const col = data[i + 1];
      values[i].textContent = format.count(at == null ? sum(col) : col[at]) + (at == null || i ? "" : " at " + data[0][at]);
    });
  };
  return {
    id: spec.id,
    set(buckets, on) {
      fig.classList.toggle("off", !on);
      const list = [...(buckets || [])].sort((a, b) => a.distance - b.distance);
      data = [list.map((b) => b.distance), list.map((b) => b.nodes), list.map((b) => b.alive)];
      u.setData(data);
      if (u.cursor.idx == null) show(null);
      plot.setAttribute("aria-label", spec.title + ": " + (list.map((b) => b.nodes + " at " + b.distance).join(", ") || "none"));
    },
  };
}
