"""What a conversion writes is read back: any file names, class names, splits, from and to every format."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from data_makers import make_coco, make_image, make_list, make_voc_image, voc_object
from hypothesis import example, given, settings
from hypothesis import strategies as st

from singleshot import data
from singleshot.data.convert import convert
from singleshot.data.convert_names import safe_stem, target_names, yolo_keys
from singleshot.errors import DataError
from singleshot.images.packed import image_bytes

FORMATS: tuple[str, ...] = ("voc", "coco", "yolo", "rec")

LONG = "n" * 251
NAMES = (
    ["photo.jpg"],
    ["photo.jpg.jpg", "photo.jpg"],
    ["a.", "a", " a", "a ", "a..b", "...a"],
    ["A", "a", "\u00e1", "a\u0301"],
    [LONG, LONG[:-1] + "m", "ü" * 125, "日" * 83],
    ["a%20b", "a b", "a#b", "#a", "a;b", "a,b", "a:b", "a=b", "a'b", 'a"b', "a&b<c>"],
    ["line\nbreak", "tab\tname", "return\rname", "odd\x85sign", "odd\u2028sign", "bell\x07"],
    ["name 1", "name 0", "name -1"],
    ["train", "val", "test", "images", "labels", "classes", "data", "train.txt", "a.xml"],
    ["_annotations", "instances", "default", "0", "1.5", "yes", "null", "~"],
    [os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff\xfe")],
    ["0a1b2c3d-name", "name", "a\\b", "(1)", "a (1)", "[a]", "{a}", "*", "?"],
)
CLASSES = (
    [],
    ["cat"],
    ["yes", "null", "5", "1.5", "~", "true", "2001-01-01", "0x1F", "'q'", '"d"', "a: b", "- x", "#h", "a, b", "[x]"],
    [
        "Cat",
        "cat",
        "c a t",
        "c-a-t",
        "c_a_t",
        "猫",
        "чаша",
        "été",
        "e\u0301te\u0301",
        "&amp;",
        "<b>",
        "a\\b",
        "%s",
        "{}",
    ],
    ["b" * 300, "background", "x"],
)

stems = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=12)
# Names which file systems cannot hold do not reach a conversion.
stems = stems.filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


def picture(number: int) -> bytes:
    """A small PNG that no other number has."""
    pixels = np.full((20, 30, 3), number, dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_source(root: Path, names: list[str], classes: list[str]) -> dict[bytes, list[Any]]:
    """A COCO set of any names, as a COCO file can hold all; image ``i`` is half in split train, half in val.

    Returns:
        The content of each image -> its split, and the boxes with their classes.
    """
    facts: dict[bytes, list[Any]] = {}
    records: dict[str, list[Any]] = {"train": [], "val": []}
    boxes: dict[str, list[Any]] = {"train": [], "val": []}
    (root / "images").mkdir(parents=True)
    for number, name in enumerate(names):
        content = picture(number)
        try:
            (root / "images" / f"{name}.png").write_bytes(content)
        except OSError:
            continue  # not a name on this file system
        split = "val" if number % 2 else "train"
        records[split].append({"id": number, "file_name": f"{name}.png", "height": 20, "width": 30})
        objects = []
        for index in range(len(classes)):
            if (index + number) % 2 == 0:
                box = [1 + index % 20, 2 + number % 15, 5.5, 3.25]
                boxes[split].append({"id": len(boxes[split]), "image_id": number, "category_id": index, "bbox": box})
                objects.append((classes[index], box[0], box[1], box[0] + 5.5, box[1] + 3.25))
        facts[content] = [split, sorted(objects)]
    categories = [{"id": index, "name": name} for index, name in enumerate(classes)]
    (root / "annotations").mkdir()
    for split in records:
        content = {"images": records[split], "annotations": boxes[split], "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return facts


def read_facts(root: Path) -> dict[bytes, list[Any]]:
    facts = {}
    for split in ("train", "val"):
        opened = data.open(root, split, bad_data="error")
        for sample in opened:
            objects = [
                (opened.class_map.names[index], *np.round(box, 3).tolist())
                for index, box in zip(sample.class_ids, sample.boxes_xyxy.astype(float), strict=True)
            ]
            facts[image_bytes(sample.image_path)] = [split, sorted(objects)]
    return facts


def check_there_and_on(names: list[str], classes: list[str], to: str) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        expected = write_source(root / "source", names, classes)
        convert(root / "source", root / "first", to)
        assert read_facts(root / "first") == expected
        assert data.open(root / "first").class_map.names == tuple(classes)
        for second in FORMATS:
            convert(root / "first", root / second, second)
            assert read_facts(root / second) == expected


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("names", NAMES, ids=[repr(names[0])[:20] for names in NAMES])
def test_odd_file_names(names: list[str], to: str) -> None:
    check_there_and_on(names, ["cat", "dog"], to)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("classes", CLASSES, ids=[str(len(classes)) for classes in CLASSES])
def test_odd_class_names(classes: list[str], to: str) -> None:
    check_there_and_on(["a", "b", "c"], classes, to)


@settings(max_examples=8, deadline=None)
@given(st.lists(stems, min_size=2, max_size=6, unique=True), st.sampled_from(FORMATS))
def test_any_file_names(names: list[str], to: str) -> None:
    check_there_and_on(names, ["cat"], to)


@given(st.lists(st.text(max_size=300), max_size=8))
@example(["", ".", "..", "a" * 300, ".hidden", "\ud800"])
def test_target_names_differ_on_every_file_system(texts: list[str]) -> None:
    paths = [Path(f"folder{index}", f"x{text}.JPG".replace("/", "")) for index, text in enumerate(texts)]
    names = target_names(paths)
    assert len(names) == len(paths)
    keys = Counter(unicodedata.normalize("NFC", name.rpartition(".")[0]).casefold() for name in names.values())
    assert max(keys.values(), default=1) == 1
    assert all(len(name.encode()) <= 255 and name.endswith(".jpg") for name in names.values())
    assert not {unicodedata.category(sign) for name in names.values() for sign in name} & {"Cc", "Cs", "Zl", "Zp"}


@given(st.text(max_size=300))
@example("\ud800. ")
def test_a_safe_stem_stays_as_it_is(text: str) -> None:
    assert safe_stem(safe_stem(text)) == safe_stem(text)


@pytest.mark.parametrize("name", ["", " cat", "cat ", "ca\nt", "ca\tt", "\ufeffcat", "ca\x07t"])
@pytest.mark.parametrize("to", FORMATS)
def test_class_names_that_cannot_be_written_are_refused(tmp_path: Path, name: str, to: str) -> None:
    categories: list[dict[str, object]] = [{"id": 1, "name": "dog"}, {"id": 2, "name": name or "x"}]
    images: list[dict[str, object]] = [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}]
    make_coco(tmp_path / "a" / "x.json", images, [], categories, tmp_path / "a")
    if to == "coco" or not name:
        convert(tmp_path / "a", tmp_path / "b", to, classes=["dog", name] if name else None)
        assert data.open(tmp_path / "b").class_map.names == ("dog", name or "x")
        return
    with pytest.raises(DataError, match="class name"):
        convert(tmp_path / "a", tmp_path / "b", to)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("splits", "keys"),
    [
        ([], []),
        (["train", "val", "test"], ["train", "val", "test"]),
        (["trainval", "test"], ["train", "test"]),
        (["train", "trainval", "val"], ["train", "trainval", "val"]),
        (["2007_trainval", "2012_trainval", "trainval", "2007_test", "test"], 0),
        (["train2017", "val2017"], ["train", "val"]),
        (["Train", "valid", "dev2"], ["train", "val", "dev2"]),
        (["unlisted"], ["unlisted"]),
    ],
)
def test_yolo_tools_find_their_splits(splits: list[str], keys: list[str]) -> None:
    expected = keys or ["2007_trainval", "2012_trainval", "train", "2007_test", "test"]
    assert list(yolo_keys(splits).values()) == (expected if splits else [])


def test_yolo_settings_have_the_keys_of_yolo_tools(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        make_voc_image(tmp_path / "a", stem, voc_object("cat", (1, 1, 10, 10)))
    make_list(tmp_path / "a", "trainval", "a")
    make_list(tmp_path / "a", "test", "b")
    done = convert(tmp_path / "a", tmp_path / "b", "yolo")
    written = yaml.safe_load((tmp_path / "b" / "data.yaml").read_text())
    assert written == {"test": "test.txt", "train": "trainval.txt", "names": {0: "cat"}}
    assert any("'trainval' is written as 'train'" in note for note in done.notes)
    assert any("no split 'val'" in note for note in done.notes)
    assert [sample.image_path.stem for sample in data.open(tmp_path / "b", "train")] == ["a"]


@pytest.mark.parametrize("to", FORMATS)
def test_images_in_no_split_and_empty_splits_stay(tmp_path: Path, to: str) -> None:
    for stem in ("a", "b", "c"):
        make_voc_image(tmp_path / "a", stem, voc_object("cat", (1, 1, 10, 10)))
    make_list(tmp_path / "a", "train", "a")
    make_list(tmp_path / "a", "val", "b")
    make_list(tmp_path / "a", "test")
    done = convert(tmp_path / "a", tmp_path / "b", to)
    opened = data.open(tmp_path / "b", bad_data="error")
    assert sorted(sample.image_path.stem for sample in opened) == ["a", "b", "c"]
    assert {"train", "val", "test"} <= set(data.splits(tmp_path / "b"))
    assert len(data.open(tmp_path / "b", "test")) == 0
    assert done.splits["test"] == 0
    if to != "voc":
        assert done.splits["unlisted"] == 1
        assert any("in no split" in note for note in done.notes)


@pytest.mark.parametrize("to", [name for name in FORMATS if name != "rec"])
def test_an_image_may_be_written_as_a_link(tmp_path: Path, to: str) -> None:
    make_voc_image(tmp_path / "a", "x", voc_object("cat", (1, 1, 10, 10)))
    link = make_image(tmp_path / "store" / "y.jpg")
    (tmp_path / "a" / "JPEGImages" / "x.jpg").unlink()
    (tmp_path / "a" / "JPEGImages" / "x.jpg").symlink_to(link)
    convert(tmp_path / "a", tmp_path / to, to, images="link")
    (sample,) = data.open(tmp_path / to, bad_data="error")
    assert sample.image_path.is_symlink()
    assert sample.image_path.read_bytes() == link.read_bytes()
