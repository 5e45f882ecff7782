// Pages that follow what happens. The event stream (hx-sse) names what changed, and the parts of the page that listen
// for it ask for themselves. As long as something is heard, none of them asks by the clock as well, but once in five
// minutes in which nothing was asked.
(() => {
  const SILENCE_MS = 40_000; // two signs of life missed, see app/live/stream.py
  const LONG_MS = 300_000; // after which a page tells that nothing happened, see app/training/standing.py
  let heardAt = -Infinity;
  let askedAt = 0;

  const hear = () => { heardAt = performance.now(); };
  const lose = () => { heardAt = -Infinity; };

  document.addEventListener("htmx:sse:after:connection", hear);
  document.addEventListener("htmx:sse:after:message", hear);
  document.addEventListener("htmx:sse:error", lose);
  document.addEventListener("htmx:sse:close", lose);
  document.addEventListener("htmx:before:request", (event) => {
    const { sourceElement, sourceEvent } = event.detail.ctx;
    const now = performance.now();
    const isHeard = now - heardAt < SILENCE_MS;
    const asksForEvents = sourceElement.hasAttribute("hx-sse:connect");
    if (sourceEvent?.type === "every" && isHeard && (asksForEvents || now - askedAt < LONG_MS)) event.preventDefault();
    else if (!asksForEvents) askedAt = now;
  });
})();
