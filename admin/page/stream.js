// The event stream, and whether what is shown is still true.

const staleAfter = 3500; // milliseconds: three events are missing
const retryAfter = 3000; // when the browser itself does not try again

// listen calls on.history and on.status with what the point sends, and
// on.state with "live" or "stale" and the time of the last event.
export function listen(on) {
  let source, last = 0, state = "";

  const heard = () => {
    last = Date.now();
    set("live");
  };
  const set = (to) => {
    if (to === state && to === "live") return;
    state = to;
    on.state(to, last);
  };
  const open = () => {
    source = new EventSource("api/events");
    source.addEventListener("history", (e) => { heard(); on.history(JSON.parse(e.data)); });
    source.addEventListener("status", (e) => { heard(); on.status(JSON.parse(e.data)); });
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
      source.close();
      setTimeout(open, retryAfter);
    };
  };
  const opened = Date.now();
  setInterval(() => {
    if (Date.now() - (last || opened) > staleAfter) set("stale");
  }, 500);
  open();
}
