// Marking errors in the completions. While it is open each completion is shown as it is stored, character by character, so
// that what is chosen is exactly what is kept. The one truth is the field `spans`, as it is sent: places, code points and
// the words themselves; everything shown is drawn from it. Loaded where a campaign has categories.

const LONGEST_BLOCK = 4_000; // characters; a browser lays out many small blocks much faster than a large one
const LINES_PER_PAGE = 12;
const QUOTED = 80;
const PATIENCE_MS = 10_000; // that long one waits for the texts
const NAMES = { 0x200b: "ZWSP", 0x200e: "LRM", 0x200f: "RLM", 0x061c: "ALM", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM", 0x0d: "CR" };
const UNSEEN = /\r(?!\n)|[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]/g;
const NOWHERE = { start: 0, end: 0 };
const segmenter = "Segmenter" in Intl ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;

// A text and its two ways of counting: browsers count UTF-16 units, what is stored counts code points.
class Text {
  constructor(string) {
    this.string = string;
    this.isPlain = !/[\ud800-\udfff]/.test(string);
    this.blocks = [...blocksOf(string)];
    this.words = new Map();
  }

  points(units) { return this.isPlain ? units : [...this.string.slice(0, units)].length; }

  units(points) {
    if (this.isPlain) return points;
    let at = 0;
    for (let left = points; left > 0 && at < this.string.length; left -= 1) at += this.string.codePointAt(at) > 0xffff ? 2 : 1;
    return at;
  }

  // A place within a character is none: to its beginning, or to its end.
  whole(units, { up = false } = {}) {
    const isWithin = /[\ud800-\udbff]/.test(this.string[units - 1] ?? "") && /[\udc00-\udfff]/.test(this.string[units] ?? "");
    return isWithin ? units + (up ? 1 : -1) : units;
  }

  blockAt(units) {
    let [low, high] = [0, this.blocks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.blocks[middle].start <= units) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  wordsOf(block) {
    if (!this.words.has(block)) {
      const { start, end } = this.blocks[block];
      const found = segments(this.string.slice(start, end)).map(({ segment, index }) => ({ start: start + index, end: start + index + segment.length }));
      this.words.set(block, found);
    }
    return this.words.get(block);
  }

  after(units) {
    for (let block = this.blockAt(units); block < this.blocks.length; block += 1) {
      const word = this.wordsOf(block).find((each) => each.start >= units);
      if (word) return word;
    }
    return null;
  }

  before(units) {
    for (let block = this.blockAt(Math.max(0, units - 1)); block >= 0; block -= 1) {
      const word = this.wordsOf(block).findLast((each) => each.end <= units);
      if (word) return word;
    }
    return null;
  }

  at(units) {
    return this.wordsOf(this.blockAt(units)).find((each) => each.start <= units && units < each.end) ?? null;
  }
}

// Each line is a block, its line end included, and takes its own direction; a long one is cut at a word.
function* blocksOf(string) {
  for (let start = 0; start < string.length;) {
    const newline = string.indexOf("\n", start);
    let end = newline < 0 ? string.length : newline + 1;
    if (end - start > LONGEST_BLOCK) {
      const space = string.lastIndexOf(" ", start + LONGEST_BLOCK);
      end = space > start ? space + 1 : start + LONGEST_BLOCK;
      if (/[\udc00-\udfff]/.test(string[end] ?? "")) end += 1;
    }
    yield { start, end };
    start = end;
  }
}

function segments(string) {
  if (segmenter) return [...segmenter.segment(string)].filter((each) => each.segment.trim());
  return [...string.matchAll(/[\p{L}\p{N}\p{M}]+|[^\s\p{L}\p{N}]/gu)].map((each) => ({ segment: each[0], index: each.index }));
}

// What a quotation of it shows; nothing in it may reorder what stands beside it.
export function quoted(string) {
  const plain = string.replace(UNSEEN, "·").replace(/\s+/g, " ").trim();
  return plain.length > QUOTED ? `${plain.slice(0, QUOTED - 1)}…` : plain;
}

const filled = (words, values) => words.replace(/\{(\w+)\}/g, (_, name) => values[name]);

function element(tag, className, content = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.append(content);
  return made;
}

class Marking {
  constructor(panel) {
    this.panel = panel;
    this.root = panel.querySelector("#marking");
    this.field = this.root.querySelector("[data-spans]");
    this.marker = this.root.querySelector("[data-marker]");
    this.live = this.root.querySelector("[data-marking-said]");
    this.said = JSON.parse(this.root.dataset.said);
    this.most = Number(this.root.dataset.most);
    this.categories = [...this.marker.querySelectorAll("[data-category]")];
    this.articles = [...panel.querySelectorAll(".completions > .completion")];
    this.spans = read(this.field.value);
    this.texts = null;
    this.chosenIn = new Map(); // what is or was chosen, by place: { anchor, focus }, each a stretch in UTF-16 units
    this.place = null; // where one is
    for (const button of this.marker.querySelectorAll("button, summary")) button.addEventListener("pointerdown", (event) => event.preventDefault()); // the choice stays
    this.marker.addEventListener("click", (event) => this.pressed(event.target.closest("button")));
  }

  get isOpen() { return this.root.isConnected && !this.marker.hidden; }

  nameOf(category) { return this.categories[category - 1]?.dataset.name ?? ""; }

  placeName(place) { return this.articles[place - 1].querySelector("h2").textContent.trim(); }

  say(words, values = {}, { isProblem = false } = {}) {
    this.live.className = isProblem ? "notice warn" : "visually-hidden";
    this.live.textContent = "";
    setTimeout(() => { this.live.textContent = filled(words, values); }, 50); // so that the same words are read out again
  }

  async open() {
    try {
      this.texts ??= await this.fetchTexts();
    } catch {
      return this.say(this.said.unreached, {}, { isProblem: true });
    }
    if (!this.root.isConnected || this.isOpen) return;
    this.raws = this.articles.map((article, at) => {
      const raw = element("div", "raw");
      raw.tabIndex = 0;
      raw.setAttribute("role", "application");
      raw.setAttribute("aria-label", filled(this.said.label, { place: this.placeName(at + 1) }));
      raw.dataset.raw = at + 1;
      raw.addEventListener("pointerdown", () => this.touch(at + 1));
      raw.addEventListener("focus", () => this.enter(at + 1));
      raw.addEventListener("click", (event) => this.clicked(event, at + 1));
      article.querySelector(".prose").after(raw);
      return raw;
    });
    this.marker.hidden = false;
    this.panel.classList.add("is-marking");
    this.panel.querySelector("[data-mark]")?.setAttribute("aria-pressed", "true");
    this.draw();
    this.enter(this.place ?? 1, { anew: true });
    this.say(this.said.opened);
  }

  async fetchTexts() {
    const answer = await fetch(this.root.dataset.texts, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(String(answer.status));
    return (await answer.json()).texts.map((text) => new Text(text));
  }

  close() {
    getSelection().removeAllRanges();
    for (const raw of this.raws) raw.remove();
    this.marker.hidden = true;
    this.panel.classList.remove("is-marking");
    this.panel.querySelector("[data-mark]")?.setAttribute("aria-pressed", "false");
    dispatchEvent(new Event("resize")); // long ones are folded anew
    const heading = document.getElementById("judging-heading");
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    this.say(this.said.closed);
  }

  // --- What is shown

  draw() {
    this.raws.forEach((raw, at) => this.drawText(raw, at + 1));
    this.list();
    this.press();
  }

  // Block by block; one whose marks are as they were stays as it is.
  drawText(raw, place) {
    const text = this.texts[place - 1];
    const spans = this.of(place).map((span) => ({ ...span, from: text.units(span.start), to: text.units(span.end) }));
    if (!raw.children.length) raw.append(...text.blocks.map(() => element("div", "")));
    text.blocks.forEach(({ start, end }, at) => {
      const here = spans.filter((span) => span.from < end && span.to > start);
      const marks = here.map((span) => `${span.from}-${span.to}-${span.category}`).join(" ");
      const line = raw.children[at];
      if (line.dataset.marks === marks) return;
      line.dataset.marks = marks;
      line.dir = "auto";
      const cuts = [...new Set([start, end, ...here.flatMap((span) => [span.from, span.to])])].filter((cut) => cut >= start && cut <= end).sort((a, b) => a - b);
      line.replaceChildren(...cuts.slice(1).map((cut, before) => this.piece(text.string.slice(cuts[before], cut), here.filter((span) => span.from <= cuts[before] && span.to >= cut), cut)));
    });
  }

  // A stretch within its spans, the label of each where it ends. Labels are painted by the style sheet: no word of ours
  // stands among those that are counted.
  piece(string, spans, end) {
    const piece = document.createDocumentFragment();
    piece.append(...shown(string));
    for (const span of spans) {
      const mark = element("mark", `is-${span.category}`);
      mark.append(...piece.childNodes);
      piece.append(mark);
    }
    for (const span of spans.filter((each) => each.to === end)) {
      const label = element("span", `marked-label is-${span.category}`);
      label.dataset.label = this.nameOf(span.category);
      piece.append(label);
    }
    return piece;
  }

  // Under each completion, also while marking is closed.
  list() {
    this.articles.forEach((article, at) => {
      article.querySelector(".marked-list")?.remove();
      const spans = this.of(at + 1);
      if (!spans.length) return;
      const box = element("div", "marked-list small");
      const list = document.createElement("ul");
      box.append(element("p", "", spans.length === 1 ? this.said.one : filled(this.said.many, { n: spans.length })), list);
      for (const span of spans) {
        const words = { name: this.nameOf(span.category), text: quoted(span.text) };
        const remove = element("button", "", "×");
        remove.type = "button";
        remove.setAttribute("aria-label", filled(this.said.remove, words));
        remove.addEventListener("click", () => {
          this.remove(span);
          (article.querySelector(".marked-list button") ?? this.panel.querySelector("[data-mark]")).focus();
        });
        const item = document.createElement("li");
        item.append(element("span", `marked-label is-${span.category}`, words.name), element("bdi", "", words.text), remove);
        list.append(item);
      }
      article.append(box);
    });
  }

  // The categories of what is chosen look pressed.
  press() {
    const under = this.isOpen ? this.under().map((span) => span.category) : [];
    for (const button of this.categories) button.setAttribute("aria-pressed", String(under.includes(Number(button.dataset.category))));
  }

  // --- What is chosen

  of(place) { return this.spans.filter((span) => span.place === place); }

  get at() { return this.chosenIn.get(this.place) ?? null; }

  put(place, anchor, focus = anchor) {
    this.place = place;
    this.chosenIn.set(place, { anchor, focus });
  }

  get chosen() {
    if (!this.at) return null;
    const { anchor, focus } = this.at;
    return { place: this.place, start: Math.min(anchor.start, focus.start), end: Math.max(anchor.end, focus.end) };
  }

  // The spans in which something of what is chosen stands, the narrowest first.
  under() {
    const chosen = this.chosen;
    if (!chosen) return [];
    const text = this.texts[chosen.place - 1];
    const [start, end] = [text.points(chosen.start), text.points(chosen.end)];
    return this.of(chosen.place).filter((span) => span.start < end && span.end > start).sort((one, other) => (one.end - one.start) - (other.end - other.start));
  }

  // Go to a completion: to where one was in it, or to its first word.
  enter(place, { anew = false } = {}) {
    if (this.place === place && !anew) return;
    this.place = place;
    if (!this.at) this.put(place, this.texts[place - 1].after(0) ?? NOWHERE);
    this.raws[place - 1].focus({ preventScroll: true });
    this.choose({ aloud: false });
  }

  // A finger or the mouse says itself what is chosen, and where to look.
  touch(place) {
    if (this.place !== place) this.put(place, NOWHERE);
  }

  choose({ aloud = true } = {}) {
    const { place, start, end } = this.chosen;
    const range = this.range(place, start, end);
    if (range) getSelection().setBaseAndExtent(range.startContainer, range.startOffset, range.endContainer, range.endOffset);
    this.see(this.range(place, this.at.focus.start, this.at.focus.end));
    this.press();
    if (!aloud) return;
    const names = this.under().map((span) => this.nameOf(span.category));
    const words = quoted(this.texts[place - 1].string.slice(start, end));
    this.say("{all}", { all: names.length ? `${words}, ${filled(this.said.under, { names: names.join(", ") })}` : words });
  }

  range(place, start, end) {
    if (end <= start) return null;
    const range = document.createRange();
    range.setStart(...this.point(place, start));
    range.setEnd(...this.point(place, end, { isEnd: true }));
    return range;
  }

  // The text node in which a place lies, and how far in it.
  point(place, units, { isEnd = false } = {}) {
    const text = this.texts[place - 1];
    const block = text.blockAt(isEnd ? units - 1 : units);
    let before = text.blocks[block].start;
    const walker = document.createTreeWalker(this.raws[place - 1].children[block], NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (units < before + node.length || (isEnd && units === before + node.length)) return [node, units - before];
      before += node.length;
    }
    return [this.raws[place - 1], this.raws[place - 1].childNodes.length];
  }

  // How many units of a completion stand before a place in the page; what lies outside is at its beginning or end.
  unitsAt(raw, node, offset) {
    if (!raw.contains(node)) return raw.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_PRECEDING ? 0 : this.texts[raw.dataset.raw - 1].string.length;
    const range = document.createRange();
    range.selectNodeContents(raw);
    range.setEnd(node, offset);
    return range.toString().length;
  }

  // What was selected by mouse or finger; of several completions that in which it began.
  selected() {
    const selection = getSelection();
    if (selection.isCollapsed || !this.isOpen) return;
    const rawOf = (node) => this.raws.find((raw) => raw.contains(node));
    const raw = rawOf(selection.anchorNode) ?? rawOf(selection.focusNode);
    if (!raw) return;
    const place = Number(raw.dataset.raw);
    const text = this.texts[place - 1];
    const { startContainer, startOffset, endContainer, endOffset } = selection.getRangeAt(0);
    const start = text.whole(this.unitsAt(raw, startContainer, startOffset));
    const end = text.whole(this.unitsAt(raw, endContainer, endOffset), { up: true });
    const chosen = this.chosen;
    if (start >= end || (chosen?.place === place && chosen.start === start && chosen.end === end)) return;
    this.put(place, { start, end });
    this.press();
  }

  // A press on a word chooses the mark in which it stands, else the word; once more, the word in the mark.
  clicked(event, place) {
    const selection = getSelection();
    if (event.detail !== 1 || event.shiftKey || !selection.isCollapsed || !selection.anchorNode) return;
    const text = this.texts[place - 1];
    const units = this.unitsAt(this.raws[place - 1], selection.anchorNode, selection.anchorOffset);
    const word = text.at(units) ?? text.at(units - 1);
    if (!word) return;
    const before = this.chosen;
    this.put(place, word);
    const [mark] = this.under();
    const whole = mark && { start: text.units(mark.start), end: text.units(mark.end) };
    const isChosen = whole && before?.place === place && before.start === whole.start && before.end === whole.end;
    if (whole && !isChosen) this.put(place, whole);
    this.choose();
  }

  see(range) {
    const rect = range?.getBoundingClientRect();
    if (!rect) return;
    const bottom = this.marker.getBoundingClientRect().top - 24;
    if (rect.bottom > bottom) scrollBy({ top: rect.bottom - bottom + (bottom / 3), behavior: "instant" });
    else if (rect.top < 24) scrollBy({ top: rect.top - (bottom / 3), behavior: "instant" });
  }

  // --- What one does

  move(to, { extends: isExtended }) {
    if (!to) return;
    this.put(this.place, isExtended ? this.at.anchor : to, to);
    this.raws[this.place - 1].focus({ preventScroll: true });
    this.choose();
  }

  step(key) {
    const { place } = this;
    const { focus } = this.at;
    const text = this.texts[place - 1];
    const runsLeft = getComputedStyle(this.raws[place - 1].children[text.blockAt(focus.start)] ?? this.raws[place - 1]).direction === "rtl";
    if (key === (runsLeft ? "ArrowLeft" : "ArrowRight")) return text.after(focus.end);
    if (key === (runsLeft ? "ArrowRight" : "ArrowLeft")) return text.before(focus.start);
    if (key === "Home") return text.after(0);
    if (key === "End") return text.before(text.string.length);
    const lines = key.startsWith("Page") ? LINES_PER_PAGE : 1;
    return this.byLines(focus, key.endsWith("Down") ? lines : -lines);
  }

  // The word that stands above or below, so many lines away.
  byLines(from, lines) {
    const { place } = this;
    const text = this.texts[place - 1];
    const rectOf = (word) => this.range(place, word.start, word.end).getClientRects()[0] ?? new DOMRect();
    const next = (word) => (lines > 0 ? text.after(word.end) : text.before(word.start));
    const middle = (rect) => rect.left + rect.width / 2;
    const x = middle(rectOf(from));
    let [best, line, left] = [from, rectOf(from), Math.abs(lines)];
    for (let word = next(from); word; word = next(word)) {
      const rect = rectOf(word);
      const isNew = lines > 0 ? rect.top > line.top + line.height / 2 : rect.top < line.top - line.height / 2;
      if (isNew && left === 0) break;
      if (isNew) {
        left -= 1;
        line = rect;
        best = word;
      } else if (left < Math.abs(lines) && Math.abs(middle(rect) - x) < Math.abs(middle(rectOf(best)) - x)) best = word;
    }
    return best;
  }

  // What it now marks takes the place of what it marked before under the same category.
  mark(category) {
    const chosen = this.chosen;
    if (!chosen || chosen.start === chosen.end) return this.say(this.said.nothing, {}, { isProblem: true });
    const text = this.texts[chosen.place - 1];
    const span = { place: chosen.place, start: text.points(chosen.start), end: text.points(chosen.end), category, text: text.string.slice(chosen.start, chosen.end) };
    const isSame = (each) => each.place === span.place && each.category === category;
    const name = this.nameOf(category);
    if (this.spans.some((each) => isSame(each) && each.start === span.start && each.end === span.end)) return this.say(this.said.same, { name });
    const rest = this.spans.filter((each) => !(isSame(each) && each.start < span.end && each.end > span.start));
    if (rest.filter((each) => each.place === span.place).length >= this.most) return this.say(this.said.most, { n: this.most }, { isProblem: true });
    this.keep([...rest, span]);
    this.say(this.said.marked, { name, text: quoted(span.text) });
  }

  remove(span) {
    this.keep(this.spans.filter((each) => each !== span));
    this.say(this.said.removed, { name: this.nameOf(span.category), text: quoted(span.text) });
  }

  unmark() {
    const [span] = this.under();
    if (span) this.remove(span);
    else this.say(this.said.none);
  }

  keep(spans) {
    this.spans = spans.sort((one, other) => one.place - other.place || one.start - other.start || one.end - other.end || one.category - other.category);
    this.field.value = spans.length ? JSON.stringify(this.spans) : "";
    this.field.dispatchEvent(new Event("input", { bubbles: true }));
    if (!this.isOpen) return this.list();
    this.draw();
    if (this.at) this.choose({ aloud: false });
  }

  pressed(button) {
    if (!button) return;
    if (button.dataset.category) this.mark(Number(button.dataset.category));
    else if ("unmark" in button.dataset) this.unmark();
    else this.close();
  }

  keyed(event) {
    const { key } = event;
    if (key === "Tab" || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.target.closest("input, textarea, select") || document.querySelector("[popover]:popover-open")) return;
    const small = key.toLowerCase();
    const has = (button) => button.dataset.key.split(" ").includes(small);
    if ([...this.panel.querySelectorAll("[popovertarget][data-key], .sizes [data-key]")].some(has)) return; // reading aids work on
    event.stopImmediatePropagation(); // whatever else a key means, it does not mean now
    if ((key === "Enter" || key === " ") && event.target.closest("button, a, summary")) return;
    const count = this.raws.length;
    const act = key === "Escape" || [...this.panel.querySelectorAll("[data-mark]")].some(has) ? () => this.close()
      : /^[1-9]$/.test(key) ? () => !event.repeat && key <= this.categories.length && this.mark(Number(key))
      : key === "Delete" || key === "Backspace" ? () => this.unmark()
      : key === "[" || key === "]" ? () => this.enter(1 + (this.place - 1 + (key === "]" ? 1 : count - 1)) % count, { anew: true })
      : /^(Arrow|Page|Home$|End$)/.test(key) ? () => this.move(this.step(key), { extends: event.shiftKey })
      : null;
    if (!act) return;
    event.preventDefault();
    act();
  }
}

// What a field holds; what cannot be read is nothing.
function read(value) {
  try {
    return value ? JSON.parse(value) : [];
  } catch {
    return [];
  }
}

// Characters that are not seen, or that reorder what stands beside them, each in a box of its own with its name.
function* shown(string) {
  let from = 0;
  for (const { 0: character, index } of string.matchAll(UNSEEN)) {
    if (index > from) yield string.slice(from, index);
    const box = element("span", "control", character);
    const code = character.codePointAt(0);
    box.dataset.name = NAMES[code] ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
    yield box;
    from = index + character.length;
  }
  if (from < string.length) yield string.slice(from);
}

let current = null;

function of(panel) {
  const root = panel.querySelector("#marking");
  if (!root) return null;
  if (current?.root !== root) current = new Marking(panel);
  return current;
}

// What a draft or an earlier judgment holds is listed without opening anything.
export function show(panel) { of(panel)?.list(); }

// Opened once the texts have come.
export function toggle(panel) {
  const marking = of(panel);
  return marking?.isOpen ? marking.close() : marking?.open();
}

document.addEventListener("keydown", (event) => { if (current?.isOpen) current.keyed(event); }, true);
document.addEventListener("selectionchange", () => current?.selected());
