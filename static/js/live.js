// Pages that follow what happens. The event stream (hx-sse) names what changed, and the parts of the page that listen
// for it ask for themselves. As long as something is heard, none of them asks by the clock as well.
(() => {
  const SILENCE_MS = 40_000; // two signs of life missed, see app/live/stream.py
  let heardAt = -Infinity;

  const hear = () => { heardAt = performance.now(); };
  const lose = () => { heardAt = -Infinity; };

  document.addEventListener("htmx:sse:after:connection", hear);
  document.addEventListener("htmx:sse:after:message", hear);
  document.addEventListener("htmx:sse:error", lose);
  document.addEventListener("htmx:sse:close", lose);
  document.addEventListener("htmx:before:request", (event) => {
    const byTheClock = event.detail.ctx.sourceEvent?.type === "every";
    if (byTheClock && performance.now() - heardAt < SILENCE_MS) event.preventDefault();
  });
})();
