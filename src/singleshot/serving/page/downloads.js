// The download buttons.

import { ask } from "./pictures.js";
import { asJson, crops, download, pictureWithBoxes, stem } from "./save.js";
import { suppressesHere } from "./service.js";
import { complain, panes } from "./show.js";
import { answerOf, chosenModels, chosenOf, settings, state } from "./state.js";

async function save(build, ending) {
  const [model] = chosenModels();
  const detections = panes[0].detections;
  try {
    const name = state.live ? "camera.jpg" : state.current.name;
    const size = state.live ? panes[0].size : state.current.size;
    if (!state.live && !state.current.shown) throw new Error("This browser cannot show this kind of file, and so not save it.");
    const blob = await build(panes[0].content, size, detections, name, model);
    download(blob, `${stem(name)}${ending}`);
  } catch (error) {
    complain(error.message);
  }
}

export const savePicture = () =>
  save(async (image, size, detections) => {
    const { blob, smaller } = await pictureWithBoxes(image, size, detections);
    complain(smaller ? "The picture was saved smaller than it is: this browser has no room for its full size." : "");
    return blob;
  }, "_boxes.jpg");

export const saveCrops = () => save(crops, "_crops.zip");

/** All pictures with the settings as they are; waits for those that are not yet answered. */
export async function saveJson() {
  const [model] = chosenModels();
  const results = [];
  const failed = [];
  const entries = state.live ? [] : await Promise.all(state.pictures.map((picture) => ask(picture, model)));
  if (state.live) results.push(record("camera", answerOf(model), model));
  entries.forEach(({ answer }, at) => (answer ? results : failed).push(record(state.pictures[at].name, answer, model)));
  if (failed.length) complain(`Not in the file, since they failed: ${failed.map(({ name }) => name).join(", ")}`);
  const name = results.length === 1 ? `${stem(results[0].name)}.json` : "detections.json";
  const overlap = suppressesHere(model) ? state.overlap : null; // null: the model's own
  if (results.length) download(asJson(model, results, { ...settings(), overlap }), name);
}

const record = (name, answer, model) => ({ name, image_size_hw: answer?.size_hw, detections: chosenOf(answer, model) });
