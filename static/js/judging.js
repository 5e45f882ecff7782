// The judging page beyond its forms: keys, one verdict per press, active time, signs of life, where focus goes, and
// verdicts that could not be sent, which wait in the outbox and are sent again by themselves.

import { REFUSED, RECORDED, SIGNED_OUT, UNREACHED, draftOf, forget, keep, outcomeOf, send, waiting } from "./outbox.js";

const IDLE_AFTER_MS = 30_000;
const RENEW_EVERY_MS = 180_000;
const TICK_MS = 250;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 5_000;
const REFUSED_HERE = "palate-refused";
const PATIENCE_MS = 12_000; // then one judges on without what does not come
const BOUNCE_MS = 150; // nobody means two presses of one key this close together

const unsent = document.getElementById("judging-unsent");
const said = document.getElementById("judging-said");
const panel = () => document.getElementById("judging-panel");
const verdictForm = () => document.getElementById("verdict");
const isOurs = (element) => element instanceof HTMLFormElement && panel()?.contains(element);

let underWay = null; // the form whose answer is awaited
let posted = null; // what it sends, as the outbox holds it
let isHeld = false; // something waits to be sent; what is on the screen has its verdict
let coming = 0; // what presses asked for and is on its way; until it is there the next press would mean something else
let retryTimer = null;
let retryMs = FIRST_RETRY_MS;
let shown = identity(panel());
let activeMs = 0;
let lastSignAt = performance.now();
let lastTickAt = lastSignAt;
let renewedAt = lastSignAt;
let lastPress = { key: "", at: -Infinity };

// Keys press the button that shows them (some have two), so whatever a key can do a click can do as well.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (answers(event)) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const key = event.key.toLowerCase();
  if (key.startsWith("arrow") && event.target.closest(".prose")) return; // it scrolls
  if (key === "enter" && event.target.closest("button, a, summary")) return; // what has the focus is pressed
  const button = [...(panel()?.querySelectorAll("[data-key]") ?? [])].find((each) => each.dataset.key.split(" ").includes(key));
  if (!button) return;
  event.preventDefault();
  const bounced = key === lastPress.key && event.timeStamp - lastPress.at < BOUNCE_MS;
  lastPress = { key, at: event.timeStamp };
  if (event.repeat || bounced || underWay || isHeld || coming) return;
  const opensSheet = button.hasAttribute("popovertarget");
  if (!opensSheet && document.querySelector("[popover]:popover-open")) return; // reading, not judging
  button.click();
});

// What is asked beside the verdict: within a scale its digits answer it and lead on to the next; Escape leads back. Where
// criteria stand in the verdict's place, a digit pressed outside answers the first that is open.
function answers(event) {
  const within = event.target.closest(".beside") ?? panel()?.querySelector(".beside[data-leads]");
  if (!within || event.target.matches("textarea") && event.key !== "Escape") return Boolean(within);
  const isInside = within.contains(event.target);
  if (isInside && event.key === "Escape") {
    event.preventDefault();
    document.getElementById("judging-heading").focus({ preventScroll: true });
    return true;
  }
  if (isInside && event.key === "Enter" && event.target.matches("input")) {
    event.preventDefault();
    const record = panel().querySelector("[data-record]:enabled");
    (record ?? document.getElementById("judging-heading")).focus({ preventScroll: true });
    if (record && !event.repeat && !underWay && !isHeld) record.click();
    return true;
  }
  const open = (each) => !each.querySelector("input:checked");
  const group = event.target.matches("input[type=radio]") ? event.target.closest(".marks")
    : !isInside && within.matches("[data-leads]") && [...within.querySelectorAll(".marks:has([data-answer])")].find(open);
  const answer = group && [...group.querySelectorAll("[data-answer]")].find((each) => each.dataset.answer === event.key);
  if (!answer) return false;
  event.preventDefault();
  answer.checked = true;
  answer.dispatchEvent(new Event("change", { bubbles: true }));
  const groups = [...within.querySelectorAll(".marks:has([data-answer]), .by-digits, textarea")];
  const next = groups[groups.findIndex((each) => each === group) + 1];
  (next?.matches(".by-digits, textarea") ? next : next?.querySelector("input:checked, input") ?? document.getElementById("judging-heading")).focus();
  return true;
}

// The words in which two differ, marked on a press, and for every pair that follows until the next press.
let marksDifferences = false;

async function compare({ aloud = false } = {}) {
  const button = panel()?.querySelector("[data-difference]");
  if (!button) return;
  button.setAttribute("aria-pressed", String(marksDifferences));
  const texts = [...panel().querySelectorAll(".completion > .prose")];
  if (!marksDifferences && !aloud) return;
  const { hide, show } = await import("./difference.js");
  hide();
  const { found, none, hidden, difference } = said.dataset;
  const count = marksDifferences ? await show(...texts, difference) : 0;
  if (aloud) said.textContent = !marksDifferences ? hidden : count === null ? none : found.replace("{n}", count);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (event.detail > 1 && isOurs(button?.form)) event.preventDefault();
  if (button?.matches("[data-beside]")) panel().querySelector(".beside :is(input, textarea)")?.focus();
  if (button?.matches("[data-mark]")) toggled(import("./marking.js"), panel());
  if (button?.matches("[data-reason]")) toggled(import("./reasons.js"), button);
  if (!button?.matches("[data-difference]")) return;
  marksDifferences = !marksDifferences;
  compare({ aloud: true });
}, true);

