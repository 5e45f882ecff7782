// Pages that follow what happens. The event stream (hx-sse) names what changed, and the parts of the page that listen
// for it ask for themselves. As long as something is heard, none of them asks by the clock as well, but once in five
// minutes in which nothing was asked. Where nothing is answered any more, the page says so.
(() => {
  const SILENCE_MS = 40_000; // two signs of life missed, see app/live/stream.py
  const LONG_MS = 300_000; // after which a page tells that nothing happened, see app/training/standing.py
  const FAILING_MS = 8_000; // a restart takes less
  const UNANSWERED = document.currentScript.dataset.unanswered;
  let heardAt = -Infinity;
  let askedAt = 0;
  let failingSince = null;
  let notice = null;

  function answered() {
    failingSince = null;
    notice?.replaceChildren();
  }
  const hear = () => { heardAt = performance.now(); };
  const fail = () => { failingSince ??= performance.now(); };
  const lose = () => { heardAt = -Infinity; fail(); };

  document.addEventListener("htmx:sse:after:connection", () => { hear(); answered(); });
  document.addEventListener("htmx:sse:after:message", hear);
  document.addEventListener("htmx:sse:error", lose);
  document.addEventListener("htmx:sse:close", lose);
  document.addEventListener("htmx:error", fail);
  document.addEventListener("htmx:after:request", answered);
  document.addEventListener("htmx:before:request", (event) => {
    const { sourceElement, sourceEvent } = event.detail.ctx;
    const now = performance.now();
    const isHeard = now - heardAt < SILENCE_MS;
    const asksForEvents = sourceElement.hasAttribute("hx-sse:connect");
    if (sourceEvent?.type === "every" && isHeard && (asksForEvents || now - askedAt < LONG_MS)) event.preventDefault();
    else if (!asksForEvents) askedAt = now;
  });

  setInterval(() => {
    if (failingSince === null || performance.now() - failingSince < FAILING_MS || notice?.textContent) return;
    if (!notice) {
      notice = document.createElement("p");
      notice.id = "unanswered";
      notice.setAttribute("role", "status");
      document.querySelector("main").prepend(notice);
    }
    notice.textContent = UNANSWERED;
  }, 1000);
})();
