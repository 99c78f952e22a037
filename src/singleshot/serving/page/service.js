// Requests to the service, and what its errors mean to a person.

/** Candidates that score less are not asked for: the sliders begin here. */
export const LEAST_SCORE = 0.05;
const TRIES = 4;
const LONGEST_WAIT_S = 8;

/** What went wrong, in words; status is 0 where the service did not answer. */
export class ServiceError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

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
  return (await response.json()).models;
}

/**
 * Candidates of one picture: its size in pixels and its boxes above LEAST_SCORE, not suppressed unless the model's way
 * of suppression is its own.
 *
 * waiting: is called with the seconds that the service, being busy, asked to wait.
 */
export async function detect(blob, model, { signal, waiting, patient = true }) {
  const query = new URLSearchParams({ model: model.name, score: LEAST_SCORE, ...candidateSettings(model) });
  const options = { method: "POST", body: blob, headers: { "Content-Type": blob.type || "application/octet-stream" } };
  for (let tries = 1; ; tries++) {
    const response = await answer(`detect?${query}`, options, signal);
    if (response.ok) return readAnswer(await response.json());
    const seconds = Number(response.headers.get("Retry-After"));
    const again = response.status === 503 && patient && tries < TRIES && seconds <= LONGEST_WAIT_S;
    if (!again) throw await failure(response);
    waiting?.(Math.max(1, seconds));
    await pause(Math.max(1, seconds));
  }
}

/** Whether the page can suppress as the model does. */
export const suppressesHere = (model) => (model.nms ?? "greedy") === "greedy";

function candidateSettings(model) {
  return suppressesHere(model) ? { nms_iou: 1 } : {};
}

function readAnswer(body) {
  const result = body.results[0];
  if (result.error) throw new ServiceError(`The service cannot read this picture: ${result.error}`, 400);
  return { size_hw: result.image_size_hw, candidates: result.detections, ms: body.ms };
}
