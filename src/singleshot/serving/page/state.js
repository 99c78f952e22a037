// What the page holds, and what the sliders, menus and classes choose of it.

import { suppressesHere } from "./service.js";
import { suppress } from "./suppress.js";

export const $ = (id) => document.getElementById(id);
export const button = (name) => document.querySelector(`[data-do="${name}"]`);

export const state = {
  models: [],
  pictures: [],
  current: null,
  score: 0.5,
  overlap: 0.45,
  hidden: new Set(), // names of classes
  live: null, // the camera's newest answers, by model; null while it is off
};

const modelNamed = (name) => state.models.find((model) => model.name === name);
export const chosenModels = () => [$("model").value, $("second").value].map(modelNamed).filter(Boolean);
export const settings = () => ({ score: state.score, overlap: state.overlap, hidden: state.hidden });

/** What a model said of the current picture or frame. */
export function answerOf(model) {
  return state.live ? state.live.get(model.name) : state.current?.answers.get(model.name)?.answer;
}

/** Detections of an answer with the sliders and classes as they are. */
export function chosenOf(answer, model, hidden = state.hidden) {
  const overlap = suppressesHere(model) ? state.overlap : null;
  return answer ? suppress(answer.candidates, model, answer.size_hw, { ...settings(), overlap, hidden }) : [];
}

