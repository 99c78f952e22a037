"""Cases of VOC and COCO files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from singleshot import data
from singleshot.cli import app
from singleshot.data.bad_records import Problem
from singleshot.data.check import check
from singleshot.data.formats.voc_xml import parse_voc
from singleshot.errors import DataError
from singleshot.training.checks import check_samples

CAT, DOG = [5, 5, 30, 30], [35, 10, 60, 40]


def _run(*words: str | Path) -> tuple[int, str]:
    """Exit code and output of a command."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output


def _expect_cat_and_dog(folder: Path, images: int, split: str | None = None) -> data.DetectionDataset:
    """Every image has the same two objects, and `data check` finds nothing that costs one."""
    opened = data.open(folder, split)
    assert len(opened) == images
    assert opened.class_map.names == ("cat", "dog")
    for sample in opened:
        assert sample.boxes_xyxy.tolist() == [CAT, DOG]
        assert sample.class_ids.tolist() == [0, 1]
        assert not sample.iscrowd.any()
    return opened


def _expect_clean(folder: Path) -> None:
    assert _run("data", "check", folder)[0] == 0


def _all_crowd(case: Path) -> None:
    code, output = _run("data", "check", case / "data")
    assert code == 0
    assert "all 4 objects are crowds" in output
    opened = data.open(case / "data")
    with pytest.raises(DataError, match="iscrowd"):
        check_samples(opened.samples, opened.class_map, keep_empty=True)


def _boxes_as_text(case: Path) -> None:
    _expect_cat_and_dog(case / "data", 2)
    _expect_clean(case / "data")


def _corner_boxes(case: Path) -> None:
    code, output = _run("data", "check", case / "data")
    assert code == 1
    assert "look like corners x1, y1, x2, y2" in output


def _fraction_boxes(case: Path) -> None:
    code, output = _run("data", "check", case / "data")
    assert code == 1
    assert "look like fractions of the image" in output
    assert sum(map(len, data.open(case / "data"))) == 0


def _crowd_as_text(case: Path) -> None:
    _expect_cat_and_dog(case / "data", 2)
    _expect_clean(case / "data")


def _ids_of_two_types(case: Path) -> None:
    opened = _expect_cat_and_dog(case / "data", 2)
    assert any("1 for '1'" in problem.message for problem in opened.problems)


def _paths_of_export_server(case: Path) -> None:
    _expect_cat_and_dog(case / "data", 2)
    _expect_clean(case / "data")


def _polygon_only(case: Path) -> None:
    opened = _expect_cat_and_dog(case / "data", 2)
    assert [problem.kind for problem in opened.problems] == ["polygon"]


def _annots_folder(case: Path) -> None:
    _expect_cat_and_dog(case / "data", 3)
    _expect_clean(case / "data")


def _double_suffix(case: Path) -> None:
    opened = _expect_cat_and_dog(case / "data", 2, "train")
    assert {sample.image_path.name for sample in opened} == {"photo.jpg.jpg", "img2.jpg"}
    _expect_clean(case / "data")


def _labels_in_other_case(case: Path) -> None:
    opened = data.open(case / "data")
    assert [sample.boxes_xyxy.tolist() for sample in opened] == [[CAT, DOG]] * 2
    notes = [problem for problem in opened.problems if problem.file.name == "labels.txt"]
    assert [("Cat" in note.message, "Dog" in note.message) for note in notes] == [(True, False), (False, True)]


def _labels_with_background(case: Path) -> None:
    _expect_cat_and_dog(case / "data", 2)


def _list_names_what_is_missing(case: Path) -> None:
    code, _ = _run("data", "check", case / "data")
    assert code == 1
    report = check(case / "data")
    found = {(p.kind, p.file.name, p.line) for p in report.problems if p.action == "skipped"}
    assert found == {("missing-annotation", "train.txt", 3), ("missing-annotation", "val.txt", 2)}


def _lists_by_class_only(case: Path) -> None:
    assert set(data.splits(case / "data")) == {"train", "val"}
    _expect_cat_and_dog(case / "data", 3, "train")
    _expect_cat_and_dog(case / "data", 2, "val")
    _expect_clean(case / "data")


def _subfolders(case: Path) -> None:
    opened = _expect_cat_and_dog(case / "data", 6)
    assert {sample.image_id for sample in opened} == {f"day{day}/im{i}" for day in (1, 2) for i in range(3)}
    _expect_clean(case / "data")


def _xml_of_another_name(case: Path) -> None:
    opened = _expect_cat_and_dog(case / "data", 2)
    assert {sample.image_path.name for sample in opened} == {"photo_a.jpg", "photo_b.jpg"}
    assert _run("data", "check", case / "data") == (0, _run("data", "check", case / "data")[1])
    assert "no annotation file" not in _run("data", "check", case / "data")[1]


def _bbox_strings(case: Path) -> None:
    (sample,) = data.open(case)
    assert sample.boxes_xyxy.tolist() == [[1, 2, 4, 6]]


def _deep_xml(case: Path) -> None:
    subprocess.run([sys.executable, "gen.py"], cwd=case, check=True)
    files = list(case.rglob("*.xml"))
    assert files
    for file in files:
        problem = parse_voc(file)
        assert isinstance(problem, Problem)
        assert problem.kind in ("unreadable-annotation", "not-voc")


CASES: dict[str, Callable[[Path], None]] = {
    "cases/coco-all-crowd": _all_crowd,
    "cases/coco-boxes-as-text": _boxes_as_text,
    "cases/coco-corner-boxes": _corner_boxes,
    "cases/coco-crowd-as-text": _crowd_as_text,
    "cases/coco-fraction-boxes": _fraction_boxes,
    "cases/coco-ids-of-two-types": _ids_of_two_types,
    "cases/coco-paths-of-export-server": _paths_of_export_server,
    "cases/coco-polygon-only": _polygon_only,
    "cases/voc-annots-folder": _annots_folder,
    "cases/voc-double-suffix": _double_suffix,
    "cases/voc-labels-in-other-case": _labels_in_other_case,
    "cases/voc-labels-with-background": _labels_with_background,
    "cases/voc-list-names-what-is-missing": _list_names_what_is_missing,
    "cases/voc-lists-by-class-only": _lists_by_class_only,
    "cases/voc-subfolders": _subfolders,
    "cases/voc-xml-of-another-name": _xml_of_another_name,
    "cases-trust/coco-bbox-strings": _bbox_strings,
    "cases-trust/voc-deep-xml": _deep_xml,
}
