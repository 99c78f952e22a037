// One image: its objects, what the model sees, and the decisions about them.

import { after, badge, chip, counted, make, number, overlay, partAround, picture } from "./drawing.js";

const MOST_CLASSES = 9;

export class Viewer {
  constructor(root, state, { ask, decide, complain, closed }) {
    Object.assign(this, { root, state, ask, decide, complain, closed });
    this.recent = [];
    this.name = make("h2", { id: "viewer-name" });
    this.place = make("span", { class: "place" });
    this.stage = make("div", { class: "picture stage" });
    this.panel = make("div", { class: "panel" });
    this.said = make("p", { class: "skip", role: "status" });
    this.dropImage = make("button", { type: "button", onclick: () => this.toggleImage() });
    root.append(
      make("div", { class: "viewer-top" },
        make("button", { type: "button", onclick: () => this.step(-1), "aria-label": "Image before" }, "←"),
        make("button", { type: "button", onclick: () => this.step(1), "aria-label": "Next image" }, "→"),
        this.place, this.name, make("span", { class: "spring" }), this.dropImage,
        make("button", { type: "button", onclick: () => this.close() }, "Close")),
      this.stage, this.panel, this.said,
    );
    root.addEventListener("keydown", (event) => this.key(event));
  }

  async open(place, ids = this.state.ids, row = 0) {
    this.before ??= document.activeElement;
    this.ids = ids;
    this.at = place;
    this.root.hidden = false;
    document.body.style.overflow = "hidden";
    for (const element of document.querySelectorAll("header, .layout")) element.inert = true;
    await this.load(row);
    this.panel.tabIndex = -1;
    this.panel.focus();
  }

  close() {
    this.root.hidden = true;
    document.body.style.overflow = "";
    for (const element of document.querySelectorAll("header, .layout")) element.inert = false;
    clearTimeout(this.waiting);
    this.item = null;
    const place = [...document.querySelectorAll("#grid button")].indexOf(this.before);
    this.before = null;
    Promise.resolve(this.closed()).then(() => {
      const buttons = document.querySelectorAll("#grid button");
      buttons[Math.min(Math.max(place, 0), buttons.length - 1)]?.focus();
    });
  }

  async load(row = 0) {
    const id = this.ids[this.at];
    clearTimeout(this.waiting);
    try {
      const item = await this.ask("image", { id });
      if (this.root.hidden || id !== this.ids[this.at]) return;
      this.item = item;
      this.row = Math.min(row, item.boxes.length - 1);
      this.picking = false;
      this.draw();
      this.waitForModel();
    } catch (error) { this.complain(error); }
  }

  waitForModel() {
    if (this.item.found || !this.state.summary.model || this.state.summary.model.error) return;
    this.waiting = setTimeout(async () => {
      try {
        const item = await this.ask("image", { id: this.item.id });
        if (this.item?.id !== item.id) return;
        this.item = item;
        if (item.found && !this.picking) this.draw();
        this.waitForModel();
      } catch { /* said where it matters */ }
    }, 700);
  }

  step(by) {
    const next = this.at + by;
    if (next < 0 || next >= this.ids.length) return this.say(by < 0 ? "This is the first image." : "This is the last image.");
    this.at = next;
    return this.load();
  }

  choose(row) {
    this.row = row;
    this.picking = false;
    this.draw();
    const [, , , , label, action] = this.item.boxes[row];
    this.say(`${this.state.summary.classes[label].name}, ${row + 1} of ${this.item.boxes.length}${action ? `, ${action}` : ""}`);
  }

  async settle(action, to = null) {
    if (this.row < 0) return;
    const { row } = this;
    const item = await this.decide({ image: this.item.id, row, action, to });
    if (!item || item.id !== this.item?.id) return;
    if (to !== null) this.recent = [to, ...this.recent.filter((id) => id !== to)].slice(0, 3);
    Object.assign(this.item, item);
    this.picking = false;
    if (action && row + 1 < item.boxes.length) this.row = row + 1;
    this.draw();
    this.say(action ? `${action}${to === null ? "" : ` to ${this.state.summary.classes[to].name}`}` : "taken back");
  }

