// Requests to the service, and what its errors mean to a person.

/** Candidates that score less are not asked for: the sliders begin here. */
export const LEAST_SCORE = 0.05;
/** How the service refuses settings that an exported file has built in. */
const FIXED = /leave it out/;
const MOST_CANDIDATES = 10_000;
const TRIES = 4;
const LONGEST_WAIT_S = 8;

/** What went wrong, in words; status is 0 where the service did not answer. */
export class ServiceError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
    this.mayPass = status === 0 || status === 401 || status === 429 || status >= 500;
  }
}

let mostBytes = Infinity;
const inMegabytes = (bytes) => (bytes / 2 ** 20).toFixed(1);

let token = sessionStorage.getItem("token") ?? "";

/** Sends this token from now on, until the tab is closed. */
export function useToken(value) {
  token = value;
  sessionStorage.setItem("token", value);
}

const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

const WORDS = {
  401: () => "The service wants a token.",
  403: () => "The service refuses requests from this address.",
  404: () => "The service no longer has this model. Reload the page to see what it has.",
  413: (said) => `The picture is too large for this service. ${said}`,
  415: (said) => `This is not a picture that the service can read. ${said}`,
  429: () => "Too many requests. Wait a moment, then try again.",
  500: () => "The service failed on this picture. Its log says why.",
  503: () => "The service is busy. Wait a moment, then try again.",
  504: () => "The service could not answer in time. Try again, or when it is less busy.",
};

async function failure(response) {
  let said = "";
  try {
    const body = await response.json();
    said = body.error?.message ?? "";
  } catch {
    // not our service's words: a proxy's page, perhaps
  }
  const words = WORDS[response.status];
  return new ServiceError(words ? words(said).trim() : said || `The service answered ${response.status}.`, response.status);
}

async function answer(address, options, signal) {
  try {
    return await fetch(address, { ...options, headers: { ...headers(), ...options.headers }, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("The service does not answer. Is it still running?", 0);
  }
}

/** The models that are served: [{name, class_names, score, nms_iou, ...}]. */
export async function listModels() {
  const response = await answer("models", {}, undefined);
  if (!response.ok) throw await failure(response);
  const { models, max_bytes: most } = await response.json();
  mostBytes = most ?? Infinity;
  return models;
}

/**
 * Candidates of one picture: its size in pixels and its boxes above LEAST_SCORE, not suppressed unless the model's way
 * of suppression is its own.
 *
 * waiting: is called with the seconds that the service, being busy, asked to wait.
 */
export async function detect(blob, model, { signal, waiting, patient = true }) {
  if (blob.size > mostBytes) {
    throw new ServiceError(`This picture has ${inMegabytes(blob.size)} MB; the service takes ${inMegabytes(mostBytes)} MB at most.`, 413);
  }
  const options = { method: "POST", body: blob, headers: { "Content-Type": blob.type || "application/octet-stream" } };
  for (let tries = 1; ; tries++) {
    const query = new URLSearchParams({ model: model.name, ...candidateSettings(model) });
    const response = await answer(`detect?${query}`, options, signal).catch((error) => error);
    if (response instanceof Error) {
      // also what a busy service's early refusal of a large upload looks like
      if (response.status !== 0 || !patient || tries >= TRIES) throw response;
      waiting?.(1);
      await pause(1);
      continue;
    }
    if (response.ok) return readAnswer(await response.json(), model);
    if (response.status === 400 && !model.isFixed) {
      if (!FIXED.test((await response.clone().json()).error?.message ?? "")) throw await failure(response);
      model.isFixed = true;
      continue;
    }
    const seconds = Number(response.headers.get("Retry-After"));
    const again = response.status === 503 && patient && tries < TRIES && seconds <= LONGEST_WAIT_S;
    if (!again) throw await failure(response);
    waiting?.(Math.max(1, seconds));
    await pause(Math.max(1, seconds));
  }
}

/** Whether the page can suppress as the model does. */
export const suppressesHere = (model) => !model.isFixed && model.nms === "greedy";

function candidateSettings(model) {
  if (model.isFixed) return {};
  const candidates = { nms_iou: 1, max_detections: MOST_CANDIDATES, clip: false };
  return { score: LEAST_SCORE, ...(suppressesHere(model) ? candidates : {}) };
}

/** completeFrom: the list may lack candidates that score less, since there is a limit to how many are given. */
function readAnswer(body, model) {
  const result = body.results[0];
  if (result.error) throw new ServiceError(`The service cannot read this picture: ${result.error}`, 400);
  const candidates = result.detections;
  return { size_hw: result.image_size_hw, candidates, ms: body.ms, completeFrom: completeFrom(candidates, model) };
}

function completeFrom(candidates, model) {
  if (!suppressesHere(model)) return 0;
  const counts = new Map();
  let least = candidates.length >= MOST_CANDIDATES ? candidates.at(-1).score : 0;
  for (const { class_id: id, score } of candidates) { // best first
    counts.set(id, (counts.get(id) ?? 0) + 1);
    if (counts.get(id) === model.max_per_class) least = Math.max(least, score);
  }
  return least;
}
