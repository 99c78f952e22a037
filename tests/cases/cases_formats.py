"""Cases of recognising, splitting and reading data sets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from singleshot import data
from singleshot.cli import app
from singleshot.data.check import check
from singleshot.data.train_val import open_held_out, open_training, remarks
from singleshot.errors import ConfigError, DataError
from singleshot.training.recipes import read_config

CAT, DOG = ("cat", (5, 5, 30, 30)), ("dog", (35, 10, 60, 40))


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", "check", *map(str, words)], env={"COLUMNS": "300"})
    return result.exit_code, result.output


def objects(dataset: data.DetectionDataset) -> list[list[tuple[str, tuple[int, ...]]]]:
    names = dataset.class_map.names
    return [
        [
            (names[index], tuple(round(value) for value in box))
            for index, box in zip(sample.class_ids.tolist(), sample.boxes_xyxy.tolist(), strict=True)
        ]
        for sample in dataset
    ]


def holds(count: int, *found: tuple[str, tuple[int, ...]]) -> Callable[[Path], None]:
    """The data set has so many images, with these objects each, and nothing is left out or repaired."""

    def verify(case: Path) -> None:
        assert objects(data.open(case / "data", bad_data="error")) == [list(found or (CAT, DOG))] * count

    return verify


def has_splits(**sizes: int) -> Callable[[Path], None]:
    """The splits have so many images, with the usual objects each; train and eval agree."""

    def verify(case: Path) -> None:
        for name, size in sizes.items():
            assert objects(data.open(case / "data", name, bad_data="error")) == [[CAT, DOG]] * size
        train_set, val_set = open_training(case / "data")
        assert (len(train_set), val_set and len(val_set)) == (sizes["train"], sizes["val"])

    return verify


def one_image_for_test(case: Path) -> None:
    train_set, val_set = open_training(case / "data")
    assert (len(train_set), val_set) == (1, None)
    assert any("nothing is measured" in line for line in remarks(train_set, val_set))


def small_set_one_bad_line(case: Path) -> None:
    train_set, val_set = open_training(case / "data")
    assert (len(train_set), val_set and len(val_set)) == (7, 1)
    assert any(line.startswith("unknown-class: 1 skipped") for line in remarks(train_set, val_set))


def stray_coco_file(case: Path) -> None:
    holds(6)(case)
    assert {"format-chosen", "other-format"} == {problem.kind for problem in data.open(case / "data").problems}


def voc_with_one_yolo_file(case: Path) -> None:
    holds(10)(case)
    opened = data.open(case / "data")
    assert opened.format == "voc"
    assert "im3.txt" in {problem.file.name for problem in opened.problems}


def broken_yaml(case: Path) -> None:
    for path in (case / "data", case / "data" / "my_animals.yaml"):
        code, text = run(path)
        assert code == 2
        assert re.search(r"my_animals\.yaml:\d+: not valid YAML: .*expected ',' or '\]'", text)


def blank_line(case: Path) -> None:
    opened = data.open(case / "data", bad_data="error")
    assert opened.class_map.names == ("cat", "class1", "dog", "owl")
    assert [[name for name, _ in image] for image in objects(opened)] == [["cat", "dog", "owl"]] * 3


def labels_of_other_names(case: Path) -> None:
    code, text = run(case / "data")
    assert code == 0
    for name in ("IM3.txt", "IM4.txt", "IM5.txt", "im3.jpg", "im4.jpg", "im5.jpg"):
        assert name in text


def linked_subfolder(case: Path) -> None:
    for link in (case / "data" / kind / "train" / "day1" for kind in ("images", "labels")):
        if not link.is_symlink():  # a copy of the reference may hold the links as texts
            target = link.read_text()
            link.unlink()
            link.symlink_to(target)
    opened = data.open(case / "data", "train")
    assert (len(opened), sum(map(len, opened))) == (4, 7)


def no_test_folder(case: Path) -> None:
    has_splits(train=2, val=2)(case)
    code, text = run(case / "data")
    assert (code, "missing-split" in text) == (0, True)
    assert run(case / "data", "--split", "test")[0] == 2


def val_without_labels(case: Path) -> None:
    text = "\n".join(remarks(*open_training(case / "data")))
    assert "nothing can be measured on 'val'" in text
    assert "labels/val/val0.txt" in text


def own_split_names(case: Path) -> None:
    train_set, val_set = open_training(case / "data")
    held_out = open_held_out(case / "data")
    assert val_set is not None
    assert (train_set.split, val_set.split, held_out.split) == (
        "train_annotations",
        "val_annotations",
        "test_annotations",
    )
    assert (len(train_set), len(val_set), len(held_out)) == (16, 6, 6)


def empty_test_list(case: Path) -> None:
    held_out = open_held_out(case / "data")
    assert (held_out.split, len(held_out)) == ("val", 1)
    with pytest.raises(DataError, match="'test' has no usable images"):
        open_held_out(case / "data", "test")


def anchor_bomb(case: Path) -> None:
    for name in ("names", "train"):
        with pytest.raises(DataError, match=rf"data\.yaml: key '{name}'.*not a list"):
            data.open(case / name)
    with pytest.raises(ConfigError) as caught:
        read_config(case / "recipe.yaml")
    assert len(str(caught.value)) < 2000


def class_id_99999(case: Path) -> None:
    report = check(case, deep=False)
    assert [(problem.kind, problem.line) for problem in report.problems] == [("unnamed-class", 1)]
    assert report.images["objects"] == 1


def odd_list_lines(case: Path) -> None:
    for name in ("l.txt", "l2.txt"):
        (case / "data.yaml").write_text(f"train: {name}\nnames: [a]\n")
        opened = data.open(case)
        assert len(opened) == 1
        assert [p.line for p in opened.problems if p.action == "skipped"] == [2]


def odd_entries(case: Path) -> None:
    for number, make in enumerate((Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/nowhere"))):
        root = case / str(number)
        for place, suffix in (("Annotations", ".xml"), ("JPEGImages", ".jpg")):
            (root / place).mkdir(parents=True)
            (root / place / f"a{suffix}").write_bytes((case / f"a{suffix}").read_bytes())
        for name in ("Annotations/b.xml", "b.txt", "b.json", "b.yaml", "b.csv", "JPEGImages/b.txt"):
            make(root / name)
        assert len(data.open(root)) == 1


def csv_header(case: Path) -> None:
    for name in ("l.csv", "long.csv"):
        with pytest.raises(DataError, match=rf"{re.escape(name)}:1: "):
            data.open(case / name)


CASES: dict[str, Callable[[Path], None]] = {
    "cases/csv-of-a-spreadsheet": holds(3, CAT),
    "cases/one-image-for-test": one_image_for_test,
    "cases/small-set-one-bad-line": small_set_one_bad_line,
    "cases/stray-coco-file": stray_coco_file,
    "cases/voc-with-one-yolo-file": voc_with_one_yolo_file,
    "cases/yolo-broken-yaml-by-name": broken_yaml,
    "cases/yolo-classes-blank-line": blank_line,
    "cases/yolo-classes-in-split-folders": has_splits(train=2, val=2),
    "cases/yolo-classes-utf16": holds(3),
    "cases/yolo-classes-with-bom": holds(3),
    "cases/yolo-darknet-export": holds(3),
    "cases/yolo-labels-of-other-names": labels_of_other_names,
    "cases/yolo-linked-subfolder": linked_subfolder,
    "cases/yolo-list-of-another-machine": has_splits(train=2, val=1),
    "cases/yolo-list-with-bom": has_splits(train=2, val=1),
    "cases/yolo-no-test-folder": no_test_folder,
    "cases/yolo-notebook-checkpoints": has_splits(train=2, val=2),
    "cases/yolo-pose-without-shape": holds(4, CAT),
    "cases/yolo-upper-case-folders": has_splits(train=2, val=2),
    "cases/yolo-val-without-labels": val_without_labels,
    "cases/yolo-windows-slashes": has_splits(train=2, val=2),
    "cases/coco-own-split-names": own_split_names,
    "cases/coco-labels-json-beside": has_splits(train=2, val=1),
    "cases/voc-empty-test-list": empty_test_list,
    "cases-trust/yaml-anchor-bomb": anchor_bomb,
    "cases-trust/yolo-class-id-99999": class_id_99999,
    "cases-trust/yolo-list-odd-lines": odd_list_lines,
    "cases-trust/odd-entries-in-data-folder": odd_entries,
    "cases-trust/csv-header": csv_header,
}
