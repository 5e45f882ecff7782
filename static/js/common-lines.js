// A button that puts the lines it carries into a field, below those that are there; what is there already stays once.

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-into]");
  if (!button) return;
  const field = document.getElementById(button.dataset.into);
  const linesOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
  const named = (line) => line.split(":")[0].trim();
  const there = linesOf(field.value);
  const names = there.map(named);
  field.value = [...there, ...linesOf(button.dataset.lines).filter((line) => !names.includes(named(line)))].join("\n");
  field.focus();
});
for (const button of document.querySelectorAll("[data-into]")) button.disabled = false; // a press before this would be lost
