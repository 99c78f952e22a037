"""Images per second from JPEG bytes to an augmented 300 x 300 training input, one thread.

    python benchmarks/augment.py DATA [--peers SSD_PYTORCH_CHECKOUT] [--json FILE]

DATA is any labelled data set; its photos are brought to 500 x 375 and JPEG quality 90, the size of PASCAL VOC. Every
contender takes turns in every round, so that a busy machine slows all alike; ratios are medians of rounds. Plain OpenCV
decoding is what no pipeline on OpenCV can pass. torchvision joins where it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from common import Measured, NotAvailableError, Settings, compare, machine
from singleshot import data
from singleshot.augment.pipeline import Augmenter
from singleshot.images.read import read_image

PHOTO_HW, OUT_HW = (375, 500), (300, 300)
DECODE = "OpenCV decode alone"
OURS: dict[str, Any] = {
    "ssd": "ssd",
    "ssd, linear only": {"preset": "ssd", "interpolations": ["linear"]},
    "ssd, linear only, full decode": {"preset": "ssd", "interpolations": ["linear"], "reduced_decode": False},
    "ssd_pytorch": "ssd_pytorch",
    "ssdlite": "ssdlite",
    "light": "light",
    "none": "none",
}


class Photo(NamedTuple):
    jpeg: bytes
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]


Contender = Callable[[Photo, int], object]


def load_photos(path: str, count: int) -> list[Photo]:
    """Photos with objects, resized, encoded anew."""
    samples = [sample for sample in data.open(path).samples if len(sample)][:count]
    photos = []
    for sample in samples:
        image = cv2.resize(read_image(sample.image_path), PHOTO_HW[::-1], interpolation=cv2.INTER_AREA)
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
        height, width = sample.image_size_hw
        scale = np.array([PHOTO_HW[1] / width, PHOTO_HW[0] / height] * 2, np.float32)
        photos.append(Photo(jpeg.tobytes(), sample.boxes_xyxy * scale, sample.class_ids))
    return photos


def decode(photo: Photo, _: int) -> object:
    return cv2.imdecode(np.frombuffer(photo.jpeg, np.uint8), cv2.IMREAD_COLOR)


def ours(recipe: Any) -> Contender:
    augmenter = Augmenter(recipe, OUT_HW)
    return lambda photo, seed: augmenter(photo.jpeg, photo.boxes_xyxy, np.random.default_rng([0, seed]), PHOTO_HW)


def ssd_pytorch(checkout: Path) -> Contender:
    """``SSDAugmentation`` of an ssd.pytorch checkout, after OpenCV's decoding, as its data sets do."""
    for name, kind in (("float", float), ("int", int), ("bool", bool)):
        setattr(np, name, kind)  # names that NumPy has dropped since
    sys.path.insert(0, str(checkout))
    from utils.augmentations import SSDAugmentation

    augment = SSDAugmentation(OUT_HW[0], (104, 117, 123))
    size = np.array([PHOTO_HW[1], PHOTO_HW[0]] * 2)

    def run(photo: Photo, seed: int) -> object:
        np.random.seed(seed)  # noqa: NPY002 what it draws from
        return augment(decode(photo, seed), photo.boxes_xyxy / size, photo.class_ids)

    return run


def torchvision() -> Contender:
    """The SSD recipe of torchvision's references, on tensors."""
    from torchvision import io, tv_tensors
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=[123, 117, 104]),
            v2.RandomIoUCrop(),
            v2.Resize(OUT_HW),
            v2.RandomHorizontalFlip(),
            v2.SanitizeBoundingBoxes(),
        ]
    )

    def run(photo: Photo, seed: int) -> object:
        torch.manual_seed(seed)
        image = io.decode_jpeg(torch.frombuffer(bytearray(photo.jpeg), dtype=torch.uint8))
        boxes = tv_tensors.BoundingBoxes(photo.boxes_xyxy, format="XYXY", canvas_size=PHOTO_HW)
        return transform(tv_tensors.Image(image), {"boxes": boxes, "labels": torch.from_numpy(photo.class_ids)})

    return run


def contenders(peers: Path | None) -> dict[str, Contender]:
    found: dict[str, Contender] = {DECODE: decode} | {
        f"singleshot {name}": ours(recipe) for name, recipe in OURS.items()
    }
    try:
        found["torchvision"] = torchvision()
    except ImportError:
        print("torchvision is not installed: left out", file=sys.stderr)
    if peers:
        found["ssd.pytorch"] = ssd_pytorch(peers)
    return found


def measure(runners: dict[str, Contender], photos: list[Photo], rounds: int) -> dict[str, list[float]]:
    """Images per second of every contender in every round; the first round warms up and does not count."""
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(rounds + 1):
        for name, run in runners.items():
            started = time.perf_counter()
            for index, photo in enumerate(photos):
                run(photo, turn * len(photos) + index)
            if turn:
                rates[name].append(len(photos) / (time.perf_counter() - started))
    return rates


def summarise(rates: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, spread (half the distance of the quartiles over the median) and ratio to decoding, by contender."""
    rows = {}
    for name, values in rates.items():
        low, middle, high = np.percentile(values, [25, 50, 75])
        ratio = statistics.median(value / base for value, base in zip(values, rates[DECODE], strict=True))
        rows[name] = {"images_per_s": middle, "spread": (high - low) / 2 / middle, "share_of_decoding": ratio}
    return rows


def measure_row(settings: Settings) -> list[Measured]:
    """Images per second of every recipe, for ``run.py``; one thread whatever the settings say."""
    if settings.data is None:
        raise NotAvailableError("it needs labelled photos: --data FOLDER")
    threads = torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        photos = load_photos(str(settings.data), settings.choose(150, 40, 2))
        found = contenders(next((f for f in settings.peers if (f / "utils/augmentations.py").is_file()), None))
        rates = measure(found, photos, settings.choose(7, 3, 1))
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    ceiling = statistics.median(rates.pop(DECODE))
    note = f"OpenCV decoding alone: {ceiling:,.0f} img/s"
    row = f"augment, {len(photos)} photos, 1 thread"
    notes = {"singleshot ssd": note}
    return compare(row, rates, notes=notes, unit="img/s", scale=1, larger_is_better=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="labelled data set")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", type=Path, help="ssd.pytorch checkout")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    photos = load_photos(args.data, args.images)
    rows = summarise(measure(contenders(args.peers), photos, args.rounds))
    print(f"{'':42}{'img/s':>8}{'spread':>9}{'of decoding':>13}")
    for name, row in rows.items():
        print(f"{name:42}{row['images_per_s']:8.0f}{row['spread']:9.1%}{row['share_of_decoding']:13.2f}")
    if args.json:
        settings = {"images": len(photos), "rounds": args.rounds, "photo_hw": PHOTO_HW, "out_hw": OUT_HW}
        args.json.write_text(json.dumps({"machine": machine(1), "settings": settings, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
