// Programs that a test starts, and ends whatever happens.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const children = new Set();

// start runs a program; its first line on stdout is awaited by first.
export function start(program, args, options = {}) {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", options.stderr || "inherit"], env: { ...process.env, ...options.env } });
  children.add(child);
  const ended = new Promise((ok) => child.once("exit", (code) => { children.delete(child); ok(code); }));
  const first = new Promise((ok, no) => {
    createInterface({ input: child.stdout }).once("line", ok);
    child.once("error", no);
    child.once("exit", (code) => no(new Error(`${program} ${args[0] || ""} ended with ${code} and had said nothing`)));
  });
  first.catch(() => {});
  child.stdin.on("error", () => {}); // it has ended
  return {
    child, first, ended,
    say: (s) => child.stdin.write(s + "\n"),
    stop: () => { child.kill("SIGINT"); return ended; },
  };
}

// endAll ends what tests left.
export function endAll() {
  for (const c of children) c.kill("SIGKILL");
}
