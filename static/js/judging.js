// The judging page beyond its forms: keys, one verdict per press, active time, signs of life, and where focus goes.

const IDLE_AFTER_MS = 30_000;
const RENEW_EVERY_MS = 180_000;
const TICK_MS = 250;
const BOUNCE_MS = 150; // nobody means two presses of one key this close together

const unsent = document.getElementById("judging-unsent");
const said = document.getElementById("judging-said");
const panel = () => document.getElementById("judging-panel");
const isOurs = (element) => element instanceof HTMLFormElement && panel()?.contains(element);

let underWay = null; // the form whose answer is awaited
let shown = identity(panel());
let activeMs = 0;
let lastSignAt = performance.now();
let lastTickAt = lastSignAt;
let renewedAt = lastSignAt;
let lastPress = { key: "", at: -Infinity };

// Keys press the button that shows them (some have two), so whatever a key can do a click can do as well.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const key = event.key.toLowerCase();
  const button = [...(panel()?.querySelectorAll("[data-key]") ?? [])].find((each) => each.dataset.key.split(" ").includes(key));
  if (!button) return;
  event.preventDefault();
  const bounced = key === lastPress.key && event.timeStamp - lastPress.at < BOUNCE_MS;
  lastPress = { key, at: event.timeStamp };
  if (event.repeat || bounced || underWay) return;
  const opensSheet = button.hasAttribute("popovertarget");
  if (!opensSheet && panel().querySelector("[popover]:popover-open")) return; // reading, not judging
  button.click();
});

document.addEventListener("click", (event) => {
  if (event.detail > 1 && isOurs(event.target.closest("button")?.form)) event.preventDefault();
}, true);

// One request at a time. What is sent again after a failure carries the same key and is recorded once.
document.addEventListener("submit", (event) => {
  if (!isOurs(event.target)) return;
  if (underWay) {
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  underWay = event.target;
  panel().setAttribute("aria-busy", "true");
  event.submitter?.classList.add("is-pressed");
  measure();
  const measured = event.target.elements.namedItem("active_ms");
  if (measured) measured.value = String(Math.round(activeMs));
}, true);

function answered() {
  underWay = null;
  panel()?.removeAttribute("aria-busy");
  panel()?.querySelectorAll(".is-pressed").forEach((button) => button.classList.remove("is-pressed"));
}

document.addEventListener("htmx:finally:request", answered);
document.addEventListener("htmx:error", () => {
  if (underWay) unsent.hidden = false; // a look for new comparisons that fails is simply repeated
  answered();
});

// An answer of some proxy on the way, in place of ours, must not wipe out what is on the screen.
document.addEventListener("htmx:before:swap", (event) => {
  const { response, hx } = event.detail.ctx;
  if (!response || response.status < 400 || hx?.retarget) return;
  event.preventDefault();
  if (underWay) unsent.hidden = false;
});

document.addEventListener("htmx:after:swap", () => {
  const current = panel();
  if (!current || identity(current) === shown) { // only a notice was shown, or there is still nothing
    document.querySelector("#notice:not(:empty)")?.scrollIntoView({ block: "nearest" });
    return;
  }
  shown = identity(current);
  answered();
  unsent.hidden = true;
  const notice = document.getElementById("notice");
  notice.replaceChildren();
  notice.removeAttribute("class");
  welcome(current);
});

// What the panel shows: a key is drawn afresh each time, so that no two comparisons look alike.
function identity(current) {
  return `${current.dataset.said} ${current.querySelector(".verdicts [name=key]")?.value ?? ""}`;
}

function welcome(current) {
  activeMs = 0;
  lastTickAt = lastSignAt = renewedAt = performance.now();
  const outcome = current.dataset.said;
  const hasComparison = "renewal" in current.dataset;
  if (!outcome && !hasComparison) return; // still waiting
  window.scrollTo({ top: 0, behavior: "instant" });
  document.getElementById("judging-heading").focus({ preventScroll: true });
  if (!outcome) return;
  said.textContent = ""; // so that the same words are read out again
  setTimeout(() => { said.textContent = said.dataset[hasComparison ? outcome : "last"]; }, 50);
}

for (const sign of ["keydown", "pointerdown", "pointermove", "scroll", "wheel", "touchstart"]) {
  document.addEventListener(sign, () => { lastSignAt = performance.now(); }, { passive: true, capture: true });
}

function measure() {
  const now = performance.now();
  const isActive = document.visibilityState === "visible" && now - lastSignAt < IDLE_AFTER_MS;
  if (isActive) activeMs += Math.min(now - lastTickAt, 4 * TICK_MS); // a sleeping computer is not active
  lastTickAt = now;
}

setInterval(() => {
  measure();
  if (lastTickAt - renewedAt > RENEW_EVERY_MS && lastTickAt - lastSignAt < RENEW_EVERY_MS) renew(lastTickAt);
}, TICK_MS);

function renew(now) {
  renewedAt = now;
  const url = panel()?.dataset.renewal;
  if (!url) return;
  const headers = JSON.parse(document.body.getAttribute("hx-headers:inherited"));
  fetch(url, { method: "POST", headers }).catch(() => {}); // the next one will do
}

