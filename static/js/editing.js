// Changing what was judged: a ranking's strip starts from it, reasons at hand show which of them were given, and what was
// marked is listed.

import { wake } from "./ranking.js";
import { show, toggle } from "./reasons.js";

const panel = document.getElementById("judging-panel");

wake(panel);
show();
if (panel.querySelector("[data-spans]")) import("./marking.js").then((marking) => marking.show(panel));
document.addEventListener("click", (event) => {
  if (event.target.matches("[data-reason]")) toggle(event.target);
  if (event.target.closest("[data-mark]")) import("./marking.js").then((marking) => marking.toggle(panel));
});
for (const button of document.querySelectorAll("[data-mark]")) button.disabled = false; // a press before this would be lost
