// Reading aids: text size, long completions folded at one height, earlier turns put away, guidelines beside what is
// judged, code that can be copied.
// Loaded in the head so that all of it stands before anything is painted. Without it everything is shown whole.

const SIZES = ["normal", "large", "largest"];
const SIZE_HERE = "palate-text-size";
const FOLDED_SCREENS = 0.5; // a folded completion takes this much of the window, and at least
const FOLDED_LEAST_PX = 320;
const WORTH_FOLDING = 1.3; // times that height
const TURNS_SHOWN = 3;

const words = document.getElementById("reading");
const panel = () => document.getElementById("judging-panel");
let isUnfolded = false; // stays for what follows, until the next press

function button(label, key = "") {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "quiet";
  if (key) made.dataset.key = key;
  made.append(label);
  return made;
}

function keycap(key) {
  const cap = document.createElement("kbd");
  cap.textContent = key;
  return cap;
}

function say(message) {
  words.textContent = "";
  setTimeout(() => { words.textContent = message; }, 50); // so that the same words are read out again
}

// A device may keep nothing for us; then what was chosen lasts for the page.
function remembered(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

function remember(name, value) {
  try { localStorage.setItem(name, value); } catch { /* as above */ }
}

function setSize(name) {
  document.documentElement.dataset.textSize = name;
  remember(SIZE_HERE, name);
}

function sizesControl() {
  const group = document.createElement("span");
  group.className = "sizes";
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", words.dataset.sizes);
  for (const [step, key, label] of [[-1, "-", words.dataset.smaller], [1, "+", words.dataset.larger]]) {
    const made = button("", key);
    const [letter, name] = [document.createElement("span"), document.createElement("span")];
    letter.textContent = "A";
    letter.ariaHidden = "true";
    name.textContent = label;
    name.className = "visually-hidden";
    made.append(letter, name, keycap(key === "-" ? "−" : key));
    made.addEventListener("click", () => {
      const at = SIZES.indexOf(document.documentElement.dataset.textSize) + step;
      const size = SIZES[Math.min(Math.max(at, 0), SIZES.length - 1)];
      setSize(size);
      fold();
      say(words.dataset[size]);
    });
    group.append(made);
  }
  return group;
}

// All completions of a comparison end at one height, whichever of them is long, and one button unfolds all.
const unfold = button("", "f");
const unfoldRow = document.createElement("p");
unfoldRow.className = "unfold";
unfoldRow.append(unfold);

function fold() {
  const row = panel()?.querySelector(".completions");
  if (!row) return;
  const texts = [...row.querySelectorAll(":scope > .completion > .prose")];
  const height = Math.max(FOLDED_LEAST_PX, FOLDED_SCREENS * innerHeight);
  document.documentElement.style.setProperty("--folded", `${Math.round(height)}px`);
  row.querySelectorAll(".share").forEach((each) => each.remove());
  row.classList.remove("is-folded");
  const heights = texts.map((each) => each.scrollHeight);
  const isLong = heights.some((each) => each > WORTH_FOLDING * height);
  if (!isLong) return unfoldRow.remove();
  row.after(unfoldRow);
  unfold.replaceChildren(isUnfolded ? words.dataset.fold : words.dataset.unfold, " ", keycap("F"));
  unfold.setAttribute("aria-expanded", String(isUnfolded));
  if (isUnfolded) return;
  row.classList.add("is-folded");
  texts.forEach((each, place) => {
    const isCut = heights[place] > height;
    each.classList.toggle("is-cut", isCut);
    if (isCut) each.after(share(height / heights[place]));
  });
}

// How much of it is seen: a fold must not hide which of two is the longer one.
function share(part) {
  const note = document.createElement("p");
  note.className = "share small muted";
  note.textContent = words.dataset.share.replace("{n}", Math.round(100 * part));
  return note;
}

function setUnfolded(whether) {
  isUnfolded = whether;
  fold();
}

unfold.addEventListener("click", () => {
  setUnfolded(!isUnfolded);
  if (!isUnfolded) unfold.scrollIntoView({ block: "nearest" });
});

// Whatever gets the focus must be seen.
document.addEventListener("focusin", (event) => {
  const text = event.target.closest(".is-folded .is-cut");
  if (text && event.target.getBoundingClientRect().bottom > text.getBoundingClientRect().bottom) setUnfolded(true);
});

function putEarlierTurnsAway() {
  const turns = [...(panel()?.querySelectorAll(".prompt > .turn") ?? [])];
  const earlier = turns.slice(0, -TURNS_SHOWN);
  if (earlier.length < 2 || turns[0].previousElementSibling?.matches(".earlier")) return;
  earlier.forEach((each) => { each.hidden = true; });
  const show = button(words.dataset.earlier.replace("{n}", earlier.length));
  show.classList.add("earlier");
  show.addEventListener("click", () => {
    earlier.forEach((each) => { each.hidden = false; });
    show.remove();
    turns[0].tabIndex = -1;
    turns[0].focus({ preventScroll: true });
  });
  turns[0].before(show);
}

async function offerCopies() {
  if (!document.querySelector(".prose pre")) return;
  const { copy, copied } = words.dataset;
  (await import("./copy-code.js")).offer({ copy, copied, say });
}

// Guidelines kept open beside what is judged, where the screen is wide; elsewhere they are the sheet that they come as.
// What the sheet holds is moved, so that there is one of each; an answer that brings new ones is moved as well.
const PINNED_HERE = `palate-guidelines ${document.body.dataset.user}`;
const isWide = matchMedia("(min-width: 72rem)");
const pinned = document.createElement("aside");
pinned.className = "pinned";
pinned.tabIndex = 0; // it may have to be scrolled
pinned.setAttribute("aria-labelledby", "guidelines-title");
const sheet = () => document.getElementById("guidelines");
let isPinned = remembered(PINNED_HERE) === "beside";

function putGuidelines() {
  const main = panel()?.parentElement;
  if (!main?.matches(".judging")) return;
  const beside = isPinned && isWide.matches && sheet() !== null;
  const [from, to] = beside ? [sheet(), pinned] : [pinned, sheet()];
  if (from?.children.length) to?.replaceChildren(...from.childNodes);
  main.classList.toggle("has-pinned", beside);
  if (!beside) pinned.remove();
  else if (!pinned.isConnected) main.append(pinned);
}

function pin(whether) {
  isPinned = whether;
  remember(PINNED_HERE, whether ? "beside" : "sheet");
  if (whether) sheet().hidePopover();
  putGuidelines();
  (whether ? pinned : panel().querySelector("[popovertarget=guidelines]"))?.focus({ preventScroll: true });
  fold();
}

// Their key leads into the column while it stands there, and back.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.matches("[data-pin]")) pin(true);
  else if (button?.matches("[data-unpin]")) pin(false);
  else if (button?.matches("[popovertarget=guidelines]") && pinned.isConnected) {
    event.preventDefault();
    const to = pinned.contains(document.activeElement) ? document.getElementById("judging-heading") : pinned;
    to.focus({ preventScroll: true });
  }
});
isWide.addEventListener("change", putGuidelines);

const sizes = sizesControl();

function arrive() {
  panel()?.querySelector(".desk-tools .tally")?.after(sizes);
  putEarlierTurnsAway();
  putGuidelines();
  fold();
  offerCopies();
}

const size = remembered(SIZE_HERE);
setSize(SIZES.includes(size) ? size : SIZES[0]);
arrive();
document.addEventListener("htmx:after:swap", arrive);
let resizing = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(fold);
});
