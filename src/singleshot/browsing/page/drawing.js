// Elements and boxes. Names only ever become text: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function chip(colour) {
  const dot = make("span", { class: "chip", "aria-hidden": "true" });
  dot.style.background = colour;
  return dot;
}

function rectangle([x0, y0, x1, y1], colour, kind) {
  const place = { x: x0, y: y0, width: Math.max(x1 - x0, 0.1), height: Math.max(y1 - y0, 0.1) };
  const line = svg("rect", { ...place, class: kind });
  line.style.stroke = colour;
  return [svg("rect", { ...place, class: "halo" }), line];
}

// The class of an object after a decision; the server writes -1 for one that is not shown.
export const after = (classes, label, action, to) =>
  (action === "relabel" ? classes[to] ?? { name: "a class that is not shown", colour: "#888888" } : classes[label]);

// Boxes of an item over its picture. `part` shows a piece of it, `chosen` is the row of the object at hand.
export function overlay(item, classes, show, { part = [0, 0, item.width, item.height], chosen = -1, choose = null } = {}) {
  const [x0, y0, x1, y1] = part;
  const view = svg("svg", { viewBox: `${x0} ${y0} ${x1 - x0} ${y1 - y0}`, "aria-hidden": "true" });
  if (show.labels) {
    item.boxes.forEach((box, row) => {
      const [, , , , label, action, to] = box;
      const { colour } = after(classes, label, action, to);
      view.append(...rectangle(box, colour, `${action ?? ""} ${row === chosen ? "chosen" : ""}`));
    });
  }
  if (show.found && item.found) {
    for (const box of item.found.filter((found) => found[5] >= show.score)) {
      view.append(...rectangle(box, classes[box[4]].colour, "found"));
    }
  }
  if (choose) {
    const bySize = item.boxes.map((box, row) => [(box[2] - box[0]) * (box[3] - box[1]), row]).sort((a, b) => b[0] - a[0]);
    for (const [, row] of bySize) {
      const [left, top, right, bottom] = item.boxes[row];
      view.append(svg("rect", { x: left, y: top, width: right - left, height: bottom - top, class: "hit", onclick: () => choose(row) }));
    }
  }
  return view;
}

export function picture(address, layer, tag = "span", attributes = {}, alt = "") {
  const box = make(tag, { class: "picture", ...attributes });
  box.append(make("img", { src: address, alt, loading: "lazy", decoding: "async", onerror: () => box.classList.add("broken") }));
  if (layer) box.append(layer);
  return box;
}

export function partAround([x0, y0, x1, y1], width, height) {
  const margin = Math.max(0.6 * Math.max(x1 - x0, y1 - y0), 24);
  return [
    Math.max(Math.floor(x0 - margin), 0), Math.max(Math.floor(y0 - margin), 0),
    Math.min(Math.ceil(x1 + margin), width), Math.min(Math.ceil(y1 + margin), height),
  ];
}

export const badge = (action, text = action) => make("span", { class: `badge ${action}` }, text);

export const number = (count) => count.toLocaleString("en");

export const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
