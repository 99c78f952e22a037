"""YOLO as people store it: encodings, capitals, other tools' files, lists of other machines, odd rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from data_makers import make_image, make_yolo_image

from singleshot import data
from singleshot.errors import DataError

HALF = "0 0.5 0.5 0.5 0.5"
OTHER = "1 0.5 0.5 0.25 0.5"
NAMES = "names: [cat, dog]\n"


def kinds(opened: data.DetectionDataset) -> list[str]:
    return [problem.kind for problem in opened.problems]


ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 big-endian": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "windows lines": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "old mac lines": lambda text: text.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_text_file_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    """A list of classes, a data.yaml, lists of images and labels, whoever's editor wrote them."""
    encode = ENCODINGS[encoding]
    for split, stem in (("train", "a"), ("val", "b")):
        make_image(tmp_path / "images" / f"{stem}.jpg")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{stem}.txt").write_bytes(encode(f"{HALF}\n{OTHER}\n"))
        (tmp_path / f"{split}.txt").write_bytes(encode(f"./images/{stem}.jpg\n\n"))
    (tmp_path / "classes.txt").write_bytes(encode("cät\ndog\n\n\n"))
    for yaml in (None, "train: train.txt\nval: val.txt\nnames: [cät, dog]\n"):
        if yaml:
            (tmp_path / "data.yaml").write_bytes(encode(yaml))
        opened = data.open(tmp_path, bad_data="error")
        assert (opened.class_map.names, data.splits(tmp_path)) == (("cät", "dog"), ("train", "val"))
        assert [sample.class_ids.tolist() for sample in opened] == [[0, 1], [0, 1]]
        assert opened.problems == ()


def test_a_legacy_encoding_is_guessed_and_noted(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    (tmp_path / "classes.txt").write_bytes("Käse\n".encode("cp1252"))
    opened = data.open(tmp_path)
    assert opened.class_map.names == ("Käse",)
    assert [(p.kind, p.file.name) for p in opened.problems] == [("encoding", "classes.txt")]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\n", ("cat",)),
        ("cat\n\ndog\nowl\n", ("cat", "class1", "dog", "owl")),
        ("\ncat\n", ("class0", "cat")),
        ("cat \n dog\n\n  \n\n", ("cat", "dog")),
    ],
)
def test_blank_lines_of_a_class_list_keep_their_numbers(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    (tmp_path / "classes.txt").write_text(text)
    opened = data.open(tmp_path)
    assert opened.class_map.names == names
    assert ("unnamed-class" in kinds(opened)) is any(name.startswith("class") for name in names)


@pytest.mark.parametrize(
    "place",
    [
        *("classes.txt", "obj.names", "animals.names", "labels/classes.txt", "labels/train/classes.txt"),
        "images/train/_darknet.labels",
    ],
)
def test_places_of_class_lists(tmp_path: Path, place: str) -> None:
    make_yolo_image(tmp_path, "train/a", HALF, OTHER)
    make_yolo_image(tmp_path, "val/b", OTHER)
    (tmp_path / place).write_text("cat\ndog\n")
    for split in (None, "train", "val"):
        assert data.open(tmp_path, split).class_map.names == ("cat", "dog")
    assert data.open(tmp_path).problems == ()


def test_class_lists_of_splits_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    for split, names in (("train", "cat\n"), ("val", "cat\ndog\n")):
        make_yolo_image(tmp_path, f"{split}/{split}", HALF)
        (tmp_path / "labels" / split / "classes.txt").write_text(names)
    assert data.open(tmp_path).class_map.names == ("cat", "dog")
    (tmp_path / "labels" / "train" / "classes.txt").write_text("dog\ncat\n")
    with pytest.raises(DataError, match=r"train/classes\.txt and .*val/classes\.txt name different classes"):
        data.open(tmp_path)


@pytest.mark.parametrize("name", ["data.yaml", "my_animals.yaml", "animals.yml"])
def test_a_broken_settings_file_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    make_yolo_image(tmp_path, "train/a", HALF)
    (tmp_path / name).write_text("train: images/train\nnames: [cat, dog\nnc: 2\n")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match=rf"{name}:\d: not valid YAML"):
            data.open(path)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("names: [*a8]\ntrain: images", "key 'names', class 0: expected a word, not a list"),
        ("names: *a8\ntrain: images", "key 'names', class 0: expected a word, not a list"),
        ("names: {0: *a8}\ntrain: images", "key 'names', class 0: expected a word, not a list"),
        ("names: {x: *a8}\ntrain: images", "key 'names': expected a list of names"),
        ("names: [x]\ntrain: [*a8]", "key 'train': expected a folder or a text file, not a list"),
        ("names: [x]\ntrain: *a8", "key 'train': expected a folder or a text file, not a list"),
        ("names: [x]\ntrain: images\nkpt_shape: *a8", "key 'kpt_shape'"),
        ("names: [x]\ntrain: images\nkpt_shape: [*a8, 3]", "key 'kpt_shape'"),
    ],
)
def test_a_nest_of_aliases_is_refused_by_its_type(tmp_path: Path, last: str, words: str) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    bomb = ["a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]"]
    bomb += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    (tmp_path / "data.yaml").write_text("\n".join([*bomb, last]))
    with pytest.raises(DataError, match=words):
        data.open(tmp_path)


