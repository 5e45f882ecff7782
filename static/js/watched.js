// Which evaluation's samples are shown beside those of before. The newest, until somebody chooses another; that one
// stays while the page follows the run.
(() => {
  let chosen = null; // its number; null: the newest

  function show() {
    const range = document.getElementById("evaluation");
    if (!range) return;
    const newest = Number(range.max);
    const place = Math.min(chosen ?? newest, newest);
    const said = document.querySelectorAll("#evaluation-steps li")[place].textContent;
    range.closest(".evaluation-choice").hidden = newest < 1;
    range.value = place;
    range.setAttribute("aria-valuetext", said);
    document.getElementById("evaluation-said").textContent = said;
    for (const each of document.querySelectorAll("[data-evaluation]")) {
      each.hidden = Number(each.dataset.evaluation) !== place;
      if (each.tagName === "DETAILS") each.open = true; // what is chosen need not be unfolded too
    }
  }

  document.addEventListener("input", (event) => {
    if (event.target.id !== "evaluation") return;
    const place = Number(event.target.value);
    chosen = place === Number(event.target.max) ? null : place;
    show();
  });
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("htmx:after:swap", show);
})();