  async toggleImage() {
    const item = await this.decide({ image: this.item.id, action: this.item.action === "drop" ? null : "drop" });
    if (!item) return;
    Object.assign(this.item, item);
    this.draw();
    this.say(item.action === "drop" ? "image dropped" : "image is used again");
  }

  say(text) { this.said.textContent = text; }

  // What the model sees there, what was chosen lately, then the most frequent classes.
  suggestions(text = "") {
    const { classes } = this.state.summary;
    const box = this.item.boxes[this.row];
    const seen = (this.item.found ?? []).filter((found) => found[4] !== box[4] && overlap(found, box) > 0.4).map((found) => found[4]);
    const frequent = classes.map((_, id) => id).sort((a, b) => classes[b].objects - classes[a].objects);
    const wanted = text.trim().toLowerCase();
    const fits = (id) => id !== box[4] && classes[id].name.toLowerCase().includes(wanted);
    const starts = (id) => (classes[id].name.toLowerCase().startsWith(wanted) ? 0 : 1);
    const order = [...new Set([...seen, ...this.recent, ...frequent])].filter(fits);
    if (wanted) order.sort((a, b) => starts(a) - starts(b));
    return order.slice(0, MOST_CLASSES);
  }

  draw() {
    const { item, state } = this;
    this.name.textContent = item.name;
    this.place.textContent = `${number(this.at + 1)} of ${number(this.ids.length)}`;
    this.dropImage.textContent = item.action === "drop" ? "Use the image again" : "Drop the image";
    this.dropImage.setAttribute("aria-pressed", item.action === "drop");
    const layer = overlay(item, state.summary.classes, state.show, { chosen: this.row, choose: (row) => this.choose(row) });
    if (this.stage.dataset.id !== String(item.id)) {
      this.stage.dataset.id = item.id;
      this.stage.classList.remove("broken");
      const image = make("img", { src: `picture/${item.id}?large=1`, alt: item.name, onerror: () => this.stage.classList.add("broken") });
      this.stage.replaceChildren(image);
    }
    this.stage.querySelector("svg")?.remove();
    this.stage.append(layer);
    const top = this.panel.scrollTop;
    const held = this.panel.contains(document.activeElement) || document.activeElement === document.body;
    this.panel.replaceChildren(...this.parts());
    this.panel.scrollTop = top;
    const current = this.panel.querySelector("[aria-current=true]");
    current?.scrollIntoView({ block: "nearest" });
    if (this.picking) this.panel.querySelector(".picker input").focus();
    else if (held) (current ?? this.panel).focus({ preventScroll: true });
  }

  parts() {
    const { item } = this;
    const facts = [
      `${item.width} × ${item.height} pixels`, ...(item.splits.length ? [`split: ${item.splits.join(", ")}`] : []),
      `labels: ${item.source}`, ...item.problems,
    ];
    return [
      ...(this.row >= 0 ? this.atHand() : []),
      make("h3", {}, counted(item.boxes.length, "object")),
      make("ul", { class: "objects" }, ...item.boxes.map((box, row) => make("li", {}, this.line(box, row)))),
      ...this.seen(),
      make("h3", {}, "Image"),
      make("ul", { class: "facts" }, ...facts.map((text) => make("li", {}, text))),
    ];
  }

  atHand() {
    const { item, state } = this;
    const box = item.boxes[this.row];
    const part = partAround(box, item.width, item.height);
    const layer = overlay(item, state.summary.classes, state.show, { part, chosen: this.row });
    const key = (letter, text, action) => make(
      "button", { type: "button", "aria-pressed": String(box[5] === action && action !== null), "aria-keyshortcuts": letter, onclick: () => (action === "relabel" ? this.pick() : this.settle(action)) },
      make("kbd", { "aria-hidden": "true" }, letter), ` ${text}`);
    return [
      make("div", { class: "zoom" }, picture(`picture/${item.id}?part=${part.join(",")}`, layer)),
      make("div", { class: "acts" }, key("d", "Drop", "drop"), key("k", "Keep", "keep"), key("r", "Relabel", "relabel"), box[5] ? key("u", "Undo", null) : null),
      this.picking ? this.picker() : null,
    ].filter(Boolean);
  }

