"""Labels of all formats, class lists, splits and decisions."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from singleshot.data import check
from singleshot.data.convert import convert
from singleshot.data.decisions import read_decisions
from singleshot.data.opening import open_splits
from torture.damage import Damage
from torture.structures import in_json, in_rows, in_safetensors, in_tar, in_xml, in_yaml
from torture.target import Files, Target
from torture.targets_images import made, tar_of
from torture.writers import (
    coco_box,
    coco_image,
    make_coco,
    make_image,
    make_list,
    make_rec,
    make_voc_image,
    make_yolo_image,
    voc_object,
)

WORDS = (
    b"<size>", b"<object>", b"<bndbox>", b"<name>", b"<xmin>", b"</annotation>", b"<part>", b"segmentation", b"iscrowd",
    b"counts", b"categories", b"bbox", b"file_name", b"names:", b"nc:", b"train:", b"val:", b"path:", b"kpt_shape:",
    b"DontCare", b"filename", b"xmin", b"shapes", b"points", b"shape_type", b"imageData", b"circle",
)  # fmt: skip


def folder_files(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def voc(folder: Path) -> Sequence[Files]:
    make_voc_image(folder, "a", voc_object("dog", (1, 2, 20, 30)), voc_object("cat", (4, 5, 50, 30), 1))
    make_voc_image(folder, "b", voc_object("dog", (3, 3, 9, 9)))
    make_list(folder, "train", "a")
    make_list(folder, "val", "b")
    return [folder_files(folder)]


def coco(folder: Path) -> Sequence[Files]:
    boxes = [
        coco_box(1, 1, 1, [1, 2, 13, 14], iscrowd=0, area=30.5),
        coco_box(2, 1, 3, [4, 5, 9, 9], iscrowd=1, segmentation={"counts": [1, 2], "size": [40, 60]}),
        coco_box(3, 2, 3, [0, 0, 60, 40], segmentation=[[1, 1, 9, 1, 9, 9]]),
    ]
    names = [{"id": 1, "name": "dog", "supercategory": "pet"}, {"id": 3, "name": "cat"}]
    images = [coco_image(1, "a.jpg"), coco_image(2, "b.jpg")]
    make_coco(folder / "annotations" / "instances_train.json", images, boxes, names, folder / "train")
    return [folder_files(folder)]


def yolo(folder: Path) -> Sequence[Files]:
    make_yolo_image(folder, "a", "0 0.5 0.5 0.2 0.2", "1 0.3 0.3 0.1 0.4")
    make_yolo_image(folder, "b", "1 0.1 0.1 0.9 0.1 0.9 0.9")
    (folder / "data.yaml").write_text("path: .\ntrain: images\nval: images\nnc: 2\nnames: {0: dog, 1: cat}\n")
    return [folder_files(folder)]


def yolo_lists(folder: Path) -> Sequence[Files]:
    make_yolo_image(folder, "a", "0 0.5 0.5 0.2 0.2")
    make_yolo_image(folder, "b", "1 0.3 0.3 0.1 0.4")
    (folder / "train.txt").write_text("images/a.jpg\n./images/b.jpg\n")
    (folder / "classes.txt").write_text("dog\ncat\n")
    (folder / "obj.data").write_text("classes = 2\ntrain = train.txt\nnames = classes.txt\n")
    return [folder_files(folder)]


def tables(folder: Path) -> Sequence[Files]:
    make_image(folder / "a.jpg")
    photo = (folder / "a.jpg").read_bytes()
    head = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    rows = "a.jpg,60,40,dog,1,2,20,30\na.jpg,60,40,cat,4,5,50,30\n"
    other = "ImageID;LabelName;XMin;XMax;YMin;YMax\na;/m/1;0.1;0.5;0.2;0.9\n"
    return [
        {"a.jpg": photo, "l.csv": (head + rows).encode()},
        {"a.jpg": photo, "l.csv": b"a.jpg,1,2,20,30,dog\na.jpg,,,,,\n"},
        {"a.jpg": photo, "l.csv": other.encode(), "class-descriptions-boxable.csv": b"/m/1,Dog\n"},
    ]


def labelme(folder: Path) -> Sequence[Files]:
    make_image(folder / "a.jpg")
    shapes = [
        {"label": "dog", "points": [[1, 2], [20, 30]], "shape_type": "rectangle", "flags": {}},
        {"label": "cat", "points": [[1, 2], [20, 30], [4, 9]], "shape_type": "polygon"},
        {"label": "cat", "points": [[9, 9], [12, 12]], "shape_type": "circle"},
    ]
    document = {"version": "5.0", "shapes": shapes, "imagePath": "a.jpg", "imageHeight": 40, "imageWidth": 60}
    (folder / "a.json").write_text(json.dumps(document))
    return [folder_files(folder)]


def kitti(folder: Path) -> Sequence[Files]:
    make_image(folder / "image_2" / "a.png")
    rows = "Car 0.00 0 -1.57 1 2 20 30 1.5 1.6 3.6 1.0 1.5 8.4 -1.5\nDontCare -1 -1 -10 4 5 9 9 -1 -1 -1 -1 -1 -1 -10\n"
    (folder / "label_2").mkdir()
    (folder / "label_2" / "a.txt").write_text(rows)
    return [folder_files(folder)]


def rec(folder: Path) -> Sequence[Files]:
    labels = [[2, 5, 0, 0.1, 0.1, 0.5, 0.5], [2, 6, 1, 0.2, 0.2, 0.9, 0.9, 1]]
    make_rec(folder / "train.rec", labels, ("a.jpg", "b.jpg"))
    (folder / "classes.txt").write_text("dog\ncat\n")
    return [folder_files(folder)]


def lst(folder: Path) -> Sequence[Files]:
    make_image(folder / "a.jpg")
    (folder / "train.lst").write_text(
        "0\t2\t5\t0\t0.1\t0.1\t0.5\t0.5\ta.jpg\n1\t4\t5\t60\t40\t1\t0.2\t0.2\t0.9\t0.9\ta.jpg\n"
    )
    return [folder_files(folder)]


def shards(folder: Path) -> Sequence[Files]:
    """As others pack them, and as `convert` writes them, with an index."""
    (folder / "set").mkdir()
    (files,) = voc(folder / "set")
    convert(folder / "set", folder / "own", "shards")
    photo = files["JPEGImages/a.jpg"]
    label = json.dumps([{"bbox": [1, 2, 13, 14], "category_name": "dog", "iscrowd": 0}]).encode()
    members = {"a.jpg": photo, "a.json": label, "b.jpg": photo, "b.txt": b"0 0.5 0.5 0.2 0.2\n"}
    return [{"train-000000.tar": tar_of(members)}, folder_files(folder / "own")]


def parquet(folder: Path) -> Sequence[Files]:
    """As others write them, and as `convert` does."""
    import pyarrow
    import pyarrow.parquet

    (folder / "set").mkdir()
    (files,) = voc(folder / "set")
    convert(folder / "set", folder / "own", "parquet")
    objects = {"bbox": [[1.0, 2.0, 13.0, 14.0]], "category": ["dog"]}
    row = {"image": {"bytes": files["JPEGImages/a.jpg"], "path": "a.jpg"}, "objects": objects}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), folder / "x.parquet")
    return [{"x.parquet": (folder / "x.parquet").read_bytes()}, folder_files(folder / "own")]


def decisions(folder: Path) -> Sequence[Files]:
    entries = [
        {"image": "a.jpg", "action": "drop"},
        {"image": "b.jpg", "action": "relabel", "box_xyxy": [1, 2, 3, 4], "class_name": "dog", "to": "cat"},
        {"image": "b.jpg", "action": "keep", "box_xyxy": [1.5, 2, 3, 9], "class_name": "dog"},
    ]
    return [{"d.json": json.dumps({"singleshot_decisions": 1, "decisions": entries}).encode()}]


def opened(format: str, folder: Path) -> None:
    """Opens, reads every sample, and looks through it as `data check` does."""
    found, _ = open_splits(folder, format)
    for sample in found:
        assert sample.boxes_xyxy.shape == (len(sample.class_ids), 4)


def checked(folder: Path) -> None:
    check.check(folder)


HOW: dict[str, Damage] = {".xml": in_xml, ".json": in_json, ".yaml": in_yaml, ".tar": in_tar, ".index": in_safetensors}
HOW |= dict.fromkeys((".txt", ".csv", ".lst", ".idx", ".data"), in_rows)


def of_format(
    name: str,
    make: Callable[[Path], Sequence[Files]],
    format: str,
    spared: tuple[str, ...] = (".jpg", ".png"),
    needs: tuple[str, ...] = (),
) -> Target:
    return Target(name, made(make), functools.partial(opened, format), HOW, spared, WORDS, needs=needs, slow=3)


def everything() -> list[Files]:
    return [files for make in (voc, coco, yolo, yolo_lists, tables, labelme, kitti) for files in made(make)()]


TARGETS = [
    of_format("VOC", voc, "voc"),
    of_format("COCO", coco, "coco"),
    of_format("YOLO: rows and yaml", yolo, "yolo"),
    of_format("YOLO: lists, class lists, Darknet", yolo_lists, "yolo"),
    of_format("csv tables", tables, "csv"),
    of_format("LabelMe", labelme, "labelme"),
    of_format("KITTI", kitti, "kitti"),
    of_format("labels in RecordIO", rec, "rec", ()),
    of_format("MXNet lists", lst, "rec"),
    of_format("tar shards", shards, "shards", ()),
    of_format("Parquet", parquet, "parquet", (), ("pyarrow",)),
    Target("any labels, recognised and checked", everything, checked, HOW, (), WORDS, slow=8),
    Target("decisions", made(decisions), lambda folder: read_decisions(folder / "d.json"), {".json": in_json}),
]
