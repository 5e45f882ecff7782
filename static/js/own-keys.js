// The page of one's keys: a press on one waits for the next key, and takes it unless it means something else.

import { ACTIONS, choose, chosen, shown } from "./keys.js";

const list = document.getElementById("own-keys");
const status = document.getElementById("keys-said");
const said = JSON.parse(list.dataset.said);
const labels = Object.fromEntries(Object.keys(ACTIONS).map((action) => [action, document.getElementById(`label-${action}`).textContent.trim()]));

let waitsFor = null; // the action whose key comes next

const keyOf = (action) => chosen()[action] ?? ACTIONS[action].key;

function draw() {
  for (const action of Object.keys(ACTIONS)) {
    document.getElementById(`key-${action}`).textContent = action === waitsFor ? "…" : shown(keyOf(action));
  }
}

function say(words, values = {}) {
  status.hidden = false;
  status.textContent = words.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// What a key means already, where it cannot be taken: an action, or `true` for what the page keeps for itself.
function meaningOf(key, action) {
  const other = Object.keys(ACTIONS).find((each) => each !== action && keyOf(each) === key);
  if (other) return other;
  const sideways = ["first", "second"].includes(action) && ["arrowleft", "arrowright"].includes(key);
  const isPlain = [...key].length === 1 && key.trim() && !/[1-9=+-]/.test(key);
  return key === ACTIONS[action].key || sideways || isPlain ? null : true;
}

list.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  waitsFor = button.dataset.action;
  draw();
  say(said.press, { action: labels[waitsFor] });
});

document.addEventListener("keydown", (event) => {
  if (!waitsFor || event.isComposing || event.ctrlKey || event.altKey || event.metaKey || ["Shift", "Tab"].includes(event.key)) return;
  event.preventDefault();
  const action = waitsFor;
  const key = event.key.toLowerCase();
  if (key === "escape") {
    waitsFor = null;
    say(said.kept);
    return draw();
  }
  const meaning = meaningOf(key, action);
  if (meaning) return say(meaning === true ? said.fixed : said.taken, { key: shown(key), action: labels[meaning] });
  choose({ ...chosen(), [action]: key });
  waitsFor = null;
  say(said.set, { action: labels[action], key: shown(key) });
  draw();
}, true);

document.getElementById("keys-reset").addEventListener("click", () => {
  waitsFor = null;
  choose({});
  say(said.reset);
  draw();
});

draw();
for (const button of document.querySelectorAll("button.scripted")) button.disabled = false; // a press before this would be lost
