// A form whose answer takes a while (data-busy says what is being done) shows so, and is not sent twice.

for (const form of document.querySelectorAll("form[data-busy]")) {
  form.addEventListener("submit", () => {
    const note = form.querySelector(".busy");
    note.querySelector(".busy-text").textContent = form.dataset.busy;
    note.hidden = false;
    for (const button of form.querySelectorAll("button")) button.disabled = true;
  });
}
addEventListener("pageshow", (event) => event.persisted && location.reload()); // gone back to: not busy any more
