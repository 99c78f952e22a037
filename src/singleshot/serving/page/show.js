// Shows the state: panes, lists, controls.

import { listClasses, listDetections, make, markChosen, markThumbnail } from "./lists.js";
import { suppressesHere } from "./service.js";
import { $, answerOf, button, chosenModels, chosenOf, state } from "./state.js";
import { Look, Pane } from "./view.js";

const SPEAK_AFTER_MS = 500;
const MARK_AFTER_MS = 80;

export const look = new Look(drawAll);
export const panes = [];

let waitingFrame = 0;

/** Shows everything anew, at most once for each frame of the screen. */
export function refresh() {
  waitingFrame ||= requestAnimationFrame(() => {
    waitingFrame = 0;
    refreshNow();
  });
}

export function refreshNow() {
  const shown = state.live || state.current !== null;
  $("welcome").hidden = shown;
  $("panes").hidden = $("tools").hidden = !shown;
  $("strip").hidden = !shown && state.pictures.length === 0;
  for (const id of ["take", "stop"]) $(id).hidden = !state.live;
  document.body.classList.toggle("busy", isWaiting());
  layPanes();
  panes.forEach(showPane);
  showLists();
  showControls();
  clearTimeout(waitingMarks);
  waitingMarks = setTimeout(showMarks, MARK_AFTER_MS);
}

let waitingMarks = 0;

/** What the strip says of each picture; while a slider moves it waits. */
function showMarks() {
  const [model] = chosenModels();
  for (const row of $("thumbnails").children) {
    const entry = model && row.picture.answers.get(model.name);
    const count = entry?.answer ? chosenOf(entry.answer, model).length : 0;
    markThumbnail(row, row.picture === state.current && !state.live, entry, count);
  }
}

function isWaiting() {
  return !state.live && chosenModels().some((model) => state.current?.answers.get(model.name)?.state === "waiting");
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
  const entry = state.live ? null : state.current?.answers.get(pane.model.name);
  const title = state.live ? "Camera" : (state.current?.name ?? "");
  const words = entry?.error ? entry.error.message : entry?.state === "waiting" ? waitingWords(entry) : summary(pane.detections);
  const took = answer && !state.live ? timeWords(answer.ms) : "";
  const again = entry?.error?.mayPass && make("button", { type: "button", class: "link", "data-do": "again" }, "Try again");
  pane.caption.replaceChildren(
    make("strong", {}, pane.model.name),
    make("span", { class: entry?.error ? "words error" : "words" }, words),
    ...[took && make("span", { class: "soft" }, took), again].filter(Boolean),
  );
  pane.describe(`${title}, ${pane.model.name}: ${words}. Plus and minus zoom, arrows move, 0 fits.`);
  if (state.live && answer) pane.show(pane.content, answer.size_hw.toReversed());
  else pane.draw();
}

const waitingWords = (entry) => (entry.busy ? `The service is busy; asking again in ${entry.busy} s …` : "Detecting …");
const timeWords = (ms) => (ms ? `${Math.round(ms.total)} ms` : "");

/** "3 detections: 2 cup, 1 clock". */
function summary(detections) {
  if (detections.length === 0) return "No detections at these settings";
  const counts = new Map();
  for (const { class_name: name } of detections) counts.set(name, (counts.get(name) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).slice(0, panes.length > 1 ? 3 : 6).map(([name, count]) => `${count} ${name}`);
  const more = counts.size > parts.length ? ", …" : "";
  return `${detections.length} ${detections.length === 1 ? "detection" : "detections"}: ${parts.join(", ")}${more}`;
}

function showLists() {
  const found = new Map();
  for (const pane of panes) {
    for (const { class_name: name, class_id: label } of chosenOf(answerOf(pane.model), pane.model, new Set())) {
      if (!found.has(name)) found.set(name, { label, counts: panes.map(() => 0) });
      found.get(name).counts[panes.indexOf(pane)]++;
    }
  }
  const ordered = new Map([...found].sort((a, b) => a[1].label - b[1].label));
  listClasses($("classes"), ordered, state.hidden, toggleClass);
  $("no-classes").hidden = found.size > 0;
  const groups = panes.map((pane) => ({ title: panes.length > 1 ? pane.model.name : "", pane }));
  if (!state.live || !$("found").contains(document.activeElement)) listDetections($("found"), groups, choose);
  $("count").textContent = !state.live && !state.current ? "" : panes.map((pane) => pane.detections.length).join(" / ");
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
  const complete = Math.max(0, ...chosenModels().map((model) => answerOf(model)?.completeFrom ?? 0));
  $("score-note").hidden = state.score >= complete;
  $("score-note").textContent = `Below ${complete.toFixed(2)} some boxes may be missing: the model gives so many of a class and no more.`;
  $("zoom").textContent = `${Math.round(100 * look.zoom)} %`;
  const answered = chosenModels().slice(0, 1).some(answerOf);
  for (const name of ["save-picture", "save-json", "save-crops"]) button(name).disabled = !answered;
  button("save-json").textContent = state.pictures.length > 1 && !state.live ? `JSON of all ${state.pictures.length}` : "JSON";
  button("remove").disabled = state.live || !state.current;
}

function drawAll() {
  $("zoom").textContent = `${Math.round(100 * look.zoom)} %`;
  for (const pane of panes) pane.draw();
}

let speaking = 0;

/** Tells a screen reader, once things have settled; a camera would never let it finish. */
function speak(words) {
  clearTimeout(speaking);
  if (state.live || (!state.current && panes.length)) return;
  speaking = setTimeout(() => ($("status").textContent = words), SPEAK_AFTER_MS);
}

/** Says what went wrong; an empty message says that nothing is wrong any more. */
export function complain(message) {
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

function toggleClass(name, on) {
  if (on) state.hidden.delete(name);
  else state.hidden.add(name);
  refresh();
}
