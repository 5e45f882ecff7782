// Buttons that copy a field, e.g. <button data-copies="address" data-done="Copied" hidden>. Without script the
// field itself can be selected; with it the button appears, and the field is selected when it is entered.

for (const button of document.querySelectorAll("[data-copies]")) {
  const field = document.getElementById(button.dataset.copies);
  const label = button.textContent;
  button.hidden = false;
  field.addEventListener("focus", () => field.select());
  if (document.activeElement === field) field.select();
  button.addEventListener("click", async () => {
    field.select();
    // navigator.clipboard exists over HTTPS and on localhost alone; the older way works on a plain address too.
    const copied = navigator.clipboard
      ? await navigator.clipboard.writeText(field.value).then(() => true, () => false)
      : document.execCommand("copy");
    if (!copied) return;
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}
