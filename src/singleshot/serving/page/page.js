// The page: pictures in, boxes out. Sliders and classes work on candidates that the service gave once.

import { Camera, grab } from "./camera.js";
import { saveCrops, saveJson, savePicture } from "./downloads.js";
import { make, thumbnail } from "./lists.js";
import { Picture, ask, prefer, watchAnswers } from "./pictures.js";
import { SAMPLES, samplePicture } from "./samples.js";
import { LEAST_SCORE, listModels, useToken } from "./service.js";
import { complain, look, panes, refresh, refreshNow } from "./show.js";
import { $, button, chosenModels, state } from "./state.js";

const camera = new Camera(showFrame, cameraFailed);

// Pictures

watchAnswers(answered);

function addPictures(files) {
  const added = [...files].map((file) => new Picture(file, file.name));
  if (added.length === 0) return;
  complain("");
  for (const picture of added) {
    state.pictures.push(picture);
    $("thumbnails").append(thumbnail(picture, open));
  }
  const model = chosenModels()[0];
  open(added[0]);
  if (model) for (const picture of added) ask(picture, model);
}

async function open(picture) {
  stopCamera();
  state.current = picture;
  look.fit();
  prefer(picture);
  askChosen();
  refresh();
  await picture.load();
  if (state.current !== picture) return;
  refreshNow();
  showContent();
}

/** Puts the current picture into every pane. */
function showContent() {
  for (const pane of panes) {
    if (camera.on || !state.current) continue;
    const { shown, size } = state.current;
    if (shown && size && pane.picture !== state.current) pane.show(state.current.image(), size);
    else if (!shown) pane.show(make("div", { class: "blank" }, blankWords(state.current)), size ?? [4, 3]);
    pane.picture = state.current;
  }
}

function blankWords(picture) {
  const failed = chosenModels().some((model) => picture.answers.get(model.name)?.error);
  return failed ? "Nothing to show" : "This browser cannot show this kind of file; its boxes are drawn all the same.";
}

function askChosen() {
  if (camera.on || !state.current) return;
  for (const model of chosenModels()) ask(state.current, model);
  prefer(state.current);
}

function askAgain() {
  askChosen();
  refresh();
}

function answered(picture) {
  const failed = chosenModels().map((model) => picture.answers.get(model.name)?.error).find(Boolean);
  if (failed?.status === 401) askForToken(failed.message);
  if (picture === state.current && !picture.shown) showContent();
  refresh();
}

function removePicture() {
  const at = state.pictures.indexOf(state.current);
  if (at < 0) return;
  state.current.close();
  state.pictures.splice(at, 1);
  $("thumbnails").children[at].remove();
  const next = state.pictures[Math.min(at, state.pictures.length - 1)] ?? null;
  state.current = next;
  if (next) open(next);
  else refreshNow();
  (next ? $("thumbnails").children[Math.min(at, state.pictures.length - 1)].querySelector("button") : button("pick")).focus();
}

// Camera

async function startCamera() {
  if (camera.on) return;
  complain("");
  try {
    await camera.start();
    state.live = new Map();
    look.fit();
    refreshNow();
    await fillVideos();
    camera.run(panes[0].content, chosenModels);
  } catch (error) {
    stopCamera();
    complain(error.message);
  }
}

async function fillVideos() {
  for (const pane of panes) {
    if (pane.content?.tagName === "VIDEO") continue;
    const video = await camera.video();
    if (camera.on) pane.show(video, [video.videoWidth, video.videoHeight]);
    pane.picture = null;
  }
}

function showFrame(answers) {
  complain("");
  state.live = answers;
  refresh();
}

function cameraFailed(error, goesOn = false) {
  if (error.status === 401) askForToken(error.message);
  if (!goesOn) stopCamera();
  complain(error.message);
}

function stopCamera() {
  if (!camera.on) return;
  camera.stop();
  state.live = null;
  for (const pane of panes) pane.picture = null;
  refreshNow();
  showContent();
}

async function takePicture() {
  const blob = await grab(panes[0].content, Infinity);
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  addPictures([new File([blob], `camera ${time}.jpg`, { type: blob.type })]);
}

// Settings

async function modelsChanged() {
  const [first] = chosenModels();
  for (const option of $("second").options) option.disabled = option.value === first?.name;
  if ($("second").value === first?.name) $("second").value = "";
  state.live?.clear();
  refreshNow();
  if (camera.on) await fillVideos();
  else {
    showContent();
    askChosen();
  }
  refresh();
}

async function loadModels() {
  try {
    state.models = await listModels();
  } catch (error) {
    if (error.status === 401) askForToken(error.message);
    return complain(error.message);
  }
  complain(state.models.length ? "" : "The service has no model yet.");
  const options = () => state.models.map(({ name }) => make("option", { value: name }, name));
  $("model").replaceChildren(...options());
  $("second").replaceChildren(make("option", { value: "" }, "nothing"), ...options());
  $("second-label").hidden = state.models.length < 2;
  const [first] = state.models;
  if (first) {
    state.score = Math.max(LEAST_SCORE, first.score ?? state.score);
    state.overlap = first.nms_iou ?? state.overlap;
  }
  modelsChanged();
}

function askForToken(message) {
  $("token-form").hidden = false;
  $("links").hidden = true; // a link sends no token
  complain(message);
  $("token").focus();
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token").value);
  $("token-form").hidden = true;
  complain("");
  loadModels();
});

// Wiring

const ACTIONS = {
  pick: () => $("files").click(),
  camera: startCamera,
  remove: removePicture,
  again: askAgain,
  take: takePicture,
  stop: stopCamera,
  in: () => look.by(1.5),
  out: () => look.by(1 / 1.5),
  fit: () => look.fit(),
  all: () => (state.hidden.clear(), refresh()),
  none: () => ([...$("classes").children].forEach((row) => state.hidden.add(row.name)), refresh()),
  "save-picture": savePicture,
  "save-json": saveJson,
  "save-crops": saveCrops,
};

document.addEventListener("click", (event) => ACTIONS[event.target.closest("[data-do]")?.dataset.do]?.());
$("files").addEventListener("change", () => {
  addPictures($("files").files);
  $("files").value = "";
});
for (const name of ["score", "overlap"]) {
  $(name).addEventListener("input", () => {
    state[name] = Number($(name).value);
    refresh();
  });
}
for (const id of ["model", "second"]) $(id).addEventListener("change", modelsChanged);

document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) event.preventDefault();
  addPictures(files);
});
let inside = 0;
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => carriesFiles(event) && document.body.classList.toggle("dropping", ++inside > 0));
document.addEventListener("dragleave", (event) => carriesFiles(event) && document.body.classList.toggle("dropping", --inside > 0));
document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("dropping");
  const isFolder = (item) => item.webkitGetAsEntry?.()?.isDirectory;
  if ([...event.dataTransfer.items].some(isFolder)) return complain("A folder cannot be dropped here: drop the pictures in it.");
  addPictures(event.dataTransfer.files);
});

for (const { name, title } of SAMPLES) {
  const load = async () => {
    try {
      addPictures([await samplePicture(name)]);
    } catch (error) {
      complain(error.message);
    }
  };
  const image = make("img", { src: `page/${name}.svg`, alt: "", width: 120, height: 80 });
  $("samples").append(make("button", { type: "button", class: "sample", onclick: load }, image, title));
}

loadModels();
