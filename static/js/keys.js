// Keys that people chose in place of those that the page comes with: kept on this device, by person. Whatever shows or
// answers to the first key shows and answers to theirs. Loaded where somebody chose any.

export const ACTIONS = {
  first: { key: "1", button: '[name=ranking][value="1>2"]' },
  second: { key: "2", button: '[name=ranking][value="2>1"]' },
  equal: { key: "0", button: '[name=ranking][data-key~="0"]' },
  bad: { key: "b", button: "[name=all_bad]" },
  skip: { key: "s", button: "[name=without_reason]" },
  undo: { key: "u", button: '[data-key="u"]' },
  better: { key: "w", button: ".better" },
  difference: { key: "d", button: "[data-difference]" },
  answers: { key: "c", button: "[data-beside]" },
  mark: { key: "e", button: "[data-mark]" },
  fold: { key: "f", button: ".unfold > button" },
  guidelines: { key: "g", button: "[popovertarget=guidelines][data-key], summary[data-key]" },
  keys: { key: "?", button: "[popovertarget=keys]" },
};

const SHOWN = { arrowleft: "←", arrowright: "→" };
export const shown = (key) => SHOWN[key] ?? key.toUpperCase();

const place = () => `palate-keys ${document.body.dataset.user}`;

// { action: key }, of those that differ from what the page comes with.
export function chosen() {
  try {
    const kept = Object.entries(JSON.parse(localStorage.getItem(place())) ?? {});
    return Object.fromEntries(kept.filter(([action, key]) => action in ACTIONS && typeof key === "string"));
  } catch {
    return {};
  }
}

export function choose(keys) {
  const differing = Object.entries(keys).filter(([action, key]) => key !== ACTIONS[action].key);
  if (differing.length) localStorage.setItem(place(), JSON.stringify(Object.fromEntries(differing)));
  else localStorage.removeItem(place());
}

// Put them on a panel and the sheets beside it, as these came from the server.
export function apply(panel) {
  const keys = Object.entries(chosen());
  const buttons = keys.map(([action]) => panel.querySelector(ACTIONS[action].button)); // before any of them changes
  const marks = [...document.querySelectorAll("#judging-sheets kbd")];
  for (const mark of marks) mark.dataset.first ??= mark.textContent;
  keys.forEach(([action, key], at) => {
    const button = buttons[at];
    if (!button) return;
    const { key: first } = ACTIONS[action];
    button.dataset.own = (button.dataset.own ?? button.dataset.key).split(" ").map((each) => (each === first ? key : each)).join(" ");
    const mark = button.querySelector("kbd");
    if (mark) mark.textContent = shown(key);
    for (const each of marks) if (each.dataset.first === shown(first)) each.textContent = shown(key);
  });
  const own = new Set(keys.filter((_, at) => buttons[at]).map(([, key]) => key)); // an arrow still ranks where no pair is
  for (const button of panel.querySelectorAll("[data-key]")) {
    if (button.dataset.own) button.dataset.key = button.dataset.own;
    else button.dataset.key = button.dataset.key.split(" ").filter((each) => !own.has(each)).join(" ");
  }
}
