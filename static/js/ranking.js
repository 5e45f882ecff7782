// Ranking more than two completions. The one truth is the field `ranking`, in the form in which it is sent (`2>1=3`, best
// first); keys, buttons and dragging all change it by the functions of Ranking, and everything shown is drawn from it.

// Tie groups of shown positions, best first; the positions that are in none are not ranked yet.
export class Ranking {
  constructor(groups, count) {
    this.groups = groups;
    this.count = count;
  }

  // What a field holds; what is no ranking of `count` positions, whole or begun, is none at all.
  static read(text, count) {
    const groups = text.trim() ? text.split(">").map((group) => group.split("=").map(Number)) : [];
    const places = groups.flat();
    const isOne = new Set(places).size === places.length && places.every((place) => place >= 1 && place <= count && Number.isInteger(place));
    return new Ranking(isOne ? groups : [], count);
  }

  toString() { return this.groups.map((group) => [...group].sort((a, b) => a - b).join("=")).join(">"); }

  get flat() { return this.groups.flat(); }

  get unranked() {
    const ranked = new Set(this.flat);
    return Array.from({ length: this.count }, (_, at) => at + 1).filter((place) => !ranked.has(place));
  }

  get isWhole() { return this.flat.length === this.count; }

  groupOf(place) { return this.groups.findIndex((group) => group.includes(place)); }

  // 1 is best; those that tie share a rank, and the rank after them leaves as many out: 1, 2, 2, 4.
  rankOf(place) {
    const at = this.groupOf(place);
    return at < 0 ? null : 1 + this.groups.slice(0, at).flat().length;
  }

  changed(groups) { return new Ranking(groups.filter((group) => group.length), this.count); }

  without(place) { return this.changed(this.groups.map((group) => group.filter((each) => each !== place))); }

  // Next after all that are ranked; the last one left then follows by itself.
  append(place) {
    if (this.groupOf(place) >= 0) return this;
    return this.changed([...this.groups, [place]]).completed();
  }

  completed() { return this.unranked.length === 1 ? this.changed([...this.groups, this.unranked]) : this; }

  // One step up or down: out of its tie first, then past the group beside it.
  move(place, step) {
    const at = this.groupOf(place);
    if (at < 0) return this;
    const rest = this.groups.map((group) => group.filter((each) => each !== place));
    const wasTied = rest[at].length > 0;
    const to = wasTied ? (step < 0 ? at : at + 1) : at + step;
    if (!wasTied && (to < 0 || to >= this.groups.length)) return this;
    if (!wasTied) rest.splice(at, 1);
    rest.splice(to, 0, [place]);
    return this.changed(rest);
  }

  // Tie with what stands above, or part from it.
  tie(place) {
    const at = this.groupOf(place);
    if (at < 0) return this;
    const group = this.groups[at];
    const inside = group.indexOf(place);
    if (inside > 0) return this.changed([...this.groups.slice(0, at), group.slice(0, inside), group.slice(inside), ...this.groups.slice(at + 1)]);
    if (at === 0) return this;
    return this.changed([...this.groups.slice(0, at - 1), [...this.groups[at - 1], ...group], ...this.groups.slice(at + 1)]);
  }

  // Where dragging left it: `order` from best to worst. Whoever was not dragged keeps their ties; what is dropped between
  // two that tie, ties with them.
  dragged(place, order) {
    const stays = this.without(place);
    const at = order.indexOf(place);
    const above = order[at - 1];
    const below = order[at + 1];
    const between = above !== undefined && below !== undefined && stays.groupOf(above) === stays.groupOf(below);
    const groups = stays.groups.map((group) => [...group]);
    if (between) groups[stays.groupOf(above)].push(place);
    else groups.splice(above === undefined ? 0 : stays.groupOf(above) + 1, 0, [place]);
    return this.changed(groups).completed();
  }
}

// The strip of chips and the buttons around it. Everything is found by data attributes, so that the page's words stay in
// the template.
class Strip {
  constructor(root) {
    this.root = root;
    this.field = root.querySelector("[name=ranking]");
    this.count = Number(root.dataset.count);
    this.ties = root.dataset.ties === "yes";
    this.chips = root.querySelector("[data-chips]");
    this.live = root.querySelector("[data-ranking-said]");
    this.said = JSON.parse(root.dataset.said);
    this.record = root.closest("form").querySelector("[data-record]");
    this.panel = root.closest("#judging-panel");
    this.selected = null;
    this.past = [];
    this.ranking = Ranking.read(this.field.value, this.count);
    root.classList.add("is-live");
    this.panel.addEventListener("click", (event) => this.pressed(event));
    if (matchMedia("(any-pointer: coarse)").matches) this.letDrag(); // a finger gives no notice
    else this.panel.addEventListener("pointerover", () => this.letDrag(), { once: true });
    this.draw();
  }

