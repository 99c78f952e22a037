// Downloads: the picture with its boxes, the detections as JSON, what is in the boxes.

import { drawDetections } from "./draw.js";
import { zip } from "./zip.js";

const QUALITY = 0.92;
const LARGEST_SIDES = [Infinity, 8192, 4096]; // browsers differ in how large a canvas may be

/** Hands a Blob to the browser's downloads. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A file's name without its ending, fit for any file system. */
export function stem(name) {
  const plain = name.replace(/[\\/:*?"<>|\u0000-\u001f\u007f]/g, "_").replace(/\.[^.]{1,5}$/, "");
  return plain.replace(/^\.+/, "").slice(0, 100) || "picture";
}

/** The picture with its boxes: a JPEG, and whether it had to be made smaller. */
export async function pictureWithBoxes(image, [width, height], detections) {
  for (const side of LARGEST_SIDES) {
    const scale = Math.min(1, side / Math.max(width, height));
    const canvas = newCanvas(width * scale, height * scale);
    const context = canvas.getContext("2d");
    if (!context) continue;
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const letters = Math.max(12, Math.min(canvas.width, canvas.height) / 40);
    drawDetections(context, detections, { scale, x: 0, y: 0 }, letters);
    const blob = await asJpeg(canvas);
    if (blob) return { blob, smaller: scale < 1 };
  }
  throw new Error("This browser has no room for a picture so large.");
}

/** A zip of what is in each box. */
export async function crops(image, [width, height], detections, name) {
  const files = [];
  for (const [index, { box_xyxy: box, class_name: label, score }] of detections.entries()) {
    const [x1, y1] = [Math.max(0, Math.floor(box[0])), Math.max(0, Math.floor(box[1]))];
    const [x2, y2] = [Math.min(width, Math.ceil(box[2])), Math.min(height, Math.ceil(box[3]))];
    if (x2 <= x1 || y2 <= y1) continue;
    const canvas = newCanvas(x2 - x1, y2 - y1);
    canvas.getContext("2d").drawImage(image, -x1, -y1, width, height);
    const blob = await asJpeg(canvas);
    if (!blob) throw new Error("This browser has no room for a crop so large.");
    const number = String(index + 1).padStart(3, "0");
    files.push({
      name: `${stem(name)}_${number}_${stem(`${label}.x`)}_${score.toFixed(2)}.jpg`,
      bytes: new Uint8Array(await blob.arrayBuffer()),
    });
  }
  return zip(files);
}

/** Detections in the form that `POST /detect` answers, with the settings that chose them. */
export function asJson(model, results, settings) {
  const document = {
    model: model.name,
    class_names: model.class_names,
    settings: { score: settings.score, nms_iou: settings.overlap, hidden_classes: [...settings.hidden] },
    results,
  };
  return new Blob([JSON.stringify(document, null, 1)], { type: "application/json" });
}

function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width));
  canvas.height = Math.max(1, Math.round(height));
  return canvas;
}

const asJpeg = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
