"""Folders and checkpoints of other systems, as the pages on moving in assume them: small, and made here."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from singleshot import data
from singleshot.data.convert import convert
from singleshot.demo.scenes import make_scenes
from singleshot.interop.pytorch.pytorch_ssd import translate
from singleshot.models.build import build_network
from singleshot.weights.bundled import bundled_path

Names = dict[str, Any]
FRUIT = ("Apple", "Banana", "Pear")
SIZE_HW = (60, 90)


def picture(path: Path, gray: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*SIZE_HW, 3), gray, np.uint8))
    return path


def table(path: Path, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def pytorch_ssd() -> Names:
    """A downloader's folder, and a checkpoint of ``mb1-ssd`` with its names and our random numbers."""
    header = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf", "ClassName")
    for split in ("train", "validation", "test"):
        rows: list[Sequence[object]] = [header]
        for number in range(4):
            name = f"{split}{number:04}"
            picture(Path("data", split, f"{name}.jpg"), 40 * number)
            rows.append((name, "/m/1", 0.1, 0.6, 0.2, 0.9, 0, FRUIT[number % len(FRUIT)]))
        table(Path("data", f"sub-{split}-annotations-bbox.csv"), rows)
        table(Path("data", f"{split}-annotations-bbox.csv"), [row[:-1] for row in rows])
    columns = len(FRUIT) + 1
    shapes = {
        "base_net.1.3.weight": (64, 32, 1, 1),
        "regression_headers.0.weight": (24, 512, 3, 3),
        "classification_headers.0.weight": (6 * columns, 512, 3, 3),
    }
    translation = translate(shapes, "x")
    own = build_network(translation.spec.network).state_dict()
    folder = Path("models/fruit")
    folder.mkdir(parents=True)
    state = {translation.rename(name): value for name, value in own.items()}
    torch.save(state, folder / "mb1-ssd-Epoch-29-Loss-2.9.pth")
    (folder / "labels.txt").write_text("\n".join(("BACKGROUND", *FRUIT)))
    picture(Path("images/a.jpg"))
    return {}


def tao() -> Names:
    """KITTI labels in TAO's folders."""
    zeros = " ".join("0" * 7)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            picture(Path("tao", split, "images", f"{number}.png"), 40 * number)
            label = Path("tao", split, "labels", f"{number}.txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"car 0 0 0 10 10 60 40 {zeros}\nDontCare 0 0 0 70 40 80 50 {zeros}\n")
    return {}


def mmdetection() -> Names:
    """COCO in the layout of its configs."""
    make_scenes("scenes", count=10, size_hw=SIZE_HW)
    convert("scenes", "as_coco", "coco")
    for ours, theirs in (("trainval", "train2017"), ("test", "val2017")):
        place = Path("data/coco", theirs)
        place.mkdir(parents=True)
        opened = data.open("as_coco", ours)
        for sample in opened:
            sample.image_path.rename(place / sample.image_path.name)
        source = Path("as_coco/annotations", f"instances_{ours}.json")
        target = Path("data/coco/annotations", f"instances_{theirs}.json")
        target.parent.mkdir(exist_ok=True)
        source.rename(target)
    return {}


def ultralytics() -> Names:
    """``data.yaml`` with ``images/train`` and ``labels/train``."""
    make_scenes("scenes", count=10, size_hw=SIZE_HW)
    convert("scenes", "as_yolo", "yolo")
    for ours, theirs in (("train", "train"), ("test", "val")):
        for place in ("images", "labels"):
            Path("photos", place, theirs).mkdir(parents=True)
        for number, sample in enumerate(data.open("as_yolo", ours)):
            label = Path("as_yolo/labels", f"{sample.image_path.stem}.txt")
            label.rename(Path("photos/labels", theirs, f"{number}.txt"))
            sample.image_path.rename(Path("photos/images", theirs, f"{number}.jpg"))
    names = list(data.open("scenes").class_map.names)
    settings = {"path": ".", "train": "images/train", "val": "images/val", "names": names}
    Path("photos/data.yaml").write_text(yaml.safe_dump(settings))
    return {}


def tensorflow(checkpoint: Callable[[], Names]) -> Callable[[], Names]:
    """The csv files of the Object Detection API's tutorials, Model Maker's, and a checkpoint."""

    def prepare() -> Names:
        header = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
        for split, first, count in (("train", 0, 4), ("test", 4, 2)):
            names = [f"{number}.jpg" for number in range(first, first + count)]
            for name in names:
                picture(Path("workspace/images", name), 20 * count)
            rows = [(name, SIZE_HW[1], SIZE_HW[0], "cat", 10, 10, 60, 40) for name in names]
            table(Path("workspace", f"{split}_labels.csv"), [header, *rows])
        lines = []
        for number, split in enumerate(("TRAIN", "TRAIN", "TRAIN", "VALIDATION", "TEST")):
            picture(Path("salads/images", f"{number}.jpg"), 20 * number)
            path = f"gs://bucket/salads/images/{number}.jpg"
            lines.append((split, path, "Tomato", 0.1, 0.1, "", "", 0.7, 0.8, "", ""))
        table(Path("salads/salads.csv"), lines)
        return checkpoint()

    return prepare


def coming_from() -> Names:
    """VOC's devkit with its lists, in five of its classes; packed data, a weights file, mxnet-ssd's lists."""
    for number, (folder, lists) in enumerate(
        {
            "VOCdevkit/VOC2007": ("train", "val", "test"),
            "VOCdevkit/VOC2012": ("train", "val"),
            "photos": ("trainval", "test"),
        }.items()
    ):
        make_scenes(folder, count=4 * len(lists), seed=number, size_hw=SIZE_HW)
        as_voc_names(Path(folder))
        stems = sorted(path.stem for path in Path(folder, "JPEGImages").iterdir())
        own = {name: stems[4 * k : 4 * k + 4] for k, name in enumerate(lists)}
        own.setdefault("trainval", own.get("train", []) + own.get("val", []))
        for name, listed in own.items():
            Path(folder, "ImageSets/Main", f"{name}.txt").write_text("\n".join(listed))
    shutil.copy(Path("photos/JPEGImages", stems[0] + ".jpg"), "photos/a.jpg")
    convert("photos", "packed", "rec")
    shutil.copy(bundled_path("coco"), "ssd300.safetensors")
    lists_of = {"network": "mobilenet", "input_size_hw": [96, 96], "from_layers": ["conv_12_relu", ""]}
    lists_of |= {"num_filters": [-1, 64], "strides": [-1, 2], "pads": [-1, 1], "sizes": [0.3, 0.9], "ratios": [1, 2]}
    Path("lists.yaml").write_text(yaml.safe_dump(lists_of))
    return {}


def as_voc_names(folder: Path) -> None:
    """Give the things of rendered scenes names of VOC's classes."""
    voc = {"ball": "dog", "box": "cat", "mug": "person", "ring": "car", "star": "bottle"}
    for path in (folder / "Annotations").iterdir():
        text = path.read_text()
        for ours, theirs in voc.items():
            text = text.replace(f"<name>{ours}</name>", f"<name>{theirs}</name>")
        path.write_text(text)
