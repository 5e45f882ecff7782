// The "Show" button beside a password field. Hidden without script; sent as a password again on submit,
// so that browsers do not remember it among ordinary texts.

for (const wrapper of document.querySelectorAll("[data-reveals]")) {
  const field = document.getElementById(wrapper.dataset.reveals);
  const button = wrapper.querySelector("button");
  const reveal = (shown) => {
    field.type = shown ? "text" : "password";
    button.textContent = shown ? button.dataset.hide : button.dataset.show;
  };
  button.hidden = false;
  button.addEventListener("click", () => reveal(field.type === "password"));
  field.form.addEventListener("submit", () => reveal(false));
}
