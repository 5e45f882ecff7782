// Changing a ranking that was given: the strip starts from it.

import { wake } from "./ranking.js";

wake(document.getElementById("judging-panel"));
