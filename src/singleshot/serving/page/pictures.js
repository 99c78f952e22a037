// The pictures on the page, and what the service said of each.

import { detect } from "./service.js";

const AT_ONCE = 4;
const THUMBNAIL_PX = 144;

let nextId = 1;

export class Picture {
  constructor(blob, name) {
    this.id = nextId++;
    this.blob = blob;
    this.name = name || "picture";
    this.url = URL.createObjectURL(blob);
    this.answers = new Map(); // by model: {state: "waiting" | "done" | "failed", answer, error, busy}
    this.size = null; // pixels, as soon as the browser or the service knows
    this.shown = true; // whether the browser can show it
  }

  /** Waits until the browser has decoded it, or cannot. */
  async load() {
    const image = this.image();
    try {
      await image.decode();
      this.size = [image.naturalWidth, image.naturalHeight];
    } catch {
      this.shown = false;
    }
    return this;
  }

  image() {
    const image = new Image();
    image.alt = "";
    image.draggable = false;
    image.src = this.url;
    return image;
  }

  /** A small canvas; null where the browser cannot show the picture. */
  async thumbnail() {
    try {
      const bitmap = await createImageBitmap(this.blob, { resizeHeight: THUMBNAIL_PX, resizeQuality: "medium" });
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      bitmap.close();
      return canvas;
    } catch {
      return null;
    }
  }

  /** Forgets it: what is still asked is no longer wanted. */
  close() {
    URL.revokeObjectURL(this.url);
    for (const { abort } of this.answers.values()) abort?.abort();
  }
}


const line = [];
let running = 0;
let changed = () => {};

/** Calls watcher(picture) whenever something about an answer is new. */
export function watchAnswers(watcher) {
  changed = watcher;
}

/** Asks the service about a picture, once. Gives {state, answer, error}. */
export function ask(picture, model) {
  const known = picture.answers.get(model.name);
  if (known && known.state !== "failed") return known.promise;
  const entry = { state: "waiting", answer: null, error: null, busy: 0, abort: new AbortController() };
  picture.answers.set(model.name, entry);
  entry.promise = new Promise((resolve) => line.push({ picture, model, entry, resolve }));
  work();
  return entry.promise;
}

/** Lets what is asked about this picture go first. */
export function prefer(picture) {
  line.sort((a, b) => (b.picture === picture) - (a.picture === picture));
}

async function work() {
  if (running >= AT_ONCE || line.length === 0) return;
  running++;
  const { picture, model, entry, resolve } = line.shift();
  try {
    const waiting = (seconds) => {
      entry.busy = seconds;
      changed(picture);
    };
    entry.answer = await detect(picture.blob, model, { signal: entry.abort.signal, waiting });
    entry.state = "done";
    picture.size ??= entry.answer.size_hw.toReversed();
  } catch (error) {
    entry.state = "failed";
    entry.error = error;
  }
  running--;
  changed(picture);
  resolve(entry);
  work();
}
