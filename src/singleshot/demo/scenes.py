"""A small labelled data set that is rendered, not downloaded: things on textured ground, half hidden by others.

The same arguments give the same labels and the same scenes everywhere; JPEG bytes may differ between OpenCV versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import check_output_folder, write_atomically
from singleshot.core.structures import Sample
from singleshot.data.formats.writers import voc_xml
from singleshot.demo.things import PAINTERS, paint_thing

CLASS_NAMES = tuple(PAINTERS)
BACKGROUND_SHARE = 0.08
TEST_EVERY = 5
MAX_THINGS = 6
JPEG_QUALITY = 88
# A thing of which less is left to see is not placed, or hides no more of the others than this.
MIN_VISIBLE = 0.35
DIFFICULT_VISIBLE = 0.5
PLACING_TRIES = 8


class Scene(NamedTuple):
    """A rendered picture and what is in it.

    Attributes:
        image: RGB, ``[H, W, 3]`` uint8.
        boxes_xyxy: around the visible part of each thing, whole pixels, ``[N, 4]`` float32.
        class_ids: index into ``CLASS_NAMES``, ``[N]`` int64.
        difficult: less than half of the thing is visible, ``[N]`` bool.
    """

    image: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    difficult: NDArray[np.bool_]


def make_scenes(
    out: str | Path,
    count: int = 240,
    seed: int = 0,
    size_hw: tuple[int, int] = (300, 400),
    *,
    difficulty: float = 0.3,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Path:
    """Render a data set in VOC layout; every fifth image is in ``test``, the others in ``trainval``.

    Args:
        out: a new or empty folder.
        count: number of images.
        seed: image ``i`` of a seed is the same whatever ``count`` is.
        size_hw: height and width of the images.
        difficulty: 0 to 1: more clutter, noise, blur, overlap, smaller things.
        track: wraps the images' numbers while they are rendered (a progress bar).

    Returns:
        The folder.

    Raises:
        OutputError: the folder is not empty.
    """
    folder = check_output_folder(out)
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for index in track(range(count)):
        scene = render_scene(np.random.default_rng([seed, index]), size_hw, difficulty)
        stem = f"scene_{index:05d}"
        path = folder / "JPEGImages" / f"{stem}.jpg"
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        path.write_bytes(cv2.imencode(".jpg", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), options)[1].tobytes())
        sample = Sample(path, size_hw, scene.boxes_xyxy, scene.class_ids, scene.difficult)
        write_atomically(folder / "Annotations" / f"{stem}.xml", voc_xml(sample, path.name, CLASS_NAMES))
        lists["test" if index % TEST_EVERY == TEST_EVERY - 1 else "trainval"].append(stem)
    for name, stems in lists.items():
        write_atomically(folder / "ImageSets" / "Main" / f"{name}.txt", "".join(f"{stem}\n" for stem in stems))
    write_atomically(folder / "classes.txt", "".join(f"{name}\n" for name in CLASS_NAMES))
    return folder


def render_scene(rng: np.random.Generator, size_hw: tuple[int, int], difficulty: float = 0.3) -> Scene:
    """Render one picture: ground, clutter, things from back to front, then the camera's faults."""
    canvas = _ground(rng, size_hw)
    _add_clutter(canvas, rng, int(rng.integers(0, 4 + round(10 * difficulty))))
    things = 0 if rng.random() < BACKGROUND_SHARE else int(rng.integers(1, MAX_THINGS + 1))
    placed = _place_things(canvas, rng, things, difficulty)
    _add_scribbles(canvas, rng, round(4 * difficulty * rng.random()))
    boxes, class_ids, difficult = _labels(*placed)
    return Scene(_photograph(canvas, rng, difficulty), boxes, class_ids, difficult)


