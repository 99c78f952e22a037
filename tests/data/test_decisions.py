"""Decisions about labels: read, written, honoured by all who open data; the labels themselves stay as they are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_makers import make_list, make_voc_image, voc_object
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from singleshot import data, explain
from singleshot.cli import app
from singleshot.core.structures import Sample
from singleshot.data.convert import convert
from singleshot.data.decided import find_objects
from singleshot.data.decisions import Decision, decision_about, image_key, read_decisions, write_decisions
from singleshot.data.train_val import open_held_out
from singleshot.errors import ConfigError, DataError
from singleshot.evaluation.evaluate import evaluate
from singleshot.images.read import write_image
from singleshot.training.anchor_comparison import compare_anchors

CAT, DOG = voc_object("cat", (1, 1, 30, 20)), voc_object("dog", (11, 11, 50, 40), 1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images: a cat and a dog, a dog, nothing; the last is held out."""
    root = tmp_path_factory.mktemp("decisions") / "photos"
    make_voc_image(root, "a", CAT, DOG)
    make_voc_image(root, "b", DOG)
    make_voc_image(root, "c")
    make_list(root, "train", "a", "b")
    make_list(root, "val", "c")
    return root


def decide(opened: data.DetectionDataset, *wanted: tuple[str, int | None, str, str | None]) -> list[Decision]:
    """Decisions by the image's stem, the object's row, the action and the new class."""
    samples = {sample.image_path.stem: sample for sample in opened}
    names = opened.class_map.names
    return [decision_about(opened.path, samples[stem], names, row, action, to) for stem, row, action, to in wanted]


def objects(opened: data.DetectionDataset) -> dict[str, list[str]]:
    return {s.image_path.stem: [opened.class_map.names[index] for index in s.class_ids] for s in opened}


def content(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_no_decision_changes_nothing(photos: Path, tmp_path: Path) -> None:
    file = write_decisions(tmp_path / "none.json", [])
    assert read_decisions(file).entries == ()
    before, after = data.open(photos), data.open(photos, decisions=file)
    assert objects(after) == objects(before)
    assert after.notes == (f"{file}: nothing to leave out or to relabel",)


def test_what_was_decided_is_what_is_opened(photos: Path, tmp_path: Path) -> None:
    before = content(photos)
    wanted = decide(
        data.open(photos),
        ("a", 0, "relabel", "dog"),
        ("a", 1, "drop", None),
        ("b", 0, "keep", None),
        ("c", None, "drop", None),
    )
    file = write_decisions(tmp_path / "decided.json", wanted)
    assert read_decisions(file).entries == tuple(wanted)
    opened = data.open(photos, decisions=file)
    assert objects(opened) == {"a": ["dog"], "b": ["dog"]}
    assert opened[0].difficult.tolist() == [False]
    assert [path.stem for path in opened.dropped] == ["c"]
    assert opened.notes == (f"{file}: 1 image left out, 1 object left out, 1 object relabelled",)
    assert content(photos) == before


@pytest.mark.parametrize("to", ["voc", "coco", "yolo", "rec"])
def test_every_format_is_decided_about_and_converted(photos: Path, tmp_path: Path, to: str) -> None:
    convert(photos, tmp_path / to, to)
    source = data.open(tmp_path / to)
    entries = decide(source, ("a", 0, "relabel", "dog"), ("b", None, "drop", None))
    file = write_decisions(tmp_path / "decided.json", entries)
    convert(tmp_path / to, tmp_path / "clean", to, decisions=file)
    assert objects(data.open(tmp_path / "clean")) == {"a": ["dog", "dog"], "c": []}
    assert len(data.open(tmp_path / to)) == 3


def test_an_object_is_found_in_another_order_and_after_rounding(photos: Path, tmp_path: Path) -> None:
    sample = data.open(photos)[0]
    entries = decide(data.open(photos), ("a", 0, "drop", None), ("a", 1, "drop", None))
    turned = dataclasses.replace(
        sample, boxes_xyxy=sample.boxes_xyxy[::-1] + np.float32(0.4), class_ids=sample.class_ids[::-1]
    )
    assert find_objects(turned, ("cat", "dog"), entries) == [1, 0]
    moved = dataclasses.replace(sample, boxes_xyxy=sample.boxes_xyxy + np.float32(2))
    assert find_objects(moved, ("cat", "dog"), entries) == [-1, -1]
    assert find_objects(sample, ("dog", "cat"), entries) == [-1, -1]


ROW = st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(31, 60)] * 2, st.integers(0, 2))


@settings(max_examples=40)
@given(st.lists(ROW, unique=True, max_size=8))
def test_every_object_is_found_again(rows: list[tuple[int, ...]]) -> None:
    boxes = np.array([row[:4] for row in rows], dtype=np.float32).reshape(-1, 4) / 7 * 3
    sample = Sample(Path("set/x.jpg"), (60, 60), boxes, np.array([row[4] for row in rows], dtype=np.int64))
    names = ("a", "b", "c")
    entries = [decision_about(Path("set"), sample, names, row, "keep") for row in range(len(rows))]
    assert find_objects(sample, names, entries) == list(range(len(rows)))


