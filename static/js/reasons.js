// Reasons at hand are put into the rationale, each on a line of its own, and taken out again.

export function toggle(button) {
  const field = document.getElementById("rationale");
  const lines = field.value.split("\n").filter((line) => line.trim());
  const at = lines.indexOf(button.textContent);
  if (at < 0) lines.push(button.textContent);
  else lines.splice(at, 1);
  field.value = lines.join("\n");
  field.dispatchEvent(new Event("input", { bubbles: true }));
  show();
}

// Which of them the rationale holds already, a draft or an earlier judgment being there.
export function show() {
  const lines = document.getElementById("rationale")?.value.split("\n") ?? [];
  for (const button of document.querySelectorAll("[data-reason]")) {
    button.setAttribute("aria-pressed", String(lines.includes(button.textContent)));
  }
}
