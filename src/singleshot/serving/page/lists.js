// The lists beside the picture: classes to switch, detections, thumbnails. Names are text, whatever they hold.

import { classColour, css } from "./colours.js";

const MOST_LISTED = 200;

/** An element with attributes and children; strings become text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function swatch(label) {
  const dot = make("span", { class: "swatch", "aria-hidden": "true" });
  dot.style.backgroundColor = css(classColour(label));
  return dot;
}

/** Classes as check boxes; found: Map of name to {label, counts}: one count for each pane, in order. toggled(name, on). */
export function listClasses(list, found, hidden, toggled) {
  const names = [...found.keys()];
  const rows = [...list.children];
  if (rows.length !== names.length || rows.some((row, at) => row.name !== names[at])) {
    const focused = document.activeElement?.closest?.("#classes li")?.name;
    list.replaceChildren(...names.map((name) => classRow(name, found.get(name).label, toggled)));
    [...list.children].find((row) => row.name === focused)?.querySelector("input").focus();
  }
  for (const row of list.children) {
    row.querySelector("input").checked = !hidden.has(row.name);
    row.querySelector(".number").textContent = found.get(row.name).counts.join(" / ");
  }
}

function classRow(name, label, toggled) {
  const box = make("input", { type: "checkbox", onchange: () => toggled(name, box.checked) });
  const row = make("li", {}, make("label", {}, box, swatch(label), make("span", { class: "name" }, name), make("span", { class: "number" })));
  row.name = name;
  return row;
}

/** Detections as buttons that point at their boxes; groups: [{title, pane}], a title only where there are two. */
export function listDetections(list, groups, choose) {
  const key = JSON.stringify(groups.map(({ title, pane }) => [title, pane.detections.map(({ class_name: name, score, box_xyxy: box }) => [name, score, box[0]])]));
  if (list.key === key) return;
  list.key = key;
  list.replaceChildren(
    ...groups.flatMap(({ title, pane }) => {
      const rows = pane.detections.slice(0, MOST_LISTED).map((one, index) => detectionRow(one, pane, index, choose));
      const more = pane.detections.length - rows.length;
      if (more > 0) rows.push(make("li", { class: "soft" }, `and ${more} more`));
      return title && rows.length ? [make("li", { class: "group" }, title), ...rows] : rows;
    }),
  );
}

function detectionRow(detection, pane, index, choose) {
  const [x1, y1, x2, y2] = detection.box_xyxy.map(Math.round);
  const where = `, ${x2 - x1} by ${y2 - y1} pixels at ${x1}, ${y1}`;
  const point = () => choose(pane, index);
  const away = () => choose(pane, -1);
  const button = make(
    "button",
    { type: "button", onfocus: point, onblur: away, onmouseenter: point, onmouseleave: away, onclick: point },
    swatch(detection.class_id),
    make("span", { class: "name" }, detection.class_name),
    " ",
    make("span", { class: "number" }, detection.score.toFixed(2)),
    make("span", { class: "unseen" }, where),
  );
  const row = make("li", {}, button);
  row.spot = { pane, index };
  return row;
}

/** Marks the row of the box that is pointed at. */
export function markChosen(list, pane, index) {
  for (const row of list.children) row.classList.toggle("chosen", row.spot?.pane === pane && row.spot.index === index);
}

/** A picture's button in the strip; its mark and its name are changed later. */
export function thumbnail(picture, open) {
  const mark = make("span", { class: "mark" });
  const frame = make("span", { class: "frame", "aria-hidden": "true" });
  const button = make("button", { type: "button", onclick: () => open(picture) }, frame, mark);
  picture.thumbnail().then((canvas) => frame.append(canvas ?? picture.name.split(".").pop().slice(0, 5)));
  const row = make("li", {}, button);
  row.picture = picture;
  return row;
}

/** What the strip says of a picture. */
export function markThumbnail(row, current, entry, count) {
  const button = row.querySelector("button");
  const mark = row.querySelector(".mark");
  const state = entry?.state ?? "none";
  mark.textContent = state === "done" ? count : state === "failed" ? "!" : "…";
  row.dataset.state = state;
  const words = { done: `${count} detections`, failed: "failed", waiting: "waiting", none: "waiting" };
  button.setAttribute("aria-label", `${row.picture.name}, ${words[state]}`);
  button.title = row.picture.name;
  if (current) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
}
