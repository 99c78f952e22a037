"""YOLO: YAML forms, bare folders, lists, polygons, malformed lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_makers import make_image, make_yolo_image

from singleshot import data
from singleshot.data.formats.yolo_labels import label_path
from singleshot.errors import DataError

HALF = "0 0.5 0.5 0.5 0.5"
NAMES = "names: [cat, dog]\n"


def test_images_without_labels_are_background(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a")
    make_image(tmp_path / "images" / "b.jpg")
    (tmp_path / "data.yaml").write_text("train: images\nnames: {}\n")
    opened = data.open(tmp_path, "train")
    assert (opened.format, len(opened), len(opened.class_map)) == ("yolo", 2, 0)
    assert [(p.kind, p.action, p.file.name) for p in opened.problems] == [("unlabelled-image", "noted", "b.jpg")]
    assert [sample.boxes_xyxy.shape for sample in opened] == [(0, 4), (0, 4)]


def test_fractions_become_pixels(tmp_path: Path) -> None:
    lines = (HALF, "1 0.25 0.5 0.5 1.0", "", "1 0.5 0.5 0.1 0.1 0.93", "0 0.1 0.2 0.5 0.2 0.3 0.6")
    make_yolo_image(tmp_path, "a", *lines)
    (tmp_path / "data.yaml").write_text(f"train: images\n{NAMES}")
    (sample,) = data.open(tmp_path)
    expected = [[15, 10, 45, 30], [0, 0, 30, 40], [27, 18, 33, 22], [6, 8, 30, 24]]
    np.testing.assert_allclose(sample.boxes_xyxy, expected, atol=1e-5)
    assert sample.class_ids.tolist() == [0, 1, 1, 0]
    assert sample.image_size_hw == (40, 60)


@pytest.mark.parametrize(
    ("yaml", "names"),
    [
        (NAMES, ("cat", "dog")),
        ("nc: 2\n" + NAMES, ("cat", "dog")),
        ("names:\n  0: cat\n  2: bird\n", ("cat", "class1", "bird")),
        ("names: {1: dog, 0: cat}\n", ("cat", "dog")),
        ("names: [no, on, 1.0, 2024-01-01, 'null', 0x10]\n", ("no", "on", "1.0", "2024-01-01", "null", "0x10")),
    ],
)
def test_names_in_every_form(tmp_path: Path, yaml: str, names: tuple[str, ...]) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    (tmp_path / "data.yaml").write_text(f"train: images\n{yaml}")
    assert data.open(tmp_path).class_map.names == names


@pytest.mark.parametrize(
    "sources",
    [
        "train: images/train\nval: images/val\n",
        "path: .\ntrain: [images/train]\nval: images/val\n",
        "path: /another/machine\ntrain: ../images/train\nval: ../images/val\ntest:\n",
        "train: train.txt\nval: images/val\n",
        "",
    ],
)
def test_sources_in_every_form(tmp_path: Path, sources: str) -> None:
    for split in ("train", "val"):
        make_yolo_image(tmp_path, f"{split}/{split}_a", HALF)
    (tmp_path / "train.txt").write_text("./images/train/train_a.jpg\n\n")
    (tmp_path / "data.yaml").write_text(sources + NAMES)
    for path in (tmp_path, tmp_path / "data.yaml"):
        assert data.splits(path) == ("train", "val")
        assert [sample.image_id for sample in data.open(path, "train", bad_data="error")] == ["train_a"]
        assert [len(sample) for sample in data.open(path, "val")] == [1]


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), (".", ".")])
def test_bare_folders(tmp_path: Path, images: str, labels: str) -> None:
    make_yolo_image(tmp_path, "a", "2 0.5 0.5 0.5 0.5", images=images, labels=labels)
    assert data.open(tmp_path).class_map.names == ("class0", "class1", "class2")
    (tmp_path / "classes.txt").write_text("x\ny\nz\n")
    opened = data.open(tmp_path)
    assert (opened.class_map.names, opened[0].class_ids.tolist()) == (("x", "y", "z"), [2])


def test_bare_folders_with_splits(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", HALF, images="train/images", labels="train/labels")
    make_yolo_image(tmp_path, "b", "1 0.5 0.5 0.5 0.5", images="valid/images", labels="valid/labels")
    assert data.splits(tmp_path) == ("train", "valid")
    assert data.open(tmp_path, "train").class_map == data.open(tmp_path, "val").class_map


def test_label_path_swaps_the_last_folder_called_images(tmp_path: Path) -> None:
    assert label_path(Path("/images/set/images/a/b.c.jpg")) == Path("/images/set/labels/a/b.c.txt")
    assert label_path(Path("/photos/a.jpg")) == Path("/photos/a.txt")


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    lines = (
        HALF,
        "0 0.5 0.5 0.5",
        "cat 0.5 0.5 0.5 0.5",
        "0 0.5 0.5 nan 0.5",
        "-1 0.5 0.5 0.5 0.5",
        "1.5 0.5 0.5 0.5 0.5",
        "7 0.5 0.5 0.5 0.5",
        "0 0.5 0.5 0 0.5",
        "0 0.5 0.5 -0.5 0.5",
        "0 0.9 0.5 0.5 0.5",
        "0 1.9 0.5 0.5 0.5",
        "0 320 240 50 50",
        HALF,
        "0 1e308 0.5 1e308 1e308",
        "999999999999999999999 0.5 0.5 0.5 0.5",
    )
    make_yolo_image(tmp_path, "a", *lines)
    (tmp_path / "data.yaml").write_text(f"train: images\n{NAMES}")
    opened = data.open(tmp_path)
    found = sorted((problem.line, problem.kind, problem.action) for problem in opened.problems)
    assert found == sorted(
        [
            (2, "bad-record", "skipped"),
            (3, "bad-record", "skipped"),
            (4, "not-finite", "skipped"),
            (5, "bad-record", "skipped"),
            (6, "bad-record", "skipped"),
            (7, "unknown-class", "skipped"),
            (8, "degenerate", "skipped"),
            (9, "inverted", "repaired"),
            (9, "duplicate-box", "skipped"),
            (10, "clipped", "repaired"),
            (11, "outside", "skipped"),
            (12, "not-fractions", "skipped"),
            (13, "duplicate-box", "skipped"),
            (14, "not-fractions", "skipped"),
            (15, "bad-record", "skipped"),
        ]
    )
    assert {problem.file for problem in opened.problems} == {tmp_path / "labels" / "a.txt"}
    assert opened[0].boxes_xyxy.tolist() == [[15, 10, 45, 30], [39, 10, 60, 30]]


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("names: [a\n", "not valid YAML"),
        ("train: images\nnames: 3\n", "key 'names'"),
        ("train: images\nnames: {a: 0}\n", "key 'names'"),
        ("train: images\nnc: 3\nnames: [a]\n", "nc is 3 but there are 1 names"),
        ("train: elsewhere\nnames: [a]\n", "key 'train': no folder or file"),
        ("train: {a: 1}\nnames: [a]\n", "key 'train'"),
        ("train: images\nnames: [a, a]\n", "class names must differ; repeated: a"),
    ],
)
def test_a_wrong_yaml_is_one_clear_error(tmp_path: Path, yaml: str, words: str) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    (tmp_path / "data.yaml").write_text(yaml)
    with pytest.raises(DataError, match=words):
        data.open(tmp_path)


def test_a_listed_image_that_is_missing_is_named_in_its_list(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    (tmp_path / "list.txt").write_text("./images/a.jpg\n./images/b.jpg\n./images/a.jpg\n")
    (tmp_path / "data.yaml").write_text(f"train: list.txt\n{NAMES}")
    opened = data.open(tmp_path, "train")
    found = {(problem.file.name, problem.line, problem.kind) for problem in opened.problems}
    assert found == {("list.txt", 2, "missing-image"), ("list.txt", 3, "duplicate-image")}


def test_images_without_any_label_file_are_remarked(tmp_path: Path) -> None:
    make_image(tmp_path / "pictures" / "a.jpg")
    (tmp_path / "data.yaml").write_text(f"train: pictures\n{NAMES}")
    (problem,) = data.open(tmp_path, bad_data="error").problems
    assert (problem.kind, problem.action, problem.file.name) == ("no-labels", "noted", "pictures")
    assert str(tmp_path / "pictures" / "a.txt") in problem.message


def test_yaml_files_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    (tmp_path / "mkdocs.yml").write_text("theme: !!python/name:material\n")
    (tmp_path / "settings.yaml").write_text("train: images\nval: images\n")
    assert data.open(tmp_path).class_map.names == ("class0",)


def test_pose_labels_give_their_boxes(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", HALF + " 0.1 0.2 2 0.3 0.4 2")
    (tmp_path / "data.yaml").write_text(f"train: images\nkpt_shape: [2, 3]\n{NAMES}")
    assert data.open(tmp_path)[0].boxes_xyxy.tolist() == [[15, 10, 45, 30]]
