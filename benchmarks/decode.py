"""Time to decode photos from JPEG or PNG bytes to RGB, one thread, CPU time.

    python benchmarks/decode.py FOLDER ... [--rounds 7] [--photos 100]

OpenCV is what singleshot uses; Pillow and simplejpeg (if installed) decode the same bytes in turns, round by round.
Whether pixels are equal is counted, because a decoder that differs would move scores.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from singleshot.images.read import read_image

Decoder = Callable[[bytes], np.ndarray]


def opencv(data: bytes) -> np.ndarray:
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decoders(suffix: str) -> dict[str, Decoder]:
    """OpenCV first."""
    found = {
        f"OpenCV {cv2.__version__}": opencv,
        "singleshot read_image": read_image,
        f"Pillow {Image.__version__}": pillow,
    }
    try:
        import simplejpeg
    except ImportError:
        return found
    if suffix == ".jpg":
        found[f"simplejpeg {simplejpeg.__version__}"] = lambda data: simplejpeg.decode_jpeg(data, "RGB")
    return found


def measure(files: list[bytes], contenders: dict[str, Decoder], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each round; contenders take turns at every file."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        total = dict.fromkeys(contenders, 0.0)
        for data in files:
            for name, decode in contenders.items():
                start = time.process_time()
                decode(data)
                total[name] += time.process_time() - start
        for name, value in total.items():
            seconds[name].append(value)
    return {name: values[1:] for name, values in seconds.items()}  # the first round warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--photos", type=int, default=100)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for folder in options.folders:
        for suffix in (".jpg", ".png"):
            files = [path.read_bytes() for path in sorted(folder.rglob(f"*{suffix}"))[: options.photos]]
            if files:
                report(f"{folder.name} ({len(files)} {suffix})", files, decoders(suffix), options.rounds)


def report(title: str, files: list[bytes], contenders: dict[str, Decoder], rounds: int) -> None:
    seconds = measure(files, contenders, rounds)
    base = next(iter(seconds.values()))
    print(title)
    for name, values in seconds.items():
        ratio = statistics.median(value / first for value, first in zip(values, base, strict=True))
        equal = sum(np.array_equal(contenders[name](data), opencv(data)) for data in files)
        median = statistics.median(values) / len(files) * 1000
        print(f"  {name:24} {median:7.2f} ms a photo  {ratio:5.2f} of OpenCV  equal pixels {equal}/{len(files)}")


if __name__ == "__main__":
    main()