  line([x0, y0, x1, y1, label, action, to, flags], row) {
    const { classes } = this.state.summary;
    const name = action === "relabel" ? `${classes[label].name} → ${after(classes, label, action, to).name}` : classes[label].name;
    const marks = ["", "difficult", "crowd", "difficult, crowd"][flags];
    return make("button", { type: "button", "aria-current": String(row === this.row), onclick: () => this.choose(row) },
      chip(after(classes, label, action, to).colour), name, marks ? make("span", { class: "size" }, marks) : null,
      action ? badge(action) : null, make("span", { class: "size" }, `${Math.round(x1 - x0)} × ${Math.round(y1 - y0)}`));
  }

  seen() {
    const { model, classes } = this.state.summary;
    if (!model) return [];
    const found = (this.item.found ?? []).filter((box) => box[5] >= this.state.show.score);
    const text = this.item.found ? counted(found.length, "prediction") : "Predictions: the model is looking …";
    return [
      make("h3", {}, text),
      make("ul", { class: "facts" }, ...found.map((box) => make("li", {}, chip(classes[box[4]].colour), `${classes[box[4]].name} ${Math.round(100 * box[5])} %`))),
    ];
  }

  pick() {
    if (this.row < 0) return;
    this.picking = true;
    this.draw();
  }

  picker() {
    const list = make("ul");
    const input = make("input", { type: "text", "aria-label": "New class: type a part of its name, or press a digit", placeholder: "new class", autocomplete: "off", spellcheck: "false" });
    const fill = () => {
      const ids = this.suggestions(input.value);
      list.replaceChildren(...ids.map((id, place) => make("li", {}, make(
        "button", { type: "button", onclick: () => this.settle("relabel", id) },
        make("kbd", { "aria-hidden": "true" }, String(place + 1)), " ", chip(this.state.summary.classes[id].colour), this.state.summary.classes[id].name))));
    };
    input.addEventListener("input", fill);
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      const ids = this.suggestions(input.value);
      if (event.key === "Escape") { this.picking = false; this.draw(); this.panel.focus(); }
      else if (event.key === "Enter" && ids.length) this.settle("relabel", ids[0]);
      else if (!input.value && /^[1-9]$/.test(event.key) && Number(event.key) <= ids.length) {
        event.preventDefault();
        this.settle("relabel", ids[Number(event.key) - 1]);
      }
    });
    fill();
    return make("div", { class: "picker" }, input, list);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.item) return;
    if (event.key === "Tab") return this.holdFocus(event);
    const digit = /^[1-9]$/.test(event.key) && this.row >= 0 ? this.suggestions()[Number(event.key) - 1] : undefined;
    const move = (by) => { if (this.item.boxes.length) this.choose((this.row + by + this.item.boxes.length) % this.item.boxes.length); };
    const flip = (what, id) => { this.state.show[what] = !this.state.show[what]; document.getElementById(id).checked = this.state.show[what]; this.draw(); };
    const does = {
      ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1), ArrowUp: () => move(-1), ArrowDown: () => move(1),
      d: () => this.settle("drop"), k: () => this.settle("keep"), r: () => this.pick(), u: () => this.settle(null),
      x: () => this.toggleImage(), l: () => flip("labels", "show-labels"), p: () => flip("found", "show-found"),
      Escape: () => this.close(),
    }[event.key] ?? (digit === undefined ? null : () => this.settle("relabel", digit));
    if (does) { event.preventDefault(); does(); }
  }

  holdFocus(event) {
    const stops = [...this.root.querySelectorAll("button, input")].filter((one) => !one.disabled);
    const last = stops[stops.length - 1];
    if (event.shiftKey && document.activeElement === stops[0]) { event.preventDefault(); last.focus(); }
    else if (!event.shiftKey && document.activeElement === last) { event.preventDefault(); stops[0].focus(); }
  }
}

function overlap(a, b) {
  const shared = Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]), 0) * Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]), 0);
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return shared / Math.max(area(a) + area(b) - shared, 1e-9);
}
