"""A 1080p video next to its two halves: decoding alone, the network alone; and what writing an annotated video adds.

    python benchmarks/video.py [--data FOLDER_OF_PHOTOS] [--frames 200] [--rounds 3] [--json FILE]

The video is made here from photos that move. Everyone has a turn in each round; numbers are medians. "Encoder alone"
writes the same drawn frames, prepared beforehand.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import av
import cv2

import singleshot
from common import take_turns
from singleshot.images.draw import draw_detections
from singleshot.images.preprocess import preprocess_image
from singleshot.prediction.frames import Frame
from singleshot.prediction.job import Output, detect_and_save
from singleshot.prediction.sinks.video import VideoWriter
from singleshot.prediction.streams import Moving
from singleshot.prediction.video import Video

SIZE_WH = (1920, 1080)


def make_clip(path: Path, photos: list[Path], frames: int) -> None:
    """Photos that a camera wanders over, 25 frames each."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = *SIZE_WH, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(frames):
            photo = cv2.imread(str(photos[number // 25 % len(photos)]))
            height, width = photo.shape[:2]
            left = int(0.2 * width * (number % 25) / 25)
            part = cv2.resize(photo[: int(0.8 * height), left : left + int(0.8 * width)], SIZE_WH)
            frame = av.VideoFrame.from_ndarray(part, format="bgr24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def main() -> None:
    """Print a line for each contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    photos = sorted(options.data.rglob("*.jpg"))[:8]
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), photos, options.frames, options.rounds)
    for name, rates in measured.items():
        print(f"{name}: {median(rates):.1f} frames/s")
    slower = [min(pair) for pair in zip(measured["decode alone"], measured["network alone"], strict=True)]
    shares = [ours / other for ours, other in zip(measured["singleshot, to JSON"], slower, strict=True)]
    print(f"share of the slower half: {median(shares):.2f} (goal 0.90)")
    pairs = zip(measured["singleshot, to video"], measured["singleshot, to JSON"], strict=True)
    added = median(1e3 / both - 1e3 / alone for both, alone in pairs)
    own = median(1e3 / rate for rate in measured["draw and encode alone"])
    print(f"an annotated video adds {added:.1f} ms a frame; drawing and encoding alone take {own:.1f} ms")
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1))


def measure(folder: Path, photos: list[Path], frames: int, rounds: int) -> dict[str, list[float]]:
    """Frames a second of everyone in each round."""
    clip = folder / "clip.mp4"
    make_clip(clip, photos, frames)
    model = singleshot.load("coco")
    predictor = model.predictor(images=frames)
    some = [frame for frame in islice(Video(clip), 0, 24) if isinstance(frame, Frame)]
    batches = [preprocess_image(frame.pixels, predictor.preprocess)[None] for frame in some]
    found = [model.predict(frame.pixels) for frame in some]

    def decode() -> None:
        for _ in Video(clip):
            pass

    def network() -> None:
        with ThreadPoolExecutor(predictor.parallel) as pool:
            list(pool.map(predictor.detect, islice(cycle(batches), frames)))

    def ours(kind: str) -> Callable[[], None]:
        def run() -> None:
            with tempfile.TemporaryDirectory() as out, Moving([str(clip)]) as moving:
                output = Output(kinds=[kind], folder=Path(out) / "o")
                detect_and_save(predictor, [], output, moving=moving)

        return run

    def encode() -> None:
        writer = VideoWriter(folder / "again.mp4", SIZE_WH[::-1])
        for number, (frame, own) in enumerate(islice(cycle(zip(some, found, strict=True)), frames)):
            writer.write(draw_detections(frame.pixels, own), number / 25)
        writer.close()

    contenders = {
        "decode alone": decode,
        "network alone": network,
        "singleshot, to JSON": ours("json"),
        "singleshot, to video": ours("video"),
        "draw and encode alone": encode,
    }
    return {name: [frames / own for own in seconds] for name, seconds in take_turns(contenders, rounds).items()}


if __name__ == "__main__":
    main()