async function toggled(module, what) {
  coming += 1;
  panel().setAttribute("aria-busy", "true");
  const patience = new Promise((resolve) => { setTimeout(resolve, PATIENCE_MS); });
  try {
    await Promise.race([module.then(({ toggle }) => toggle(what)), patience]);
  } finally {
    coming -= 1;
    if (!coming && !underWay) panel()?.removeAttribute("aria-busy");
  }
}

// One request at a time. What is sent again after a failure carries the same key and is recorded once.
document.addEventListener("submit", (event) => {
  if (!isOurs(event.target)) return;
  if (underWay || isHeld || coming) {
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
  posted = deedIn(event.target, event.submitter);
  keep(posted);
}, true);

// What a form sends: a verdict or an undo with its key, or a skip, of which an assignment takes but one.
function deedIn(form, submitter) {
  const fields = [...new FormData(form, submitter)].filter(([name]) => name !== "csrf_token");
  const key = fields.find(([name]) => name === "key")?.[1] ?? form.action;
  return { id: key, user: document.body.dataset.user, url: form.action, fields, at: Date.now() };
}

function answered() {
  underWay = null;
  panel()?.removeAttribute("aria-busy");
  document.querySelectorAll(".is-pressed").forEach((button) => button.classList.remove("is-pressed"));
}

document.addEventListener("htmx:finally:request", answered);
document.addEventListener("htmx:error", () => {
  if (underWay) failed(); // a look for new comparisons that fails is simply repeated
  answered();
});

// An answer of some proxy on the way, in place of ours, must not wipe out what is on the screen.
document.addEventListener("htmx:before:swap", (event) => {
  const { response, hx } = event.detail.ctx;
  if (!response) return;
  const outcome = outcomeOf(response.status);
  if (underWay && [RECORDED, REFUSED].includes(outcome)) forget(posted.id);
  if (underWay && outcome === RECORDED) dropDraft(posted.url);
  if (underWay && response.status === 403) location.reload(); // signed in anew elsewhere: another proof
  if (response.status < 400 || hx?.retarget) return;
  event.preventDefault();
  if (underWay) failed();
});

function failed() {
  unsent.hidden = false;
  isHeld = true;
  sendAgainLater();
}

function sendAgainLater() {
  clearTimeout(retryTimer);
  retryTimer = setTimeout(sendWaiting, retryMs);
  retryMs = Math.min(2 * retryMs, LAST_RETRY_MS);
}

// Send what waits, the oldest first; then look what is at the desk now.
async function sendWaiting() {
  clearTimeout(retryTimer);
  const verdicts = await waiting(document.body.dataset.user);
  isHeld = verdicts.length > 0;
  if (!isHeld || underWay) return;
  unsent.hidden = false;
  for (const verdict of verdicts) {
    const outcome = await send(verdict, headers());
    if (outcome === UNREACHED) return sendAgainLater();
    if (outcome === SIGNED_OUT) return location.reload(); // to the sign-in page, and back with another proof
    if (outcome === REFUSED) sessionStorage.setItem(REFUSED_HERE, "yes");
    if (outcome === RECORDED) dropDraft(verdict.url);
    await forget(verdict.id);
  }
  location.reload();
}

// Said once, after the reload that follows.
if (sessionStorage.getItem(REFUSED_HERE)) {
  sessionStorage.removeItem(REFUSED_HERE);
  document.getElementById("judging-refused").hidden = false;
}

addEventListener("online", () => { if (isHeld) sendWaiting(); });
sendWaiting();

// More than two are ranked by a module of their own, which pairs never load; it starts from where a draft left off.
async function rank() {
  const form = verdictForm();
  if (form && sessionStorage.getItem(draftOf(document.body.dataset.user, form.action))) (await import("./drafts.js")).restore(form);
  if (document.getElementById("rationale")?.value) (await import("./reasons.js")).show();
  if (panel()?.querySelector("[data-spans]")?.value) (await import("./marking.js")).show(panel());
  if (panel()?.querySelector("[data-strip]")) (await import("./ranking.js")).wake(panel());
}

rank();

// Keys of one's own, where somebody chose any.
async function putKeys() {
  if (localStorage.getItem(`palate-keys ${document.body.dataset.user}`)) (await import("./keys.js")).apply(panel());
}

putKeys();

function dropDraft(url) {
  if (/\/(judgment|skip)$/.test(url)) sessionStorage.removeItem(draftOf(document.body.dataset.user, url));
}

for (const change of ["input", "change"]) {
  document.addEventListener(change, async (event) => {
    const form = verdictForm();
    if (form && event.target.form === form) (await import("./drafts.js")).save(form);
  });
}

document.addEventListener("htmx:after:swap", () => {
  const current = panel();
  if (!current || identity(current) === shown) { // only a notice was shown, or there is still nothing
    document.querySelector("#notice:not(:empty)")?.scrollIntoView({ block: "nearest" });
    return;
  }
  shown = identity(current);
  answered();
  putSheetsAway();
  rank();
  putKeys();
  compare();
  unsent.hidden = true;
  const notice = document.getElementById("notice");
  notice.replaceChildren();
  notice.removeAttribute("class");
  welcome(current);
});

function putSheetsAway() {
  for (const sheet of document.querySelectorAll("#judging-sheets [popover]:popover-open")) sheet.hidePopover();
  const reason = document.getElementById("reason");
  if (reason) reason.value = "";
}

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

const headers = () => JSON.parse(document.body.getAttribute("hx-headers:inherited"));

function renew(now) {
  renewedAt = now;
  const url = panel()?.dataset.renewal;
  if (!url) return;
  fetch(url, { method: "POST", headers: headers() }).catch(() => {}); // the next one will do
}