def test_two_labels_of_one_object_become_one(tmp_path: Path) -> None:
    make_voc_image(tmp_path / "set", "a", CAT, voc_object("dog", (1, 1, 30, 20)))
    opened = data.open(tmp_path / "set")
    file = write_decisions(tmp_path / "d.json", decide(opened, ("a", 0, "relabel", "dog")))
    decided = data.open(tmp_path / "set", decisions=file)
    assert objects(decided) == {"a": ["dog"]}
    assert decided.notes[0].endswith("1 object relabelled, 1 object of the same box and class as another left out")


def test_classes_asked_for_come_after_the_decisions(photos: Path, tmp_path: Path) -> None:
    file = write_decisions(tmp_path / "d.json", decide(data.open(photos), ("a", 0, "relabel", "dog")))
    opened = data.open(photos, classes=["dog"], decisions=file)
    assert objects(opened) == {"a": ["dog", "dog"], "b": ["dog"], "c": []}
    other = data.open(photos, classes=["cat"], decisions=file)
    assert objects(other) == {"a": [], "b": [], "c": []}
    assert [problem.message for problem in other.problems] == ["class 'dog' (3 objects) is not asked for"]


def test_names_in_lower_case(tmp_path: Path) -> None:
    make_voc_image(tmp_path / "set", "a", voc_object("Cat ", (1, 1, 30, 20)), DOG)
    opened = data.open(tmp_path / "set")
    file = write_decisions(tmp_path / "d.json", decide(opened, ("a", 0, "drop", None)))
    assert objects(data.open(tmp_path / "set", decisions=file, lower_names=True)) == {"a": ["dog"]}


def test_what_is_no_longer_there_is_said_once(photos: Path, tmp_path: Path) -> None:
    entry = decide(data.open(photos), ("a", 0, "drop", None))[0]
    gone = entry.model_copy(update={"box_xyxy": (0.0, 0.0, 3.0, 3.0)})
    absent = [entry.model_copy(update={"image": f"JPEGImages/{name}.jpg"}) for name in "xy"]
    file = write_decisions(tmp_path / "d.json", [gone, *absent])
    train, val = data.open_training(photos, decisions=file)
    assert train.notes == (
        f"{file}: in split 'train' nothing to leave out or to relabel",
        f"{file}: in split 'train' 1 decision about boxes that the labels no longer have, such as 'cat' in "
        "JPEGImages/a.jpg: without effect",
        f"{file}: 2 decided images not in the data, such as JPEGImages/x.jpg: without effect (images are named below "
        "the folder that was browsed: open the same folder or label file)",
    )
    assert val is not None


def test_a_decision_moves_no_other_image_between_parts(tmp_path: Path) -> None:
    for number in range(20):
        make_voc_image(tmp_path / "set", f"image{number}", CAT)
    train, val = data.open_training(tmp_path / "set")
    assert val is not None
    gone = [sample.image_path.stem for sample in (*train.samples[:5], val[0])]
    entries = decide(data.open(tmp_path / "set"), *((stem, None, "drop", None) for stem in gone))
    file = write_decisions(tmp_path / "d.json", entries)
    fewer, held_out = data.open_training(tmp_path / "set", decisions=file)
    assert held_out is not None
    assert objects(fewer).keys() == objects(train).keys() - set(gone)
    assert objects(held_out).keys() == objects(val).keys() - set(gone)
    assert objects(open_held_out(tmp_path / "set", decisions=file)).keys() == objects(held_out).keys()


WRONG: list[tuple[Any, str]] = [
    ("{", ": line 1: is no JSON"),
    ([], "holds no decisions"),
    ({"images": []}, "holds no decisions"),
    ({"singleshot_decisions": 2, "decisions": []}, "singleshot_decisions: must be 1"),
    ([{"image": "a.jpg", "action": "burn"}], "decisions.0.action: must be 'drop', 'keep' or 'relabel'"),
    (
        [{"image": "a.jpg", "action": "keep", "box": [0, 0, 1, 1]}],
        "decisions.0.box: no such setting; known: image",
    ),
    ([{"image": "a.jpg", "action": "keep", "class_name": "cat"}], "give both or neither"),
    ([{"image": "a.jpg", "action": "relabel", "to": "cat"}], "relabel needs an object"),
    ([{"image": "a.jpg", "action": "drop", "to": "cat"}], "to is of relabel"),
    ([{"image": "a.jpg", "action": "drop"}] * 2, "decisions.1 and decisions.0 are about the same image of a.jpg"),
]