  pressed(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const { place, ranking } = button.dataset;
    if (place) this.choose(Number(place));
    else if (ranking === "better") this.change(this.ranking.move(this.selected, -1));
    else if (ranking === "worse") this.change(this.ranking.move(this.selected, 1));
    else if (ranking === "tie") this.change(this.ranking.tie(this.selected));
    else if (ranking === "back") this.back();
    else if (button.name === "all_bad" && !this.ranking.isWhole) this.field.value = "";
    else if (button.name === "ranking") this.field.value = button.value;
  }

  choose(place) {
    this.selected = place;
    this.change(this.ranking.append(place));
  }

  change(ranking) {
    if (ranking.toString() !== this.ranking.toString()) this.past.push(this.ranking);
    this.ranking = ranking;
    this.draw();
    this.tell();
  }

  back() {
    const before = this.past.pop();
    if (!before) return;
    this.ranking = before;
    this.selected = before.flat.at(-1) ?? null;
    this.draw();
    this.tell();
  }

  async letDrag() {
    await import(this.root.dataset.sortable);
    window.Sortable.create(this.chips, {
      draggable: "[data-place]",
      animation: 120,
      onEnd: (event) => {
        const place = Number(event.item.dataset.place);
        const order = [...this.chips.querySelectorAll("[data-place]")].map((chip) => Number(chip.dataset.place));
        const ranked = new Set([...this.ranking.flat, place]);
        this.selected = place;
        this.change(this.ranking.dragged(place, order.filter((each) => ranked.has(each))));
      },
    });
  }

  // Chips in their order, with what stands between them; then those that are not ranked yet.
  draw() {
    const { ranking } = this;
    this.field.value = ranking.toString();
    const chips = new Map([...this.chips.querySelectorAll("[data-place]")].map((chip) => [Number(chip.dataset.place), chip]));
    const focused = document.activeElement?.dataset.place;
    const children = [];
    for (const place of [...ranking.flat, ...ranking.unranked]) {
      const at = ranking.flat.indexOf(place);
      if (at > 0 || (at < 0 && place === ranking.unranked[0] && ranking.flat.length)) children.push(this.sign(place, at));
      children.push(chips.get(place));
    }
    this.chips.replaceChildren(...children);
    if (focused && this.root.contains(chips.get(Number(focused)))) chips.get(Number(focused)).focus({ preventScroll: true });
    for (const button of this.panel.querySelectorAll("[data-place]")) this.mark(button);
    for (const button of this.root.querySelectorAll("[data-ranking]")) button.disabled = !this.can(button.dataset.ranking);
    this.record.disabled = !ranking.isWhole;
  }

  sign(place, at) {
    const sign = document.createElement("span");
    sign.setAttribute("aria-hidden", "true");
    const tied = at > 0 && this.ranking.groupOf(place) === this.ranking.groupOf(this.ranking.flat[at - 1]);
    sign.textContent = at < 0 ? "·" : tied ? "=" : ">";
    sign.className = at < 0 ? "sign is-end" : "sign";
    return sign;
  }

  mark(button) {
    const place = Number(button.dataset.place);
    const rank = this.ranking.rankOf(place);
    button.setAttribute("aria-pressed", String(place === this.selected));
    button.classList.toggle("is-ranked", rank !== null);
    button.setAttribute("aria-label", this.words(place));
    const shown = button.querySelector("[data-rank]");
    if (shown) shown.textContent = rank === null ? "" : this.root.dataset.rank.replace("{rank}", rank);
  }

  words(place) {
    const { rank, unranked, tied } = this.said;
    const at = this.ranking.rankOf(place);
    if (at === null) return unranked.replace("{n}", place);
    const others = this.ranking.groups[this.ranking.groupOf(place)].filter((each) => each !== place);
    const said = rank.replace("{n}", place).replace("{rank}", at).replace("{count}", this.count);
    return others.length ? `${said}, ${tied.replace("{others}", others.join(", "))}` : said;
  }

  can(what) {
    const at = this.selected === null ? -1 : this.ranking.groupOf(this.selected);
    if (what === "back") return this.past.length > 0;
    if (at < 0) return false;
    const alone = this.ranking.groups[at].length === 1;
    if (what === "better") return !alone || at > 0;
    if (what === "worse") return !alone || at < this.ranking.groups.length - 1;
    return this.ties && (at > 0 || this.ranking.groups[at].indexOf(this.selected) > 0);
  }

  tell() {
    this.field.dispatchEvent(new Event("change", { bubbles: true }));
    const about = this.selected === null ? "" : this.words(this.selected);
    this.live.textContent = this.ranking.isWhole ? `${about}. ${this.said.whole}` : about;
  }
}

export function wake(panel) {
  const root = panel?.querySelector("[data-strip]:not(.is-live)");
  if (root) new Strip(root);
}
