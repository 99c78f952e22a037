// A picture or the camera with boxes over it, zoomed and moved by wheel, fingers, drag and keys.

import { drawDetections } from "./draw.js";

const MOST_ZOOM = 40;
const LETTERS_PX = { usual: 13, small: 11 };
const SMALL_PANE_PX = 480;
const STEP = 1.3;
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** Where all panes look: zoom 1 fits the picture, and (x, y) is the picture's point, 0..1, in the pane's centre. */
export class Look {
  constructor(changed) {
    this.changed = changed;
    Object.assign(this, { zoom: 1, x: 0.5, y: 0.5 });
  }

  fit() {
    Object.assign(this, { zoom: 1, x: 0.5, y: 0.5 });
    this.changed();
  }

  /** Zooms by a factor; what is (dx, dy) off the centre, in shares of the picture as large as it is now, stays there. */
  by(factor, dx = 0, dy = 0) {
    const before = this.zoom;
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, before * factor));
    this.move(dx * (1 - before / this.zoom), dy * (1 - before / this.zoom));
  }

  /** Moves the looked-at point, in shares of the picture. */
  move(dx, dy) {
    const most = 0.5 - 0.5 / this.zoom;
    this.x = Math.min(0.5 + most, Math.max(0.5 - most, this.x + dx));
    this.y = Math.min(0.5 + most, Math.max(0.5 - most, this.y + dy));
    this.changed();
  }
}

/** One pane: a viewport with the picture, or the camera's video, and a canvas over it. */
export class Pane {
  constructor(look, choose) {
    this.look = look;
    this.choose = choose;
    this.element = document.createElement("figure");
    this.caption = document.createElement("figcaption");
    this.viewport = document.createElement("div");
    this.viewport.className = "viewport";
    this.viewport.tabIndex = 0;
    this.viewport.setAttribute("role", "group");
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    this.viewport.append(this.canvas);
    this.element.append(this.viewport, this.caption);
    this.content = null;
    this.size = [1, 1];
    this.detections = [];
    this.chosen = -1;
    this.fingers = new Map();
    new ResizeObserver(() => this.draw()).observe(this.viewport);
    this.listen();
  }

  /** Shows an <img> or <video>; its size in pixels is what the boxes refer to. */
  show(content, size) {
    if (content !== this.content) {
      this.content?.remove();
      this.viewport.prepend(content);
      this.content = content;
    }
    this.size = size;
    this.draw();
  }

  /** What a screen reader says of the pane. */
  describe(text) {
    this.viewport.setAttribute("aria-label", text);
  }

  /** Scale and offset from pixels of the picture to CSS pixels of the viewport. */
  place() {
    const { clientWidth: width, clientHeight: height } = this.viewport;
    const fit = Math.min(width / this.size[0], height / this.size[1]);
    const scale = fit * this.look.zoom;
    return { scale, x: width / 2 - this.look.x * this.size[0] * scale, y: height / 2 - this.look.y * this.size[1] * scale };
  }

  draw() {
    if (!this.content) return;
    const { clientWidth: width, clientHeight: height } = this.viewport;
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const place = this.place();
    const style = this.content.style;
    style.width = `${this.size[0] * place.scale}px`;
    style.height = `${this.size[1] * place.scale}px`;
    style.transform = `translate(${place.x}px, ${place.y}px)`;
    this.viewport.classList.toggle("zoomed", this.look.zoom > 1);
    this.viewport.classList.toggle("pixels", place.scale > 3);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const letters = width < SMALL_PANE_PX ? LETTERS_PX.small : LETTERS_PX.usual;
    drawDetections(context, this.detections, place, letters, this.chosen);
  }

  /** Index of the smallest box at a point of the viewport, or -1. */
  at(x, y) {
    const place = this.place();
    const [px, py] = [(x - place.x) / place.scale, (y - place.y) / place.scale];
    let best = -1;
    let least = Infinity;
    this.detections.forEach(({ box_xyxy: [x1, y1, x2, y2] }, index) => {
      const area = (x2 - x1) * (y2 - y1);
      if (px >= x1 && px <= x2 && py >= y1 && py <= y2 && area < least) [best, least] = [index, area];
    });
    return best;
  }

  listen() {
    const view = this.viewport;
    view.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    view.addEventListener("keydown", (event) => this.key(event));
    view.addEventListener("dblclick", (event) => (this.look.zoom > 1 ? this.look.fit() : this.zoomAt(event, 3)));
    view.addEventListener("pointerdown", (event) => this.press(event));
    view.addEventListener("pointermove", (event) => this.drag(event));
    view.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.choose(this, -1));
    for (const kind of ["pointerup", "pointercancel"]) view.addEventListener(kind, (event) => this.fingers.delete(event.pointerId));
  }

  /** Zooms so that what is under the pointer stays there. */
  zoomAt(event, factor) {
    const bounds = this.viewport.getBoundingClientRect();
    const { scale } = this.place();
    const dx = (event.clientX - bounds.left - bounds.width / 2) / (this.size[0] * scale);
    const dy = (event.clientY - bounds.top - bounds.height / 2) / (this.size[1] * scale);
    this.look.by(factor, dx, dy);
  }

  wheel(event) {
    event.preventDefault();
    this.zoomAt(event, Math.exp(-Math.max(-100, Math.min(100, event.deltaY)) / 250));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (event.key === "+" || event.key === "=") this.look.by(STEP);
    else if (event.key === "-") this.look.by(1 / STEP);
    else if (event.key === "0") this.look.fit();
    else if (arrow && this.look.zoom > 1) this.look.move((-0.1 * arrow[0]) / this.look.zoom, (-0.1 * arrow[1]) / this.look.zoom);
    else return;
    event.preventDefault();
  }

  press(event) {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.look.zoom > 1 || this.fingers.size > 1) this.viewport.setPointerCapture(event.pointerId);
    if (event.pointerType !== "mouse") this.hover(event);
  }

  drag(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") this.hover(event);
      return;
    }
    const now = [event.clientX, event.clientY];
    const other = [...this.fingers].find(([id]) => id !== event.pointerId)?.[1];
    this.fingers.set(event.pointerId, now);
    if (other) {
      const length = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      const middle = { clientX: (now[0] + other[0]) / 2, clientY: (now[1] + other[1]) / 2 };
      this.zoomAt(middle, length(now) / Math.max(1, length(before)));
    } else {
      const { scale } = this.place();
      this.look.move((before[0] - now[0]) / (this.size[0] * scale), (before[1] - now[1]) / (this.size[1] * scale));
    }
  }

  hover(event) {
    const bounds = this.viewport.getBoundingClientRect();
    this.choose(this, this.at(event.clientX - bounds.left, event.clientY - bounds.top));
  }
}