def _ground(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A background: a colour ramp, cloudy noise of several sizes, sometimes planks or tiles."""
    height, width = size_hw
    ends = rng.uniform(40, 210, (2, 3)) * 0.6 + rng.uniform(40, 210, (2, 1)) * 0.4
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    canvas = np.broadcast_to(ends[0] * (1 - ramp) + ends[1] * ramp, (height, width, 3)).astype(np.float32)
    for cells, strength in ((3, 22), (9, 14), (40, 8)):
        noise = rng.normal(0, strength, (cells, max(2, cells * width // height), 3)).astype(np.float32)
        noise = 0.6 * noise.mean(axis=2, keepdims=True) + 0.4 * noise
        canvas = canvas + cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    kind = rng.integers(4)
    step = int(rng.integers(24, 60))
    if kind < 2:
        rows = np.arange(height) // step
        columns = np.arange(width) // step if kind else np.zeros(width, dtype=np.int64)
        tones = rng.uniform(-14, 14, (rows[-1] + 1, columns[-1] + 1)).astype(np.float32)
        canvas += tones[rows][:, columns][..., None]
        canvas[np.arange(height) % step < 2] -= 22
        if kind:
            canvas[:, np.arange(width) % step < 2] -= 22
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _add_clutter(canvas: NDArray[np.uint8], rng: np.random.Generator, count: int) -> None:
    """Things that are none of the classes: slips of paper, twigs, crosses, letters, half transparent."""
    height, width = canvas.shape[:2]
    for _ in range(count):
        layer = canvas.copy()
        colour = tuple(rng.uniform(20, 235, 3).tolist())
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size = float(rng.uniform(0.04, 0.16) * height)
        kind = rng.integers(4)
        if kind == 0:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            points = np.stack([x + size * np.cos(angles), y + size * rng.uniform(0.3, 0.9) * np.sin(angles)], axis=1)
            cv2.fillPoly(layer, [points.round().astype(np.int32)], colour, cv2.LINE_AA)
        elif kind == 1:
            end = (int(x + rng.normal(0, 3 * size)), int(y + rng.normal(0, 3 * size)))
            cv2.line(layer, (x, y), end, colour, int(rng.integers(1, 5)), cv2.LINE_AA)
        elif kind == 2:
            cv2.drawMarker(layer, (x, y), colour, int(rng.integers(3)), int(size), int(rng.integers(1, 4)), cv2.LINE_AA)
        else:
            letter = chr(int(rng.integers(65, 91)))
            cv2.putText(layer, letter, (x, y), cv2.FONT_HERSHEY_DUPLEX, size / 20, colour, 2, cv2.LINE_AA)
        cv2.addWeighted(layer, (share := float(rng.uniform(0.5, 1.0))), canvas, 1 - share, 0, dst=canvas)


def _place_things(
    canvas: NDArray[np.uint8], rng: np.random.Generator, count: int, difficulty: float
) -> tuple[NDArray[np.int64], list[int], list[int]]:
    """Paint ``count`` things back to front; each keeps enough of itself visible.

    Returns:
        Which thing is seen at each pixel (-1: none) ``[H, W]``, the things' classes, and their areas unhidden.
    """
    height, width = canvas.shape[:2]
    seen = np.full((height, width), -1, dtype=np.int64)
    classes: list[int] = []
    areas: list[int] = []
    smallest = 0.3 - 0.16 * difficulty
    for _ in range(count):
        index = int(rng.integers(len(CLASS_NAMES)))
        side = int(height * rng.uniform(smallest, 0.55))
        image, alpha = paint_thing(CLASS_NAMES[index], side, rng)
        for _ in range(PLACING_TRIES):
            x, y = (
                int(rng.integers(-side // 6, width - side * 5 // 6)),
                int(rng.integers(-side // 6, height - side * 5 // 6)),
            )
            if _fits(seen, alpha, x, y, areas, 1 - (1 - MIN_VISIBLE) * difficulty):
                _paste(canvas, image, alpha, x, y, rng)
                rows, columns, part = _overlap(seen.shape, alpha, x, y)
                seen[rows, columns][part > 0.5] = len(areas)
                areas.append(int((alpha > 0.5).sum()))
                classes.append(index)
                break
    return seen, classes, areas


def _overlap(
    size_hw: tuple[int, ...], alpha: NDArray[np.float32], x: int, y: int
) -> tuple[slice, slice, NDArray[np.float32]]:
    """Rows and columns of the canvas that a thing at (x, y) covers, and its opacity there."""
    height, width = size_hw[:2]
    side = len(alpha)
    rows, columns = slice(max(0, y), min(height, y + side)), slice(max(0, x), min(width, x + side))
    return rows, columns, alpha[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]


def _fits(
    seen: NDArray[np.int64], alpha: NDArray[np.float32], x: int, y: int, areas: list[int], visible: float
) -> bool:
    """Whether a thing at (x, y) leaves every earlier one at least ``visible`` of its area."""
    rows, columns, part = _overlap(seen.shape, alpha, x, y)
    hidden = np.bincount(seen[rows, columns][part > 0.5] + 1, minlength=len(areas) + 1)[1:]
    left = np.bincount(seen.ravel() + 1, minlength=len(areas) + 1)[1:] - hidden
    return bool((left[hidden > 0] >= visible * np.array(areas, dtype=np.float64)[hidden > 0]).all())


def _paste(
    canvas: NDArray[np.uint8],
    image: NDArray[np.uint8],
    alpha: NDArray[np.float32],
    x: int,
    y: int,
    rng: np.random.Generator,
) -> None:
    """Blend a thing and its soft shadow into the canvas."""
    side = len(alpha)
    reach = max(2, side // 12)
    shadow = cv2.GaussianBlur(alpha, (0, 0), side / 25 + 0.5) * float(rng.uniform(0.25, 0.5))
    rows, columns, part = _overlap(canvas.shape, shadow, x + reach // 2, y + reach)
    canvas[rows, columns] = (canvas[rows, columns] * (1 - part[..., None])).astype(np.uint8)
    rows, columns, part = _overlap(canvas.shape, alpha, x, y)
    colours = image[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    behind = canvas[rows, columns].astype(np.float32)
    canvas[rows, columns] = (behind + (colours - behind) * part[..., None]).astype(np.uint8)


def _add_scribbles(canvas: NDArray[np.uint8], rng: np.random.Generator, count: int) -> None:
    """Thin lines in front of everything; they hide too little to change a box."""
    height, width = canvas.shape[:2]
    for _ in range(count):
        ends = rng.integers(0, [width, height], (2, 2)).tolist()
        cv2.line(canvas, ends[0], ends[1], tuple(rng.uniform(20, 235, 3).tolist()), 1, cv2.LINE_AA)


def _labels(
    seen: NDArray[np.int64], classes: list[int], areas: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Boxes around what is seen of each thing; a pixel at column n reaches from n to n + 1."""
    boxes = np.zeros((len(classes), 4), dtype=np.float32)
    visible = np.zeros(len(classes))
    for index in range(len(classes)):
        rows, columns = np.nonzero(seen == index)
        boxes[index] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        visible[index] = len(rows) / areas[index]
    return boxes, np.array(classes, dtype=np.int64), visible < DIFFICULT_VISIBLE


def _photograph(canvas: NDArray[np.uint8], rng: np.random.Generator, difficulty: float) -> NDArray[np.uint8]:
    """Exposure, white balance, blur and sensor noise."""
    gain = 1 + rng.uniform(-0.3, 0.25) * difficulty + rng.uniform(-0.06, 0.06, 3) * difficulty
    image = canvas.astype(np.float32) * gain.astype(np.float32)
    if rng.random() < 0.5 * difficulty:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.6)))
    noise = rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(0, 16) * difficulty)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
