"""Which functions and files of the package a photo passes in `predict`, and a batch in a training step.

    python scripts/walk.py            # all walks, with every function in the order of first entry
    python scripts/walk.py --counts   # only how many

The photo and the labelled images are made here. Imports are done before it counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import cv2
import numpy as np

import singleshot

PACKAGE = Path(singleshot.__file__).parent
SIZE_HW = (240, 320)


class Walk:
    """Counts the entries of the package's functions, by file and name."""

    def __init__(self) -> None:
        self.entries: Counter[CodeType] = Counter()

    def see(self, frame: FrameType, event: str, _: Any) -> None:
        """What `sys.setprofile` calls."""
        code = frame.f_code
        is_own = code.co_filename.startswith(str(PACKAGE)) and code.co_name not in ("<listcomp>", "<genexpr>")
        if event == "call" and is_own and code.co_name not in ("<dictcomp>", "<setcomp>"):
            self.entries[code] += 1

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Count while this is open, in new threads as well."""
        threading.setprofile(self.see)
        sys.setprofile(self.see)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type] # it takes None

    def print(self, title: str, counts_only: bool) -> None:
        """A line of counts, and one for each function in order of first entry."""
        files = {code.co_filename for code in self.entries}
        print(f"{title}: {len(self.entries)} functions in {len(files)} files, {self.entries.total():,} calls")
        for code, count in () if counts_only else self.entries.items():
            name = Path(code.co_filename).relative_to(PACKAGE).as_posix()
            print(f"  {name}:{code.co_firstlineno} {code.co_qualname}" + (f" x{count}" if count > 1 else ""))


def picture(seed: int) -> np.ndarray:
    """A photo of noise, ``[H, W, 3]`` uint8."""
    return np.random.default_rng(seed).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)


def walks_of_a_photo(folder: Path) -> tuple[Walk, Walk]:
    """The first `predict` of a detector, when another one has had everything imported, and the second."""
    photo = folder / "photo.jpg"
    cv2.imwrite(str(photo), picture(0))
    singleshot.load("coco").predict(photo)
    model, first, second = singleshot.load("coco"), Walk(), Walk()
    for walk in (first, second):
        with walk.recorded():
            model.predict(photo)
    return first, second


def walk_of_a_step(folder: Path) -> Walk:
    """The second step of a training, from the batch to the updated weights."""
    from singleshot.training.loop import Trainer

    walk, step, calls = Walk(), Trainer._step, []

    def second_step(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) != 2:
            return step(*arguments)
        with walk.recorded():
            return step(*arguments)

    Trainer._step = second_step  # type: ignore[method-assign] # to see it from within
    with redirect_stdout(StringIO()):
        singleshot.train(
            labelled_images(folder),
            steps=3,
            batch_size=2,
            size=96,
            workers=0,
            amp="fp32",
            out=folder / "run",
            device="cpu",
        )
    return walk


def labelled_images(folder: Path, count: int = 8) -> Path:
    """A COCO data set with one box on each image."""
    height, width = SIZE_HW
    names = [f"{index}.jpg" for index in range(count)]
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / name), picture(index))
    boxes = [{"id": i + 1, "image_id": i, "category_id": 1, "bbox": [20, 30, 90, 80], "area": 7200, "iscrowd": 0}
             for i in range(count)]  # fmt: skip
    document = {
        "images": [{"id": i, "file_name": name, "height": height, "width": width} for i, name in enumerate(names)],
        "annotations": boxes,
        "categories": [{"id": 1, "name": "thing"}],
    }
    target = folder / "instances.json"
    target.write_text(json.dumps(document))
    return target


def main() -> None:
    """Walk and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", action="store_true", help="only how many")
    counts_only = parser.parse_args().counts
    with tempfile.TemporaryDirectory() as folder:
        first, second = walks_of_a_photo(Path(folder))
    first.print("the first predict of one photo", counts_only)
    second.print("every later predict of one photo", counts_only)
    with tempfile.TemporaryDirectory() as folder:
        walk_of_a_step(Path(folder)).print("a training step", counts_only)


if __name__ == "__main__":
    main()
