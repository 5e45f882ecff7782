// A button on each block of code that copies it. Its label is painted by the style sheet, so that no word of ours stands
// among those of the text: differences are looked for in these.

const SAID_MS = 2000;

export function offer({ copy, copied, say }) {
  for (const block of document.querySelectorAll(".prose pre")) {
    if (block.previousElementSibling?.matches(".copies")) continue;
    const place = document.createElement("div"); // before the block, which must not be moved: marks in it would go
    place.className = "copies";
    place.append(copier(block, { copy, copied, say }));
    block.before(place);
    if (block.scrollWidth > block.clientWidth) block.tabIndex = 0; // not every browser lets keys scroll it otherwise
  }
}

function copier(block, { copy, copied, say }) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", copy);
  button.addEventListener("click", async () => {
    if (!(await put(block.textContent))) return;
    button.setAttribute("aria-label", copied);
    say(copied);
    setTimeout(() => button.setAttribute("aria-label", copy), SAID_MS);
  });
  return button;
}

// navigator.clipboard exists over HTTPS and on localhost alone; the older way works on a plain address too.
async function put(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}
