// The Try it page with replies as they are written. Without this the same form answers once they are whole. The
// conversation stands in the form's hidden field and nowhere else.

const form = document.getElementById("try");
const talk = document.getElementById("talk");
const words = document.getElementById("reply-route")?.dataset;
const said = document.getElementById("trying-said");
let underWay = null; // aborts the replies that are being written

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!underWay) ask();
});
form?.elements.prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (form.reportValidity()) form.requestSubmit();
});
document.getElementById("stop")?.addEventListener("click", () => underWay?.abort());

// Code in replies can be copied, as where one judges.
async function offerCopies() {
  if (!talk?.querySelector(".prose pre")) return;
  const { copy, copied } = words;
  (await import("./copy-code.js")).offer({ copy, copied, say: (message) => { said.textContent = message; } });
}

offerCopies();

async function ask() {
  const asked = new FormData(form);
  const prompt = asked.get("prompt").trim();
  if (!prompt) return;
  const sides = ["left", "right"].map((name) => form.elements[name]).filter((select) => select.value);
  const turn = shownTurn(prompt, sides);
  begin();
  const replies = await Promise.all(
    sides.map((select, place) => {
      const fields = new URLSearchParams([...asked].filter(([name]) => !["left", "right"].includes(name)));
      fields.set("place", place);
      return written(words.route.replace("/0/", `/${select.value}/`), fields, turn.querySelectorAll(".reply")[place]);
    }),
  );
  keep(prompt, replies);
  end(replies.every((reply) => reply.error) ? prompt : "");
}

function shownTurn(prompt, sides) {
  const turn = document.getElementById("turn").content.firstElementChild.cloneNode(true);
  const blank = turn.querySelector(".reply");
  turn.querySelector(".asked .verbatim").textContent = prompt;
  blank.replaceWith(
    ...sides.map((select) => {
      const reply = blank.cloneNode(true);
      reply.querySelector("h3").textContent = nameOf(select);
      reply.querySelector(".prose").classList.add("is-writing");
      return reply;
    }),
  );
  talk.append(turn);
  turn.scrollIntoView({ block: "nearest" });
  return turn;
}

const nameOf = (select) => select.selectedOptions[0].textContent.trim().split(" ")[0];

async function written(address, fields, shown) {
  const reply = { name: shown.querySelector("h3").textContent, text: "", error: "", ended: "" };
  const prose = shown.querySelector(".prose");
  try {
    const answer = await fetch(address, { method: "POST", body: fields, signal: underWay.signal });
    const streams = answer.headers.get("content-type")?.startsWith("text/event-stream");
    if (!streams) reply.error = answer.redirected || answer.status === 401 ? words.gone : words.lost;
    else for await (const piece of piecesIn(answer.body)) take(piece, reply, prose);
    if (!reply.ended && !reply.error) reply.error = words.lost;
  } catch (error) {
    reply.error = error.name === "AbortError" ? words.stopped : words.lost;
  }
  prose.classList.remove("is-writing");
  if (reply.error) showError(shown, reply.error);
  shown.querySelector(".cut").hidden = reply.ended !== "length";
  return reply;
}

function take(piece, reply, prose) {
  if (piece.note) prose.textContent = piece.note;
  if (piece.error) reply.error = piece.error;
  if (piece.ended !== undefined) {
    reply.ended = piece.ended;
    reply.text = piece.text;
    prose.innerHTML = piece.html; // rendered and made harmless by the server, as on every page
  } else if (piece.text) {
    if (!reply.text) prose.textContent = "";
    reply.text += piece.text;
    prose.append(piece.text);
  }
}

async function* piecesIn(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) yield JSON.parse(event.replace(/^data: /, ""));
  }
}

function showError(shown, message) {
  const error = document.createElement("p");
  error.className = "field-error";
  error.setAttribute("role", "alert");
  error.textContent = message;
  shown.querySelector("h3").after(error);
}

// What the next message goes with, and what a campaign would take.
function keep(prompt, replies) {
  const hidden = form.elements.conversation;
  const before = JSON.parse(hidden.value || "[]");
  const system = form.elements.system.value.trim();
  hidden.value = JSON.stringify([...before, { prompt, replies }]);
  const answered = before.filter((turn) => turn.replies[0] && !turn.replies[0].error);
  const messages = answered.flatMap((turn) => [
    { role: "user", content: turn.prompt },
    { role: "assistant", content: turn.replies[0].text },
  ]);
  const box = document.querySelector("#keep form");
  if (!box) return;
  box.elements.conversation.value = JSON.stringify([
    ...(system ? [{ role: "system", content: system }] : []),
    ...messages,
    { role: "user", content: prompt },
  ]);
  document.getElementById("keep").hidden = false;
}

function begin() {
  underWay = new AbortController();
  form.elements.prompt.value = "";
  document.getElementById("send").disabled = true;
  document.getElementById("stop").hidden = false;
  said.textContent = words.writing;
}

function end(unsent) {
  underWay = null;
  if (!form.elements.prompt.value) form.elements.prompt.value = unsent;
  document.getElementById("send").disabled = false;
  document.getElementById("stop").hidden = true;
  document.getElementById("over").hidden = false;
  said.textContent = "";
  offerCopies();
  form.elements.prompt.focus();
}
