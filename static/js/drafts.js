// What was typed or chosen beside a verdict that is not given yet: kept for this tab, so that a reload takes nothing away.
// Loaded with the first answer that there is to keep, or to give back; a plain pair has none.

import { draftOf } from "./outbox.js";

const NOT_ANSWERS = ["csrf_token", "key", "ui_version", "active_ms"];

export function save(form) {
  if (!form.isConnected) return; // answered meanwhile
  forgetOthers();
  const answers = [...new FormData(form)].filter(([name, value]) => value && !NOT_ANSWERS.includes(name));
  const name = draftOf(document.body.dataset.user, form.action);
  if (answers.some(([field]) => field !== "revision")) sessionStorage.setItem(name, JSON.stringify(answers));
  else sessionStorage.removeItem(name);
}

// Answers to a question that was changed meanwhile are let go: their places may mean something else by now.
export function restore(form) {
  forgetOthers();
  const name = draftOf(document.body.dataset.user, form.action);
  const answers = JSON.parse(sessionStorage.getItem(name) ?? "[]");
  const asked = form.elements.namedItem("revision").value;
  if (answers.find(([field]) => field === "revision")?.[1] !== asked) return sessionStorage.removeItem(name);
  for (const [field, value] of answers) {
    for (const element of [...form.elements].filter((each) => each.name === field && each.type !== "submit")) {
      if (["radio", "checkbox"].includes(element.type)) element.checked ||= element.value === value;
      else element.value = value;
    }
  }
}

// Whoever was signed in here before has left nothing for the next.
function forgetOthers() {
  const own = draftOf(document.body.dataset.user, "");
  const prefix = own.slice(0, own.lastIndexOf(" ") + 1);
  for (const name of Object.keys(sessionStorage)) {
    if (name.startsWith("palate-draft ") && !name.startsWith(prefix)) sessionStorage.removeItem(name);
  }
}
