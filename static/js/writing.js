// Writing a completion: the change to what one started from, as one writes; a draft that survives a reload, on this
// device alone; keys; Ctrl+Enter saves, and what cannot be sent stays where it is.

import { RECORDED, outcomeOf } from "./outbox.js";

const SHOWN_AFTER_MS = 150;
const SAID_AFTER_MS = 1_200; // read out when one pauses, not at each key
const SLOW_MS = 400;

const writing = document.querySelector("[data-writing]");
const form = writing.closest("form");
const field = form.elements.namedItem("text");
const part = (name) => writing.querySelector(`[data-${name}]`);
const says = writing.dataset;

// --- The draft

const name = `palate-draft-${document.body.dataset.user}-${says.draft}`;

// Without a place to keep it (a private window, say) there is no draft; everything else works.
function stored(work) {
  try {
    return work(localStorage);
  } catch {
    return null;
  }
}

const forgetDraft = () => stored((place) => place.removeItem(name));

function keepDraft() {
  if (field.value === field.defaultValue) forgetDraft();
  else stored((place) => place.setItem(name, field.value));
}

// The page is shown once this has run, where the browser knows how to wait for it; where not, what was typed before that
// is kept below the draft.
const begun = stored((place) => place.getItem(name));
const early = [field.defaultValue, begun].includes(field.value) ? "" : field.value;
if (begun !== null && begun.trim() !== field.defaultValue.trim()) {
  field.value = early ? `${begun}\n${early}` : begun;
  part("restored").hidden = false;
} else if (!early) {
  forgetDraft();
}

part("anew").addEventListener("click", () => {
  field.value = field.defaultValue;
  part("restored").hidden = true;
  forgetDraft();
  show();
  field.focus();
});

// --- The change

const original = part("original")?.textContent ?? null;
if (original !== null) part("original-shown").open = false;
const segmenter = "Segmenter" in Intl ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;

function pieces(text) {
  if (segmenter) return [...segmenter.segment(text)].map((each) => each.segment);
  return text.match(/[\p{L}\p{N}]+|\s+|[^\s\p{L}\p{N}]/gu) ?? [];
}

const isBlank = (piece) => !piece.trim();
const words = (list) => list.filter((piece) => /[\p{L}\p{N}]/u.test(piece)).length;

// Stretches [kept | removed and added]; white space between two changes belongs to both.
function changes(parts) {
  const stretches = [];
  let removed = [];
  let added = [];
  const flush = () => {
    if (removed.length || added.length) stretches.push({ removed, added });
    [removed, added] = [[], []];
  };
  for (const [at, { value, removed: isRemoved, added: isAdded }] of parts.entries()) {
    if (isRemoved) removed.push(...value);
    else if (isAdded) added.push(...value);
    else if ((removed.length || added.length) && value.every(isBlank) && at + 1 < parts.length && !value.join("").includes("\n")) {
      removed.push(...value);
      added.push(...value);
    } else {
      flush();
      stretches.push({ kept: value.join("") });
    }
  }
  flush();
  return stretches;
}

function marked(tag, word, list) {
  const element = document.createElement(tag);
  const aside = (text) => Object.assign(document.createElement("span"), { className: "visually-hidden", textContent: text });
  element.append(aside(` ${word} `), list.join(""), aside(` (${says.end}) `));
  return element;
}

let saidTimer = null;

function say(text) {
  clearTimeout(saidTimer);
  saidTimer = setTimeout(() => { part("said").textContent = text; }, SAID_AFTER_MS);
}

async function show() {
  if (original === null) return;
  await import(says.library);
  const shown = part("change");
  const parts = window.Diff.diffArrays(pieces(original), pieces(field.value), { timeout: SLOW_MS });
  shown.replaceChildren();
  if (!parts) return say(says.apart);
  const stretches = changes(parts);
  if (stretches.every((stretch) => "kept" in stretch)) return say(says.same);
  for (const { kept, removed, added } of stretches) {
    if (kept !== undefined) shown.append(kept);
    else {
      if (removed.length) shown.append(marked("del", says.removed, removed));
      if (added.length) shown.append(marked("ins", says.added, added));
    }
  }
  const count = (side) => words(stretches.flatMap((stretch) => stretch[side] ?? []));
  say(says.changed.replace("{removed}", count("removed")).replace("{added}", count("added")));
}

