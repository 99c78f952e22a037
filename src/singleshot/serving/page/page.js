// The page: pictures in, boxes out. Sliders and classes work on candidates that the service gave once.

import { Camera, grab } from "./camera.js";
import { listClasses, listDetections, make, markChosen, markThumbnail, thumbnail } from "./lists.js";
import { Picture, ask, prefer } from "./pictures.js";
import { samplePicture, SAMPLES } from "./samples.js";
import { asJson, crops, download, pictureWithBoxes, stem } from "./save.js";
import { LEAST_SCORE, listModels, suppressesHere, useToken } from "./service.js";
import { suppress } from "./suppress.js";
import { Look, Pane } from "./view.js";

const $ = (id) => document.getElementById(id);
const DEFAULT_OVERLAP = 0.45;
const SPEAK_AFTER_MS = 500;

const state = {
  models: [],
  pictures: [],
  current: null,
  score: 0.5,
  overlap: DEFAULT_OVERLAP,
  hidden: new Set(),
  live: new Map(), // the camera's newest answers, by model
};
const look = new Look(() => drawAll());
const panes = [];
const camera = new Camera(showFrame, cameraFailed);

// What is chosen

const modelNamed = (name) => state.models.find((model) => model.name === name);
const chosenModels = () => [$("model").value, $("second").value].map(modelNamed).filter(Boolean);
const settings = () => ({ score: state.score, overlap: state.overlap, hidden: state.hidden });

function answerOf(model) {
  return camera.on ? state.live.get(model.name) : state.current?.answers.get(model.name)?.answer;
}

/** Detections of an answer with the sliders and classes as they are. */
function chosenOf(answer, model, hidden = state.hidden) {
  const overlap = suppressesHere(model) ? state.overlap : null;
  return answer ? suppress(answer.candidates, model, answer.size_hw, { ...settings(), overlap, hidden }) : [];
}

// Showing

let waitingFrame = 0;

/** Shows everything anew, at most once for each frame of the screen. */
function refresh() {
  waitingFrame ||= requestAnimationFrame(() => {
    waitingFrame = 0;
    refreshNow();
  });
}

function refreshNow() {
  const shown = camera.on || state.current !== null;
  $("welcome").hidden = shown;
  $("panes").hidden = $("tools").hidden = !shown;
  $("strip").hidden = !shown && state.pictures.length === 0;
  for (const id of ["take", "stop"]) $(id).hidden = !camera.on;
  document.body.classList.toggle("busy", isWaiting());
  layPanes();
  panes.forEach(showPane);
  showLists();
  showControls();
  for (const row of $("thumbnails").children) {
    const model = chosenModels()[0];
    const entry = model && row.picture.answers.get(model.name);
    markThumbnail(row, row.picture === state.current && !camera.on, entry, model && entry?.answer ? chosenOf(entry.answer, model).length : 0);
  }
}

function isWaiting() {
  return !camera.on && chosenModels().some((model) => state.current?.answers.get(model.name)?.state === "waiting");
}

/** One pane for each chosen model. */
function layPanes() {
  const models = chosenModels();
  while (panes.length > models.length) panes.pop().element.remove();
  while (panes.length < models.length) {
    const pane = new Pane(look, choose);
    panes.push(pane);
    $("panes").append(pane.element);
  }
  panes.forEach((pane, at) => (pane.model = models[at]));
  $("panes").classList.toggle("two", models.length > 1);
}

function showPane(pane) {
  const answer = answerOf(pane.model);
  pane.detections = chosenOf(answer, pane.model);
  const entry = camera.on ? null : state.current?.answers.get(pane.model.name);
  const title = camera.on ? "Camera" : (state.current?.name ?? "");
  const words = entry?.error ? entry.error.message : entry?.state === "waiting" ? waitingWords(entry) : summary(pane.detections);
  const took = answer && !camera.on ? timeWords(answer.ms) : "";
  const again = entry?.error && make("button", { type: "button", class: "link", onclick: askAgain }, "Try again");
  pane.caption.replaceChildren(
    make("strong", {}, pane.model.name),
    make("span", { class: entry?.error ? "error" : "" }, words),
    ...[took && make("span", { class: "soft" }, took), again].filter(Boolean),
  );
  pane.describe(`${title}, ${pane.model.name}: ${words}. Plus and minus zoom, arrows move, 0 fits.`);
  if (camera.on && answer) pane.show(pane.content, answer.size_hw.toReversed());
  else pane.draw();
}

const waitingWords = (entry) => (entry.busy ? `The service is busy; asking again in ${entry.busy} s …` : "Detecting …");
const timeWords = (ms) => (ms ? `${Math.round(ms.total)} ms` : "");

