"""Boxes in another form than their format's: recognised from all boxes together, and honest ones never taken for it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from data_makers import make_coco, make_image, make_voc_image, make_yolo_image, voc_object
from numpy.typing import NDArray

from singleshot import data
from singleshot.data.notation import FORM_WORDS, Form, find_other_forms

Boxes = NDArray[np.float64]
SIZE_WH = np.array([200.0, 100.0])
IMAGES = 8
PER_IMAGE = 5


def honest(count: int, seed: int = 0, largest: float = 0.6) -> Boxes:
    """Corners inside an image, in pixels."""
    random = np.random.default_rng(seed)
    sides = SIZE_WH * random.uniform(0.05, largest, (count, 2))
    low = random.uniform(0, 1, (count, 2)) * (SIZE_WH - sides)
    return np.concatenate([low, low + sides], axis=1)


def written(corners: Boxes, form: Form) -> Boxes:
    low, high = corners[:, :2], corners[:, 2:]
    first = {"corners": low, "size": low, "centre": (low + high) / 2}[form]
    return np.concatenate([first, high if form == "corners" else high - low], axis=1)


def read_as(numbers: Boxes, form: Form) -> Boxes:
    first, second = numbers[:, :2], numbers[:, 2:]
    low = first - second / 2 if form == "centre" else first
    return np.concatenate([low, second if form == "corners" else low + second], axis=1)


def others(corners: Boxes, stated: Form) -> list[Form]:
    keep = np.ones(len(corners), bool)
    return find_other_forms(corners, keep, np.tile(SIZE_WH, (len(corners), 1)), stated)


@pytest.mark.parametrize("truth", FORM_WORDS)
@pytest.mark.parametrize("stated", FORM_WORDS)
@pytest.mark.parametrize("seed", range(5))
def test_every_form_in_the_place_of_every_other(truth: Form, stated: Form, seed: int) -> None:
    told = others(read_as(written(honest(200, seed), truth), stated), stated)
    assert told[:1] == ([] if truth == stated else [truth])


@pytest.mark.parametrize("stated", FORM_WORDS)
@pytest.mark.parametrize("largest", [0.2, 0.6, 1.0])
def test_boxes_drawn_beyond_their_images_are_honest(stated: Form, largest: float) -> None:
    random = np.random.default_rng(1)
    loose = honest(300, 1, largest) + random.normal(0, 4, (300, 4)) * (random.random((300, 1)) < 0.5)
    assert others(loose, stated) == []


@pytest.mark.parametrize("stated", FORM_WORDS)
def test_objects_that_fill_their_images_are_honest(stated: Form) -> None:
    random = np.random.default_rng(2)
    whole = np.concatenate([np.zeros(2), SIZE_WH]) + random.normal(0, 2, (100, 4))
    assert others(whole, stated) == []


@pytest.mark.parametrize("stated", FORM_WORDS)
@pytest.mark.parametrize("axes", [[0], [1], [0, 1]])
def test_corners_drawn_from_any_side_are_honest(stated: Form, axes: list[int]) -> None:
    """Tools that keep the first corner that was clicked."""
    boxes = honest(100, 3)
    turned = boxes.copy()
    for axis in axes:
        turned[::2, [axis, axis + 2]] = boxes[::2, [axis + 2, axis]]
    assert others(turned, stated) == []


@pytest.mark.parametrize("stated", FORM_WORDS)
@pytest.mark.parametrize("count", [0, 1])
def test_too_few_to_tell(stated: Form, count: int) -> None:
    assert others(honest(count) + np.array([0, 0, 500, 500]), stated) == []


def rows() -> list[Boxes]:
    return list(honest(IMAGES * PER_IMAGE, 7).reshape(IMAGES, PER_IMAGE, 4))


def yolo(root: Path, form: Form) -> None:
    for number, corners in enumerate(rows()):
        lines = written(corners / np.tile(SIZE_WH, 2), form)
        make_yolo_image(root, f"{number}", *("0 " + " ".join(map(str, line)) for line in lines))
        make_image(root / f"images/{number}.jpg", (100, 200))


def voc(root: Path, form: Form) -> None:
    for number, corners in enumerate(rows()):
        lines = written(corners.round() + np.array([1, 1, 0, 0]), form)
        objects = "".join(voc_object("cat", tuple(line)) for line in lines)  # type: ignore[arg-type]
        make_voc_image(root, f"{number}", objects, size_hw=(100, 200), declared_hw=(100, 200))


def coco(root: Path, form: Form) -> None:
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 200, "height": 100} for n in range(IMAGES)]
    boxes = [(n, line.tolist()) for n, corners in enumerate(rows()) for line in written(corners, form)]
    objects = [{"id": k, "image_id": n, "category_id": 1, "bbox": box} for k, (n, box) in enumerate(boxes)]
    make_coco(root / "labels.json", images, objects, [{"id": 1, "name": "cat"}])
    for number in range(IMAGES):
        make_image(root / f"{number}.jpg", (100, 200))


def table(root: Path, form: Form, columns: str, unit: Boxes | float = 1.0) -> None:
    lines = [f"filename,class,{columns}"]
    for number, corners in enumerate(rows()):
        make_image(root / f"{number}.jpg", (100, 200))
        lines += [f"{number}.jpg,cat,{','.join(map(str, line))}" for line in written(corners / unit, form)]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def parquet(root: Path, form: Form) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as tables

    images = []
    for number in range(IMAGES):
        make_image(root / f"{number}.jpg", (100, 200))
        images.append({"bytes": (root / f"{number}.jpg").read_bytes(), "path": f"{number}.jpg"})
        (root / f"{number}.jpg").unlink()
    objects = [{"bbox": written(one, form).tolist(), "category": [0] * PER_IMAGE} for one in rows()]
    stream = io.BytesIO()
    tables.write_table(pyarrow.table({"image": images, "objects": objects}), stream)
    (root / "train.parquet").write_bytes(stream.getvalue())


MAKERS = {
    "yolo": (yolo, "centre"),
    "voc": (voc, "corners"),
    "coco": (coco, "size"),
    "parquet": (parquet, "size"),
    "csv corners": (lambda root, form: table(root, form, "xmin,ymin,xmax,ymax"), "corners"),
    "csv sizes": (lambda root, form: table(root, form, "x,y,w,h"), "size"),
    "csv centres": (lambda root, form: table(root, form, "cx,cy,w,h"), "centre"),
    "csv fractions": (lambda root, form: table(root, form, "x,y,w,h", np.tile(SIZE_WH, 2)), "size"),
}


@pytest.mark.parametrize("form", FORM_WORDS)
@pytest.mark.parametrize("maker", MAKERS)
def test_in_every_format(maker: str, form: Form, tmp_path: Path) -> None:
    make, right = MAKERS[maker]
    make(tmp_path, form)
    opened = data.open(tmp_path)
    boxes = sum(map(len, opened))
    kinds = {problem.kind for problem in opened.problems if problem.action == "skipped"}
    if form == right:
        assert (boxes, kinds) == (IMAGES * PER_IMAGE, set())
        return
    assert boxes == 0
    assert kinds == {{"corners": "corner", "size": "size", "centre": "centre"}[form] + "-boxes"}
    assert FORM_WORDS[form] in opened.problems[-1].message