let shownTimer = null;
field.addEventListener("input", () => {
  keepDraft();
  clearTimeout(shownTimer);
  shownTimer = setTimeout(show, SHOWN_AFTER_MS);
});
show();
field.focus();
field.setSelectionRange(field.value.length, field.value.length);

// --- Guidelines: open for who is new here, and where the screen is wide as they were left on this device; there they
// stand beside the prompt.

const guidance = document.querySelector(".guidance");
const guidanceHere = `palate-guidelines ${document.body.dataset.user}`;
const left = stored((place) => place.getItem(guidanceHere));
if (guidance) {
  if (matchMedia("(min-width: 72rem)").matches) guidance.open ||= left === "beside";
  guidance.querySelector("summary").addEventListener("click", () => {
    stored((place) => place.setItem(guidanceHere, guidance.open ? "sheet" : "beside")); // as it is before the click
  });
}

// --- Keys: those of the judging page, as far as there is a button for them, wherever one is not typing. Escape leaves the
// field for them, E leads back into it.

const main = document.getElementById("main");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
  if (document.querySelector("[popover]:popover-open") && event.key !== "?") return;
  if (event.target === field && event.key === "Escape") return main.focus({ preventScroll: true });
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const key = event.key.toLowerCase();
  const pressed = main.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (!pressed && key !== "e") return;
  event.preventDefault();
  if (pressed) pressed.click();
  else field.focus();
});

async function putKeys() {
  if (stored((place) => place.getItem(`palate-keys ${document.body.dataset.user}`))) (await import("./keys.js")).apply(main);
}

putKeys();

// --- Saving

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit(form.querySelector("button.primary"));
});

// Sent by script, so that a page of the browser's own does not take the place of what was written. What the server
// has to say about it is shown by sending it once more as any form; its key makes that harmless.
let underWay = false;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (underWay) return;
  underWay = true;
  form.setAttribute("aria-busy", "true");
  part("unsent").hidden = true;
  try {
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch(form.action, { method: "POST", body, headers: { "HX-Request": "true" }, signal: AbortSignal.timeout(20_000) });
    const to = answer.headers.get("HX-Redirect");
    if (outcomeOf(answer.status) === RECORDED && to && !to.includes("/sign-in")) {
      forgetDraft();
      location.assign(to);
      return;
    }
    if (answer.status < 500) return form.submit();
    part("unsent").hidden = false;
  } catch {
    part("unsent").hidden = false;
  }
  underWay = false;
  form.removeAttribute("aria-busy");
});

// --- Signs of life, and the time with the page in view and the person active

const RENEW_EVERY_MS = 180_000;
const IDLE_AFTER_MS = 30_000;
const TICK_MS = 250;
const measured = form.elements.namedItem("active_ms");
let activeMs = 0;
let lastTickAt = performance.now();
let lastSignAt = lastTickAt;
let renewedAt = lastTickAt;

if (form.dataset.renewal) {
  for (const sign of ["keydown", "pointerdown", "pointermove", "scroll", "wheel", "touchstart"]) {
    document.addEventListener(sign, () => { lastSignAt = performance.now(); }, { passive: true, capture: true });
  }
  setInterval(() => {
    const now = performance.now();
    if (document.visibilityState === "visible" && now - lastSignAt < IDLE_AFTER_MS) activeMs += Math.min(now - lastTickAt, 4 * TICK_MS);
    lastTickAt = now;
    measured.value = String(Math.round(activeMs));
    if (now - renewedAt < RENEW_EVERY_MS || now - lastSignAt > RENEW_EVERY_MS) return;
    renewedAt = now;
    const headers = JSON.parse(document.body.getAttribute("hx-headers:inherited"));
    fetch(form.dataset.renewal, { method: "POST", headers }).catch(() => {}); // the next one will do
  }, TICK_MS);
}