/** "3 detections: 2 cup, 1 clock". */
function summary(detections) {
  if (detections.length === 0) return "No detections at these settings";
  const counts = new Map();
  for (const { class_name: name } of detections) counts.set(name, (counts.get(name) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([name, count]) => `${count} ${name}`);
  const more = counts.size > parts.length ? ", …" : "";
  return `${detections.length} ${detections.length === 1 ? "detection" : "detections"}: ${parts.join(", ")}${more}`;
}

function showLists() {
  const found = new Map();
  for (const pane of panes) {
    for (const { class_name: name, class_id: label } of chosenOf(answerOf(pane.model), pane.model, new Set())) {
      if (!found.has(name)) found.set(name, { label, count: 0 });
      if (pane === panes[0]) found.get(name).count++;
    }
  }
  const ordered = new Map([...found].sort((a, b) => a[1].label - b[1].label));
  listClasses($("classes"), ordered, state.hidden, toggleClass);
  $("no-classes").hidden = found.size > 0;
  const groups = panes.map((pane) => ({ title: panes.length > 1 ? pane.model.name : "", pane }));
  if (!camera.on || !$("found").contains(document.activeElement)) listDetections($("found"), groups, choose);
  $("count").textContent = !camera.on && !state.current ? "" : panes.map((pane) => pane.detections.length).join(" / ");
  speak(panes.map((pane) => (panes.length > 1 ? `${pane.model.name}: ` : "") + (pane.caption.children[1]?.textContent ?? "")).join(". "));
}

function showControls() {
  $("score").value = state.score;
  $("score-value").textContent = state.score.toFixed(2);
  $("overlap").value = state.overlap;
  $("overlap-value").textContent = state.overlap.toFixed(2);
  const here = chosenModels().some(suppressesHere);
  $("overlap-row").hidden = !here;
  $("overlap-note").hidden = chosenModels().every(suppressesHere);
  $("zoom").textContent = `${Math.round(100 * look.zoom)} %`;
  const answered = chosenModels().slice(0, 1).some(answerOf);
  for (const name of ["save-picture", "save-json", "save-crops"]) button(name).disabled = !answered;
  button("save-json").textContent = state.pictures.length > 1 && !camera.on ? `JSON of all ${state.pictures.length}` : "JSON";
  button("remove").disabled = camera.on || !state.current;
}

const button = (name) => document.querySelector(`[data-do="${name}"]`);

function drawAll() {
  $("zoom").textContent = `${Math.round(100 * look.zoom)} %`;
  for (const pane of panes) pane.draw();
}

let speaking = 0;

/** Tells a screen reader, once things have settled; a camera would never let it finish. */
function speak(words) {
  clearTimeout(speaking);
  if (camera.on || (!state.current && panes.length)) return;
  speaking = setTimeout(() => ($("status").textContent = words), SPEAK_AFTER_MS);
}

function complain(message) {
  $("alert").hidden = !message;
  $("alert").textContent = message;
}

/** Points at a box in its pane and in the list; -1 points at none. */
function choose(pane, index) {
  if (pane.chosen === index) return;
  pane.chosen = index;
  pane.draw();
  markChosen($("found"), pane, index);
}

// Pictures

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
  if (model) for (const picture of added) ask(picture, model, answered);
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
    else if (!shown) pane.show(make("div", { class: "blank" }, "This browser cannot show this kind of file; its boxes are drawn all the same."), size ?? [4, 3]);
    pane.picture = state.current;
  }
}

function askChosen() {
  if (camera.on || !state.current) return;
  for (const model of chosenModels()) ask(state.current, model, answered);
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
    state.live.clear();
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
  state.live.clear();
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

function toggleClass(name, on) {
  if (on) state.hidden.delete(name);
  else state.hidden.add(name);
  refresh();
}

async function modelsChanged() {
  const [first] = chosenModels();
  for (const option of $("second").options) option.disabled = option.value === first?.name;
  if ($("second").value === first?.name) $("second").value = "";
  state.live.clear();
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
    state.overlap = first.nms_iou ?? DEFAULT_OVERLAP;
  }
  modelsChanged();
}

function askForToken(message) {
  $("token-form").hidden = false;
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

// Downloads

async function save(make_, ending) {
  const [model] = chosenModels();
  const detections = panes[0].detections;
  try {
    const name = camera.on ? "camera.jpg" : state.current.name;
    const size = camera.on ? panes[0].size : state.current.size;
    if (!camera.on && !state.current.shown) throw new Error("This browser cannot show this kind of file, and so not save it.");
    const blob = await make_(panes[0].content, size, detections, name, model);
    download(blob, `${stem(name)}${ending}`);
  } catch (error) {
    complain(error.message);
  }
}

const savePicture = () =>
  save(async (image, size, detections) => {
    const { blob, smaller } = await pictureWithBoxes(image, size, detections);
    complain(smaller ? "The picture was saved smaller than it is: this browser has no room for its full size." : "");
    return blob;
  }, "_boxes.jpg");

const saveCrops = () => save(crops, "_crops.zip");

/** All pictures with the settings as they are; waits for those that are not yet answered. */
async function saveJson() {
  const [model] = chosenModels();
  const results = [];
  const failed = [];
  const entries = camera.on ? [] : await Promise.all(state.pictures.map((picture) => ask(picture, model, answered)));
  if (camera.on) results.push(record("camera", answerOf(model), model));
  entries.forEach(({ answer }, at) => (answer ? results : failed).push(record(state.pictures[at].name, answer, model)));
  if (failed.length) complain(`Not in the file, since they failed: ${failed.map(({ name }) => name).join(", ")}`);
  const name = results.length === 1 ? `${stem(results[0].name)}.json` : "detections.json";
  if (results.length) download(asJson(model, results, settings()), name);
}

const record = (name, answer, model) => ({ name, image_size_hw: answer?.size_hw, detections: chosenOf(answer, model) });

// Wiring

const ACTIONS = {
  pick: () => $("files").click(),
  camera: startCamera,
  remove: removePicture,
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
