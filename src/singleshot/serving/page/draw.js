// Boxes and their labels on a canvas: over the picture on the page, and in the picture that is downloaded.

import { classColour, css, inkOn } from "./colours.js";

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const LONGEST_LABEL = 40;
const MOST_LABELS = 200;

/**
 * Draws detections, the surest on top.
 *
 * place: turns pixels of the picture into those of the canvas: {scale, x, y}.
 * size: height of the letters in pixels of the canvas.
 * chosen: index of the one that stands out; -1 for none.
 */
export function drawDetections(context, detections, place, size, chosen = -1) {
  const order = detections.map((_, index) => index).reverse();
  if (chosen >= 0) order.push(...order.splice(order.indexOf(chosen), 1));
  context.lineJoin = "round";
  for (const index of order) drawBox(context, detections[index], place, size, chosen, index);
  const taken = [];
  context.font = `600 ${size}px ${FONT}`;
  context.textBaseline = "middle";
  for (const index of order.reverse().slice(0, MOST_LABELS)) drawLabel(context, detections[index], place, size, taken, chosen, index);
}

const corners = ({ box_xyxy: box }, { scale, x, y }) => [box[0] * scale + x, box[1] * scale + y, box[2] * scale + x, box[3] * scale + y];

function drawBox(context, detection, place, size, chosen, index) {
  const [x1, y1, x2, y2] = corners(detection, place);
  const colour = css(classColour(detection.class_id));
  context.globalAlpha = chosen >= 0 && index !== chosen ? 0.45 : 1;
  if (index === chosen) {
    context.fillStyle = colour;
    context.globalAlpha = 0.18;
    context.fillRect(x1, y1, x2 - x1, y2 - y1);
    context.globalAlpha = 1;
  }
  for (const [style, width] of [["rgb(0 0 0 / .45)", size / 3.2], [colour, size / (index === chosen ? 4 : 6.5)]]) {
    context.strokeStyle = style;
    context.lineWidth = Math.max(1, width);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  context.globalAlpha = 1;
}

/** At the box's upper left corner, above it where there is room; not where a surer one's label is. */
function drawLabel(context, detection, place, size, taken, chosen, index) {
  const [x1, y1, , y2] = corners(detection, place);
  const text = `${short(detection.class_name)}  ${detection.score.toFixed(2)}`;
  const width = context.measureText(text).width + size;
  const height = size * 1.6;
  const { width: right, height: bottom } = context.canvas;
  const ratio = context.getTransform().a;
  const left = clamp(x1 - 1, 0, right / ratio - width);
  const spots = [y1 - height, y1, y2, y2 - height].map((top) => [left, clamp(top, 0, bottom / ratio - height), width, height]);
  const spot = spots.find((one) => !taken.some((other) => meet(one, other))) ?? (index === chosen ? spots[0] : null);
  if (!spot) return;
  taken.push(spot);
  const colour = classColour(detection.class_id);
  context.globalAlpha = chosen >= 0 && index !== chosen ? 0.5 : 1;
  context.fillStyle = css(colour);
  context.beginPath();
  context.roundRect(spot[0], spot[1], width, height, size / 4);
  context.fill();
  context.fillStyle = inkOn(colour);
  context.fillText(text, spot[0] + size / 2, spot[1] + height / 2 + size / 20);
  context.globalAlpha = 1;
}

const short = (name) => (name.length > LONGEST_LABEL ? `${name.slice(0, LONGEST_LABEL - 1)}…` : name);
const clamp = (value, least, most) => Math.max(least, Math.min(value, most));
const meet = (a, b) => a[0] < b[0] + b[2] && b[0] < a[0] + a[2] && a[1] < b[1] + b[3] && b[1] < a[1] + a[3];