@pytest.mark.timeout(30)
def test_merge_keys_do_not_grow_without_bounds(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    bomb = ["a0: &a0 {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7, h: 8, i: 9}"]
    bomb += [f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    (tmp_path / "data.yaml").write_text("\n".join([*bomb, "names: [x]", "train: images"]))
    with pytest.raises(DataError, match="merge keys make more than"):
        data.open(tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "yaml"),
    [
        ("Images", "Labels", "train: Images/train\nval: Images/val\n"),
        ("Images", "Labels", "train: images/train\nval: images/val\n"),
        ("IMAGES", "LABELS", None),
        ("images", "labels", "train: images\\train\nval: images\\val\n"),
        ("images", "labels", "path: C:\\data\ntrain: C:\\data\\images\\train\nval: C:\\data\\images\\val\n"),
        ("images", "labels", "train: /content/set/images/train\nval: /content/set/images/val\n"),
    ],
)
def test_capitals_slashes_and_other_machines(tmp_path: Path, images: str, labels: str, yaml: str | None) -> None:
    for split in ("train", "val"):
        make_yolo_image(tmp_path, f"{split}/{split}", HALF, images=images, labels=labels)
        (tmp_path / images / split / f"{split}.jpg").rename(tmp_path / images / split / f"{split}.JPG")
        (tmp_path / labels / split / f"{split}.txt").rename(tmp_path / labels / split / f"{split}.TXT")
    if yaml:
        (tmp_path / "data.yaml").write_text(yaml + NAMES)
    opened = data.open(tmp_path, bad_data="error")
    assert (data.splits(tmp_path), [len(sample) for sample in opened]) == (("train", "val"), [1, 1])
    assert set(kinds(opened)) <= {"unnamed-class"}


def test_a_shortened_path_never_makes_one_folder_of_two_splits(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    (tmp_path / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\n{NAMES}")
    with pytest.raises(DataError, match="key 'train': no folder or file"):
        data.open(tmp_path)


def test_hidden_folders_and_files_are_passed_over(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "train/a", HALF)
    make_image(tmp_path / "images" / "train" / ".ipynb_checkpoints" / "a-checkpoint.jpg")
    make_image(tmp_path / "images" / "train" / "._a.jpg")
    make_image(tmp_path / "images" / "train" / "@eaDir" / "a.jpg")
    (tmp_path / "data.yaml").write_text(f"train: images/train\n{NAMES}")
    opened = data.open(tmp_path)
    assert ([sample.image_path.name for sample in opened], opened.problems) == (["a.jpg"], ())


def test_linked_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    for stem in ("im0", "im1"):
        make_yolo_image(tmp_path / "store", stem, HALF)
    make_yolo_image(tmp_path / "set", "train/x", HALF)
    for kind in ("images", "labels"):
        folder = tmp_path / "set" / kind / "train"
        (folder / "day1").symlink_to(os.path.relpath(tmp_path / "store" / kind, folder))
        (folder / "loop").symlink_to("..")
    (tmp_path / "set" / "data.yaml").write_text(f"train: images/train\n{NAMES}")
    opened = data.open(tmp_path / "set", "train")
    assert sorted(sample.image_id for sample in opened) == ["im0", "im1", "x"]
    assert sum(map(len, opened)) == 3


def test_labels_and_images_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    make_image(tmp_path / "images" / "b.jpg")
    (tmp_path / "labels" / "B.txt").write_text(HALF)
    (tmp_path / "labels" / "README.txt").write_text("how these were made")
    (tmp_path / "labels" / "classes.txt").write_text("cat\n")
    found = {(problem.kind, problem.file.name) for problem in data.open(tmp_path).problems}
    assert found == {("orphan-label", "B.txt"), ("unlabelled-image", "b.jpg")}


def test_a_darknet_export(tmp_path: Path) -> None:
    for stem in ("im0", "im1", "im2"):
        make_yolo_image(tmp_path, stem, HALF, OTHER, images="obj_train_data", labels="obj_train_data")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    (tmp_path / "train.txt").write_text("".join(f"data/obj_train_data/im{index}.jpg\n" for index in range(3)))
    for path in (tmp_path, tmp_path / "obj.data"):
        opened = data.open(path, "train", bad_data="error")
        assert (len(opened), opened.class_map.names, sum(map(len, opened))) == (3, ("cat", "dog"), 6)
    (tmp_path / "obj.data").unlink()
    assert (data.splits(tmp_path), len(data.open(tmp_path))) == (("train",), 3)


@pytest.mark.parametrize(
    "prefix",
    ["", "./", "images/../", "/content/set/", "C:\\Users\\me\\set\\", "../set/", "file:///content/set/"],
)
def test_lists_of_another_machine(tmp_path: Path, prefix: str) -> None:
    for stem in ("a", "my photo"):
        make_yolo_image(tmp_path, f"train/{stem}", HALF)
    slash = "\\" if "\\" in prefix else "/"
    lines = [f"{prefix}images{slash}train{slash}{stem}.jpg" for stem in ("a", "my photo")]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "data.yaml").write_text(f"train: train.txt\n{NAMES}")
    opened = data.open(tmp_path, "train", bad_data="error")
    assert [len(sample) for sample in opened] == [1, 1]
    assert set(kinds(opened)) <= {"moved-paths"}


@pytest.mark.parametrize("line", ["/", "..", "a" * 300, "x/" + "b" * 256 + ".jpg", "a\0b.jpg", "images/", "é" * 200])
def test_an_odd_line_of_a_list_is_a_problem_of_its_own(tmp_path: Path, line: str) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    (tmp_path / "list.txt").write_text(f"images/a.jpg\n{line}\n{(tmp_path / 'images' / 'a.jpg')}\n")
    (tmp_path / "data.yaml").write_text(f"train: list.txt\n{NAMES}")
    opened = data.open(tmp_path)
    assert len(opened) == 1
    assert [p.line for p in opened.problems if p.action == "skipped"] == [2]


def test_absolute_and_relative_images_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_yolo_image(tmp_path / "one", "a", HALF)
    make_yolo_image(tmp_path / "two", "a", HALF)
    monkeypatch.chdir(tmp_path / "one")
    Path("list.txt").write_text(f"images/a.jpg\n{tmp_path / 'two' / 'images' / 'a.jpg'}\n")
    Path("data.yaml").write_text(f"train: list.txt\n{NAMES}")
    assert len({sample.image_id for sample in data.open("data.yaml")}) == 2


# A box (15, 10, 45, 30) of 60 x 40 pixels, and key points in it.
POINTS = "0.3 0.3 2 0.6 0.6 1 0 0 0 0.7 0.7 2"


@pytest.mark.parametrize(
    ("row", "box", "kind"),
    [
        (HALF, (15, 10, 45, 30), None),
        ("0.0 0.5 0.5 0.5 0.5", (15, 10, 45, 30), None),
        (f"{HALF} 0.93", (15, 10, 45, 30), "confidence"),
        (f"{HALF} {POINTS}", (15, 10, 45, 30), "pose-row"),
        (f"{HALF} {POINTS} 0.4 0.4 0", (15, 10, 45, 30), "pose-row"),
        ("0 0.1 0.2 0.5 0.2 0.3 0.6", (6, 8, 30, 24), "polygon"),
        ("0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75", (15, 10, 45, 30), "polygon"),
        (f"{HALF} 7", None, "bad-record"),
        ("0 0,5 0,5 0,5 0,5", None, "bad-record"),
        ("0,0.5,0.5,0.5,0.5", None, "bad-record"),
        ("0 30 20 30 20", None, "not-fractions"),
        ("0 15 10 45 10 45 30", None, "not-fractions"),
        (f"{HALF} 0.1 0.2 0.3", None, "bad-record"),
    ],
)
def test_rows(tmp_path: Path, row: str, box: tuple[int, ...] | None, kind: str | None) -> None:
    make_yolo_image(tmp_path, "a", row)
    (tmp_path / "data.yaml").write_text(f"train: images\n{NAMES}")
    opened = data.open(tmp_path, "train")
    assert [tuple(round(v) for v in b) for b in opened[0].boxes_xyxy.tolist()] == ([box] if box else [])
    assert kinds(opened) == ([kind] if kind else [])


def test_decimal_commas_are_called_so(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", "0 0,5 0,5 0,5 0,5")
    (tmp_path / "data.yaml").write_text(f"train: images\n{NAMES}")
    assert "numbers need points, not commas" in data.open(tmp_path).problems[0].message


def test_labels_that_count_from_one_are_named(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", OTHER, "2 0.5 0.5 0.5 0.5")
    (tmp_path / "data.yaml").write_text(f"train: images\n{NAMES}")
    assert {"counts-from-one", "unknown-class"} == set(kinds(data.open(tmp_path)))


@pytest.mark.timeout(60)
def test_a_huge_class_id_costs_little_and_is_named(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", "99999 0.5 0.5 0.2 0.2")
    opened = data.open(tmp_path)
    assert len(opened.class_map) == 100_000
    (problem,) = opened.problems
    assert (problem.kind, problem.line) == ("unnamed-class", 1)
    assert "class0 to class99999, of which 99999 have no object" in problem.message


@pytest.mark.parametrize("key", ["names", "names: [cat, dog]\nclass_list", "names: [cat, dog]\nlabels_file"])
def test_a_list_of_classes_is_no_list_of_images(tmp_path: Path, key: str) -> None:
    make_yolo_image(tmp_path, "a", HALF)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "data.yaml").write_text(f"train: images\n{key}: classes.txt\n")
    opened = data.open(tmp_path, bad_data="error")
    assert (opened.class_map.names, data.splits(tmp_path)) == (("cat", "dog"), ("train",))


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("cat 0.5 0.5 0.5 0.5", "'cat' is no number: a class is written as its number"),
        ("0 0,5 0,5 0,5 0,5", "numbers need points, not commas"),
        ("0 0.5 0.1_2 0.5 0.5", "'0.1_2' is no number"),
        ("class x_center y_center width height", "'class' is no number"),
        ("# boxes of a.jpg", "'#' is no number"),
    ],
)
def test_a_line_that_is_no_numbers_says_why(tmp_path: Path, line: str, hint: str) -> None:
    make_yolo_image(tmp_path, "a", HALF, line)
    opened = data.open(tmp_path)
    (skipped,) = (problem for problem in opened.problems if problem.action == "skipped")
    assert (skipped.kind, skipped.line) == ("bad-record", 2)
    assert hint in skipped.message


def test_a_download_is_not_followed(tmp_path: Path) -> None:
    text = "path: ../datasets/x\ntrain: images/train\nnames: [cat]\ndownload: https://example.org/x.zip\n"
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=r"no folder or file .*images/train.*'download' is not followed: do by hand"):
        data.open(tmp_path)
