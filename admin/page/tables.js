// Tables that change in place: a cell is written only when its text changed,
// so that a selection or a screen reader's place survives the next second.

import * as format from "./format.js";

// table returns a function that shows rows. A column has a label, a text, and
// may have: n for numbers, mono, title, path for a badge, fresh to mark a cell.
export function table(name, columns) {
  const el = document.getElementById(name);
  const none = document.getElementById(name + "-none");
  const total = document.getElementById(name + "-count");
  const head = el.tHead.insertRow();
  for (const c of columns) {
    const th = head.appendChild(document.createElement("th"));
    th.scope = "col";
    th.textContent = c.label;
    if (c.n) th.className = "n";
  }
  const body = el.tBodies[0];
  return (rows) => {
    el.parentElement.hidden = rows.length === 0;
    none.hidden = rows.length > 0;
    put(total, rows.length ? format.count(rows.length) : "");
    while (body.rows.length > rows.length) body.deleteRow(-1);
    while (body.rows.length < rows.length) addRow(body, columns);
    rows.forEach((row, i) => columns.forEach((c, k) => fill(body.rows[i].cells[k], c, row)));
  };
}

function addRow(body, columns) {
  const tr = body.insertRow();
  for (const c of columns) {
    const td = tr.insertCell();
    td.dataset.label = c.label;
    if (c.n) td.classList.add("n");
    if (c.mono) td.classList.add("mono");
    if (c.path) td.appendChild(document.createElement("span"));
  }
}

function fill(td, c, row) {
  const text = c.text(row);
  const at = c.path ? td.firstChild : td;
  put(at, text);
  if (c.path) at.className = "path " + text;
  if (c.title) td.title = c.title(row) || "";
  if (c.fresh) td.classList.toggle("fresh", c.fresh(row));
}

// put writes text into el if it is not there.
export function put(el, text) {
  text = String(text ?? "");
  if (el.textContent !== text) el.textContent = text;
}
