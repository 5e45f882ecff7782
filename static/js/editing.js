// Changing what was judged: a ranking's strip starts from it, and reasons at hand show which of them were given.

import { wake } from "./ranking.js";
import { show, toggle } from "./reasons.js";

wake(document.getElementById("judging-panel"));
show();
document.addEventListener("click", (event) => {
  if (event.target.matches("[data-reason]")) toggle(event.target);
});