@pytest.mark.parametrize(("written", "message"), WRONG)
def test_a_wrong_file_is_named_with_its_line_or_key(tmp_path: Path, written: Any, message: str) -> None:
    file = tmp_path / "wrong.json"
    whole = {"singleshot_decisions": 1, "decisions": written} if written and isinstance(written, list) else written
    file.write_text(written if isinstance(written, str) else json.dumps(whole))
    with pytest.raises(DataError, match=r"^[^\n]*wrong\.json") as caught:
        read_decisions(file)
    assert message in str(caught.value)


def test_an_unknown_class_or_file_is_an_error(photos: Path, tmp_path: Path) -> None:
    entry = decide(data.open(photos), ("a", 0, "relabel", "dogg"))
    file = write_decisions(tmp_path / "d.json", entry)
    with pytest.raises(DataError, match=r"decisions\.0\.to: the data has no class 'dogg'; did you mean 'dog'"):
        data.open(photos, decisions=file)
    with pytest.raises(DataError, match=r"none\.json: decisions cannot be read: No such file"):
        data.open(photos, decisions=tmp_path / "none.json")


def test_a_folder_and_its_file_of_labels_have_the_same_decisions(tmp_path: Path) -> None:
    file = tmp_path / "set" / "annotations" / "instances_train.json"
    for stem in ("a", "b"):
        write_image(tmp_path / "set" / "train" / f"{stem}.png", np.zeros((30, 40, 3), np.uint8))
    file.parent.mkdir()
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
    images = [{"id": n, "file_name": f"{stem}.png", "width": 40, "height": 30} for n, stem in enumerate("ab", 1)]
    content = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    file.write_text(json.dumps(content))
    for made, used in ((file, file.parents[1]), (file.parents[1], file)):
        about = decide(data.open(made), ("a", 0, "drop", None), ("b", None, "drop", None))
        decisions = write_decisions(tmp_path / "d.json", about)
        assert objects(data.open(used, decisions=decisions)) == {"a": []}
        assert objects(data.open(made, decisions=decisions)) == {"a": []}


def test_odd_names_survive_the_file(tmp_path: Path) -> None:
    box = np.array([[1, 1, 5, 5]], dtype=np.float32)
    odd = tmp_path / "set" / "x\n\udcff.jpg"
    odd.parent.mkdir()
    sample = Sample(odd, (9, 9), box, np.zeros(1, dtype=np.int64))
    entry = decision_about(odd.parent, sample, ("<b>\u00e9\u202e",), 0, "drop")
    file = write_decisions(tmp_path / "d.json", [entry])
    assert read_decisions(file).entries == (entry,)
    assert list(read_decisions(file).by_path(odd.parent, [])) == [image_key(odd)]


def test_verbs_take_them(photos: Path, tmp_path: Path) -> None:
    file = write_decisions(tmp_path / "d.json", decide(data.open(photos), ("b", None, "drop", None)))
    done = CliRunner().invoke(app, ["data", "check", str(photos), "--fast", "--decisions", str(file)])
    assert "2 images, 2 objects" in done.stdout
    done = CliRunner().invoke(
        app, ["data", "convert", str(photos), str(tmp_path / "new"), "--to", "coco", "--decisions", str(file)]
    )
    assert (done.exit_code, objects(data.open(tmp_path / "new"))) == (0, {"a": ["cat", "dog"], "c": []})
    assert "1 image left out" in done.stdout


def test_boxes_that_nearly_lie_on_each_other_stay_apart(tmp_path: Path) -> None:
    boxes = np.array([(10, 10, 40, 40), (10.004, 10, 40, 40), (10.3, 10, 40, 40)], dtype=np.float32)
    sample = Sample(Path("set/x.jpg"), (60, 60), boxes, np.zeros(3, dtype=np.int64))
    entries = [decision_about(Path("set"), sample, ("a",), row, "drop") for row in range(3)]
    file = write_decisions(tmp_path / "d.json", entries)
    assert read_decisions(file).entries == tuple(entries)
    fewer = dataclasses.replace(sample, boxes_xyxy=boxes[2:], class_ids=sample.class_ids[2:])
    assert find_objects(fewer, ("a",), entries) == [-1, -1, 0]  # the nearest decides, not the first


def test_one_image_spelt_twice_is_decided_once(tmp_path: Path) -> None:
    wanted = [Decision(image="a.jpg", action="drop"), Decision(image="./a.jpg", action="keep")]
    with pytest.raises(DataError, match="about the same image"):
        read_decisions(write_decisions(tmp_path / "d.json", wanted))


@pytest.mark.parametrize(
    ("use", "how"),
    [
        (partial(evaluate, "coco"), {"decisions": "none.json"}),
        (partial(evaluate, "coco"), {"split": "test"}),
        (partial(evaluate, "coco"), {"lower_names": True}),
        (partial(evaluate, "coco"), {"classes": ["a"]}),
        (compare_anchors, {"format": "voc"}),
        (explain, {"split": "train"}),
    ],
)
def test_how_to_open_is_not_ignored_where_data_is_open(
    photos: Path, use: Callable[..., object], how: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=f"`{next(iter(how))}` says how data at a path is opened"):
        use(data.open(photos), **how)
