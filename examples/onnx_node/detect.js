// Detects objects in a JPEG or PNG with a file of `singleshot export MODEL --format onnx --level end2end --dynamic`.
//
//   npm install --ignore-scripts
//   node detect.js model.onnx photo.jpg
//
// The file holds resize, normalisation, decoding and NMS: pixels go in, boxes in pixels of the photo come out.
// Its thresholds are those of the export (--score): onnxruntime-node passes on no others.

import { readFileSync } from "node:fs";
import jpeg from "jpeg-js";
import ort from "onnxruntime-node";
import { PNG } from "pngjs";

const [model, photo] = process.argv.slice(2);
if (photo === undefined) {
  console.error("usage: node detect.js model.onnx photo.jpg");
  process.exit(2);
}

// Names of the classes stand in the file's metadata, as JSON under the key "singleshot".
// onnxruntime-node does not show metadata, so this finds it in the bytes: the text is stored as it is.
function classNames(path) {
  const bytes = readFileSync(path).toString("latin1");
  const start = bytes.lastIndexOf('{"format":1');
  let depth = 0;
  for (let at = start; start >= 0 && at < bytes.length; at += 1) {
    if (bytes[at] === '"') {
      for (at += 1; bytes[at] !== '"'; at += 1) if (bytes[at] === "\\") at += 1;
    } else if (bytes[at] === "{") depth += 1;
    else if (bytes[at] === "}" && (depth -= 1) === 0) {
      const text = Buffer.from(bytes.slice(start, at + 1), "latin1").toString("utf8");
      return JSON.parse(text).spec.class_names;
    }
  }
  return [];
}

// RGB bytes, row by row. (JPEG decoders differ by some levels of a pixel, and so do scores by some hundredths then.)
function readPicture(path) {
  const bytes = readFileSync(path);
  if (bytes[0] !== 0x89) return jpeg.decode(bytes, { useTArray: true, formatAsRGBA: false });
  const { width, height, data: rgba } = PNG.sync.read(bytes);
  return { width, height, data: Uint8Array.from({ length: width * height * 3 }, (_, at) => rgba[at + Math.floor(at / 3)]) };
}

const { width, height, data } = readPicture(photo);
const session = await ort.InferenceSession.create(model, { logSeverityLevel: 3 });
const pictures = new ort.Tensor("uint8", data, [1, height, width, 3]);
const { boxes, scores, class_ids: classIds, counts } = await session.run({ pictures });

const names = classNames(model);
for (let row = 0; row < Number(counts.data[0]); row += 1) {
  const id = Number(classIds.data[row]);
  const box = Array.from(boxes.data.slice(4 * row, 4 * row + 4), (value) => value.toFixed(2));
  console.log([names[id] ?? id, scores.data[row].toFixed(4), ...box].join(" "));
}
