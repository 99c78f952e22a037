// The camera: its stream, and a loop that asks the service about one frame after the other.

import { detect } from "./service.js";

const LONGEST_SIDE = 1280;
const QUALITY = 0.85;
const BUSY_PAUSE_MS = 1000;

const REFUSALS = {
  NotAllowedError: "The browser was told not to use the camera. Allow it in the browser's settings for this page.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is in use by another program.",
};

export class Camera {
  /** told(answers by model's name) after each frame; failed(error, goesOn) when one had none. */
  constructor(told, failed) {
    this.told = told;
    this.failed = failed;
    this.stream = null;
  }

  get on() {
    return this.stream !== null;
  }

  async start() {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers give the camera only to pages on this machine (localhost) or over https.");
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    } catch (error) {
      throw new Error(REFUSALS[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
    this.abort = new AbortController();
    for (const track of this.stream.getVideoTracks()) track.addEventListener("ended", () => this.stop());
  }

  /** A <video> of the stream, for a pane. */
  async video() {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, srcObject: this.stream });
    await video.play();
    return video;
  }

  /** Asks about frame after frame until the camera is stopped; models() gives those to ask. */
  async run(video, models) {
    const { signal } = this.abort;
    while (!signal.aborted) {
      const blob = await grab(video);
      try {
        const asked = models().map(async (model) => [model.name, await detect(blob, model, { signal, patient: false })]);
        const answers = new Map(await Promise.all(asked));
        if (!signal.aborted) this.told(answers);
      } catch (error) {
        if (signal.aborted) return;
        if (error.status !== 503 && error.status !== 504) return this.failed(error);
        this.failed(error, true);
        await new Promise((resolve) => setTimeout(resolve, BUSY_PAUSE_MS));
      }
    }
  }

  stop() {
    if (!this.on) return;
    this.abort.abort();
    for (const track of this.stream.getTracks()) track.stop();
    this.stream = null;
  }
}

/** The frame that a video shows now, as JPEG, no larger than is useful. */
export function grab(video, longest = LONGEST_SIDE) {
  const scale = Math.min(1, longest / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}
