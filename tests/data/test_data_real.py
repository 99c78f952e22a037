"""Real data sets, when they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import defusedxml.ElementTree
import numpy as np
from pycocotools.coco import COCO

from singleshot import data
from singleshot.data.convert import convert


def test_bccd(reference: Path) -> None:
    root = reference / "data" / "bccd"
    opened = {split: data.open(root, split) for split in (None, "train", "val", "trainval", "test")}
    assert {split: len(part) for split, part in opened.items()} == {
        None: 364,
        "train": 205,
        "val": 87,
        "trainval": 292,
        "test": 72,
    }
    whole = opened[None]
    assert whole.class_map.names == ("Platelets", "RBC", "WBC")
    counts = np.bincount(np.concatenate([sample.class_ids for sample in whole]))
    assert counts.tolist() == [361, 4155, 372]
    # Two marks of a single pixel, made by a slip of the mouse; all else is sound.
    assert {(p.file.stem[-5:], p.kind, p.action) for p in whole.problems} == {
        ("00338", "tiny", "noted"),
        ("00343", "tiny", "noted"),
    }


def test_bccd_boxes_equal_another_parser(reference: Path) -> None:
    for sample in data.open(reference / "data" / "bccd", "test"):
        root = defusedxml.ElementTree.parse(sample.image_path.parents[1] / "Annotations" / f"{sample.image_id}.xml")
        corners = [[float(box.findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax")] for box in root.iter("bndbox")]
        np.testing.assert_array_equal(sample.boxes_xyxy, np.array(corners) - [1, 1, 0, 0])


def test_coco_equals_pycocotools(reference: Path) -> None:
    root = reference / "data" / "coco_train343"
    opened = data.open(root)
    coco = COCO(str(root / "instances.json"))
    assert opened.class_map.ids == tuple(sorted(coco.getCatIds()))
    assert opened.class_map.names == tuple(cat["name"] for cat in coco.loadCats(opened.class_map.ids))
    assert sorted(sample.image_id for sample in opened) == sorted(coco.getImgIds())
    for sample in opened:
        records = coco.loadAnns(coco.getAnnIds(imgIds=[sample.image_id]))
        boxes = np.array([record["bbox"] for record in records]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(sample.boxes_xyxy, boxes, atol=1e-2)
        np.testing.assert_allclose(sample.areas, [record["area"] for record in records], rtol=1e-6)
        assert sample.iscrowd.tolist() == [bool(record["iscrowd"]) for record in records]
        assert [opened.class_map.ids[index] for index in sample.class_ids] == [r["category_id"] for r in records]


def test_coco_through_voc_and_back(reference: Path, tmp_path: Path) -> None:
    root = reference / "data" / "coco_train343"
    convert(root, tmp_path / "voc", "voc", images="link")
    convert(tmp_path / "voc", tmp_path / "coco", "coco", images="link")
    before = {sample.image_path.name: sample for sample in data.open(root)}
    for sample in data.open(tmp_path / "coco", bad_data="error"):
        np.testing.assert_allclose(sample.boxes_xyxy, before[sample.image_path.name].boxes_xyxy, atol=1e-3)
    content = json.loads((tmp_path / "coco" / "annotations" / "instances.json").read_text())
    assert len(content["annotations"]) == sum(map(len, before.values()))
