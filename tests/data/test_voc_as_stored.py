"""VOC as people store it: folders, lists, names, encodings, and what must be refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_makers import make_image, make_list, make_voc_image, voc_object

from singleshot import data
from singleshot.data.bad_records import Problem
from singleshot.data.formats.voc_xml import MAX_DEPTH, VocFile, parse_voc
from singleshot.errors import DataError

CAT, DOG = voc_object("cat", (6, 6, 30, 30)), voc_object("dog", (36, 11, 60, 40))
BOXES = [[5, 5, 30, 30], [35, 10, 60, 40]]


def make_pairs(root: Path, *stems: str, annotations: str = "Annotations", images: str = "JPEGImages") -> Path:
    """Images of a cat and a dog, with their annotations in the folders named."""
    for stem in stems:
        make_image(root / images / f"{stem}.jpg")
        file = root / annotations / f"{stem}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        size = "<size><width>60</width><height>40</height></size>"
        file.write_text(f"<annotation>{size}{CAT}{DOG}</annotation>")
    return root


def ids(folder: Path, split: str | None = None) -> list[object]:
    opened = data.open(folder, split, bad_data="error")
    assert all(sample.boxes_xyxy.tolist() == BOXES for sample in opened)
    return [sample.image_id for sample in opened]


@pytest.mark.parametrize("images", ["images", "JPEGImages", "Images", "photos", "."])
@pytest.mark.parametrize("annotations", ["annots", "Annotation", "ANNOTATIONS", "xmls", "labels", "my boxes", "."])
def test_any_folders(tmp_path: Path, annotations: str, images: str) -> None:
    make_pairs(tmp_path, "a", "b", annotations=annotations, images=images)
    assert ids(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("Annotations/day{}", "JPEGImages/day{}"),
        ("day{}", "day{}"),
        ("day{}/Annotations", "day{}/JPEGImages"),
        ("xml/day{}", "photos/day{}"),
    ],
)
def test_equal_names_of_two_days_stay_apart(tmp_path: Path, annotations: str, images: str) -> None:
    for day in (1, 2):
        make_pairs(tmp_path, "im0", "im1", annotations=annotations.format(day), images=images.format(day))
    found = data.open(tmp_path, bad_data="error")
    assert [sample.boxes_xyxy.tolist() for sample in found] == [BOXES] * 4
    assert len({sample.image_id for sample in found}) == len({sample.image_path for sample in found}) == 4


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("{}", "{}"),
        ("{}/Annotations", "{}/JPEGImages"),
        ("{}/annots", "{}/images"),
        ("Annotations/{}", "JPEGImages/{}"),
        ("annotations/{}", "images/{}"),
    ],
)
def test_folders_of_splits(tmp_path: Path, annotations: str, images: str) -> None:
    make_pairs(tmp_path, "a", "b", annotations=annotations.format("train"), images=images.format("train"))
    make_pairs(tmp_path, "a", annotations=annotations.format("val"), images=images.format("val"))
    assert set(data.splits(tmp_path)) == {"train", "val"}
    assert (len(ids(tmp_path, "train")), len(ids(tmp_path, "val"))) == (2, 1)
    assert {sample.image_path.parts[-2] for sample in data.open(tmp_path, "val")} <= {"val", "JPEGImages", "images"}


@pytest.mark.parametrize(
    "line",
    [
        *("day1/im 0", " day1/im 0 ", "day1/im 0.jpg", "day1/im 0.JPG", "day1\\im 0.jpg", "./day1/im 0"),
        *("JPEGImages/day1/im 0.jpg", "/home/x/VOC2007/JPEGImages/day1/im 0.jpg", "C:\\ds\\JPEGImages\\day1\\im 0.jpg"),
        *("Annotations/day1/im 0.xml", "DAY1/IM 0", "\ufeffday1/im 0"),
    ],
)
def test_lines_of_lists(tmp_path: Path, line: str) -> None:
    make_pairs(tmp_path, "day1/im 0", "day2/im 0", "day1/im1")
    make_list(tmp_path, "train", line)
    assert ids(tmp_path, "train") == ["day1/im 0"]


@pytest.mark.parametrize("line", ["day3/im 0", "im 0", "day1", "day1/im 0.txt", "day1/im"])
def test_lines_that_name_no_image(tmp_path: Path, line: str) -> None:
    make_pairs(tmp_path, "day1/im 0", "day2/im 0", "im1")
    make_list(tmp_path, "train", "im1", line)
    opened = data.open(tmp_path, "train")
    assert [sample.image_id for sample in opened] == ["im1"]
    assert [(p.kind, p.action, p.line) for p in opened.problems] == [("missing-annotation", "skipped", 2)]
    assert line in opened.problems[0].message


def test_a_list_of_paths_in_two_columns(tmp_path: Path) -> None:
    make_pairs(tmp_path, "a", "b")
    (tmp_path / "train.txt").write_text("./JPEGImages/a.jpg ./Annotations/a.xml\n")
    (tmp_path / "notes_test.txt").write_text("this text is no list\n")
    assert data.splits(tmp_path) == ("train",)
    assert ids(tmp_path, "train") == ["a"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lists_of_any_editor(tmp_path: Path, encoding: str, line_end: str) -> None:
    make_pairs(tmp_path, "été 1", "b")
    file = tmp_path / "ImageSets" / "Main" / "train.txt"
    file.parent.mkdir(parents=True)
    file.write_bytes(line_end.join(["été 1", "", "b", ""]).encode(encoding))
    assert ids(tmp_path, "train") == ["été 1", "b"]


def test_lists_of_one_class_alone_make_the_splits(tmp_path: Path) -> None:
    make_pairs(tmp_path, "im 0", "im1", "im2", "im 1")
    make_list(tmp_path, "cat_train", "im 0  1", "im1 -1")
    make_list(tmp_path, "dog_train", "im 0 -1", "im1  0")
    make_list(tmp_path, "black cat_val", "im2 -1", "im 1 1")
    make_list(tmp_path, "notes", "anything 1")
    assert set(data.splits(tmp_path)) == {"train", "val"}
    assert ids(tmp_path, "train") == ["im 0", "im1"]
    assert ids(tmp_path, "val") == ["im2", "im 1"]


def test_names_that_end_in_a_number_are_no_flags(tmp_path: Path) -> None:
    make_pairs(tmp_path, "frame 0", "frame 1")
    make_list(tmp_path, "my_train", "frame 0", "frame 1")
    assert data.splits(tmp_path) == ("my_train",)
    assert ids(tmp_path, "my_train") == ["frame 0", "frame 1"]


@pytest.mark.parametrize(("image", "xml", "listed"), [
    ("photo.jpg.jpg", "photo.jpg.xml", "photo.jpg"),
    ("photo.jpg.jpg", "photo.jpg.xml", "photo.jpg.jpg"),
    ("photo.jpg", "photo.jpg.xml", "photo.jpg"),
    ("photo.jpg", "photo.xml", "photo.jpg"),
    ("PHOTO.JPG", "photo.xml", "photo"),
    ("photo.jpg", "photo.XML", "photo"),
    ("a.b.c.png", "a.b.c.xml", "a.b.c"),
])  # fmt: skip
def test_suffixes(tmp_path: Path, image: str, xml: str, listed: str) -> None:
    make_pairs(tmp_path, "x")
    make_image(tmp_path / "new" / f"a{Path(image).suffix.lower()}").rename(tmp_path / "JPEGImages" / image)
    (tmp_path / "new").rmdir()
    (tmp_path / "JPEGImages" / "x.jpg").unlink()
    (tmp_path / "Annotations" / "x.xml").rename(tmp_path / "Annotations" / xml)
    make_list(tmp_path, "train", listed)
    assert [sample.image_path.name for sample in data.open(tmp_path, "train", bad_data="error")] == [image]
    assert data.open(tmp_path, bad_data="error").problems == ()


def test_what_is_no_ordinary_file_or_hidden_is_passed_over(tmp_path: Path) -> None:
    make_pairs(tmp_path, "a")
    annotations = tmp_path / "Annotations"
    (annotations / "folder.xml").mkdir()
    (annotations / "dangling.xml").symlink_to(tmp_path / "nowhere.xml")
    os.mkfifo(annotations / "fifo.xml")
    os.mkfifo(tmp_path / "classes.txt")
    (annotations / "._a.xml").write_bytes(b"\0\5\x16\7")
    (annotations / ".ipynb_checkpoints").mkdir()
    shutil.copy(annotations / "a.xml", annotations / ".ipynb_checkpoints" / "a.xml")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    os.mkfifo(tmp_path / "ImageSets" / "Main" / "train.txt")
    assert ids(tmp_path) == ["a"]
    assert data.splits(tmp_path) == ()


def name_image(file: Path, name: str) -> None:
    file.write_text(file.read_text().replace("<annotation>", f"<annotation><filename>{name}</filename>"))


def test_images_under_the_names_that_annotations_give(tmp_path: Path) -> None:
    make_pairs(tmp_path, "label_1", "label_2", "a")
    for number, name in ((1, "photo_a.jpg"), (2, "photo_b")):
        (tmp_path / "JPEGImages" / f"label_{number}.jpg").rename(
            tmp_path / "JPEGImages" / f"photo_{'ab'[number - 1]}.jpg"
        )
        name_image(
            tmp_path / "Annotations" / f"label_{number}.xml", f"D:\\data\\{name}" if number == 1 else name + ".jpg"
        )
    make_list(tmp_path, "train", "photo_a", "label_2")
    opened = data.open(tmp_path, bad_data="error")
    assert [sample.image_path.stem for sample in opened] == ["a", "photo_a", "photo_b"]
    assert opened.problems == ()
    assert ids(tmp_path, "train") == ["label_1", "label_2"]


def test_one_image_for_two_annotations_is_no_silent_choice(tmp_path: Path) -> None:
    make_pairs(tmp_path, "a", "b", "c")
    for stem in ("b", "c"):
        (tmp_path / "JPEGImages" / f"{stem}.jpg").unlink()
    name_image(tmp_path / "Annotations" / "b.xml", "a.jpg")  # a has an annotation of its own
    make_image(tmp_path / "JPEGImages" / "shared.jpg")
    for stem in ("c", "b2"):
        shutil.copy(tmp_path / "Annotations" / "a.xml", tmp_path / "Annotations" / f"{stem}.xml")
        name_image(tmp_path / "Annotations" / f"{stem}.xml", "shared.jpg")
    opened = data.open(tmp_path)
    assert [sample.image_path.name for sample in opened] == ["a.jpg", "shared.jpg"]
    assert sorted((p.kind, p.file.name) for p in opened.problems if p.action == "skipped") == [
        ("duplicate-image", "c.xml"),
        ("missing-image", "b.xml"),
    ]


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "..\\secret.jpg", "{}/secret.jpg", "C:\\x\\gone.jpg", "https://h/g.jpg"]
)
def test_nothing_outside_is_followed(tmp_path: Path, name: str) -> None:
    root = make_pairs(tmp_path / "set", "a", "b")
    make_image(tmp_path / "secret.jpg")
    (root / "JPEGImages" / "a.jpg").unlink()
    name_image(root / "Annotations" / "a.xml", name.format(tmp_path))
    opened = data.open(root)
    assert [sample.image_id for sample in opened] == ["b"]
    assert {(p.kind, p.action) for p in opened.problems} == {("missing-image", "skipped"), ("outside-folder", "noted")}
    assert not any(str(tmp_path / "secret.jpg") in p.message for p in opened.problems if p.kind == "missing-image")


@pytest.mark.parametrize(
    "first", ["BACKGROUND", "background", "__background__", "_background_", "__ignore__\n_background_"]
)
@pytest.mark.parametrize("file", ["classes.txt", "labels.txt"])
def test_a_background_is_no_class(tmp_path: Path, file: str, first: str) -> None:
    make_pairs(tmp_path, "a")
    (tmp_path / file).write_text(f"{first}\ndog\ncat\n")
    opened = data.open(tmp_path, bad_data="error")
    assert opened.class_map.names == ("dog", "cat")
    assert {(p.kind, p.action) for p in opened.problems} == {("class-list", "noted")}


def test_a_background_that_objects_have_is_a_class(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("background", (1, 1, 9, 9)))
    (tmp_path / "labels.txt").write_text("background\ncat\n")
    assert data.open(tmp_path, bad_data="error").class_map.names == ("background", "cat")


@pytest.mark.parametrize(
    ("listed", "names", "classes", "notes"),
    [
        (["cat", "dog"], ["cat"], ("cat", "dog"), []),
        (["Cat", "DOG"], ["cat", "dog"], ("Cat", "DOG"), ["'Cat' is taken", "'DOG' is taken"]),
        (["traffic_light"], ["Traffic Light"], ("traffic_light",), ["'traffic_light' is taken"]),
        (["Cat", "cat"], ["cat", "Cat"], ("Cat", "cat"), []),
        (["cat"], ["Cat", "cat"], ("cat",), ["has no 'Cat' (the nearest is 'cat'): 1 objects"]),
        (["kitten", "dog"], ["kiten", "dog"], ("kitten", "dog"), ["has no 'kiten' (the nearest is 'kitten')"]),
        (["one", "two"], ["cat", "dog"], ("cat", "dog"), ["has none of the annotations' classes (cat, dog)"]),
    ],
)
def test_whose_spelling_counts(
    tmp_path: Path, listed: list[str], names: list[str], classes: tuple[str, ...], notes: list[str]
) -> None:
    make_voc_image(tmp_path, "a", *(voc_object(name, (1 + i, 1, 9 + i, 9)) for i, name in enumerate(names)))
    make_voc_image(tmp_path, "empty")
    (tmp_path / "labels.txt").write_text("\r\n".join(["", *listed, ""]))
    opened = data.open(tmp_path)
    assert opened.class_map.names == classes
    found = [problem.message for problem in opened.problems if problem.kind == "class-list"]
    assert len(found) == len(notes)
    assert all(any(note in message for message in found) for note in notes)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_class_lists_of_any_editor(tmp_path: Path, encoding: str) -> None:
    make_voc_image(tmp_path, "a", voc_object("été", (1, 1, 9, 9)))
    (tmp_path / "classes.txt").write_bytes("chat\r\nété\r\n".encode(encoding))
    assert data.open(tmp_path, bad_data="error").class_map.names == ("chat", "été")


def test_a_class_list_that_is_no_text(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a")
    (tmp_path / "classes.txt").write_bytes(b"\x89PNG\0\1\2\xff" * 9)
    with pytest.raises(DataError, match=r"classes\.txt: the list of classes cannot be read"):
        data.open(tmp_path)


def parse(folder: Path, content: bytes) -> VocFile | Problem | None:
    (folder / "x.xml").write_bytes(content)
    return parse_voc(folder / "x.xml")


def test_an_annotation_that_is_not_there(tmp_path: Path) -> None:
    assert parse_voc(tmp_path / "x.xml") is None
    assert parse_voc(tmp_path) is None
    assert parse_voc(tmp_path / "a\0b") is None


@pytest.mark.parametrize(
    ("declared", "actual", "guessed"),
    [
        (None, "utf-8", ""),
        (None, "utf-8-sig", ""),
        (None, "utf-16", ""),
        (None, "cp1252", "cp1252"),
        ("utf-8", "utf-8", ""),
        ("utf-8", "cp1252", "cp1252"),
        ("iso-8859-1", "iso-8859-1", ""),
        ("windows-1252", "cp1252", ""),
        ("utf-8", "utf-16", "utf-16"),
    ],
)
def test_encodings(tmp_path: Path, declared: str | None, actual: str, guessed: str) -> None:
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    found = parse(
        tmp_path, (head + "<annotation>\n" + voc_object("été", (1, 1, 9, 9)) + "</annotation>").encode(actual)
    )
    assert isinstance(found, VocFile)
    assert [(item.name, item.line) for item in found.objects] == [("été", 3 if declared else 2)]
    assert found.guessed_encoding == guessed


def test_encodings_of_several_bytes(tmp_path: Path) -> None:
    head = '<?xml version="1.0" encoding="gb2312"?>'
    found = parse(tmp_path, (head + f"<annotation>{voc_object('猫', (1, 1, 9, 9))}</annotation>").encode("gb2312"))
    assert isinstance(found, VocFile)
    assert found.objects[0].name == "猫"


@pytest.mark.parametrize(
    ("inside", "boxes", "fault"),
    [
        ("", [], "no <bndbox> and no <polygon>"),
        ("<bndbox/>", [], "<xmin> is missing"),
        ("<bndbox><ymax>4</ymax><xmax> 3 </xmax><ymin>2.5</ymin><xmin>\n1\n</xmin></bndbox>", [(1, 2.5, 3, 4)], ""),
        (
            "<bndbox><xmin>a</xmin><ymin>2</ymin><xmax>nan</xmax><ymax>1_0</ymax></bndbox>",
            [],
            "<xmin> is 'a', no number",
        ),
        ("<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>inf</xmax><ymax>9</ymax></bndbox>", [], "<xmax> is 'inf'"),
        (
            "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
            "<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>7</xmax><ymax>8</ymax></bndbox>",
            [(1, 2, 3, 4), (5, 6, 7, 8)],
            "",
        ),
        ("<polygon><x1>3</x1><y1>9</y1><x2>1</x2><y2>2</y2><x3>5</x3><y3>4</y3></polygon>", [(1, 2, 5, 9)], ""),
        ("<polygon><pt><x>3</x><y>9</y></pt><pt><x>1</x><y>2</y></pt></polygon>", [(1, 2, 3, 9)], ""),
        ("<polygon><x1>q</x1><y1>9</y1></polygon>", [], "a <polygon> with something that is no number"),
        ("<robndbox><cx>1</cx></robndbox>", [], "<robndbox> (turned box) is not read"),
    ],
)
def test_boxes_of_objects(tmp_path: Path, inside: str, boxes: list[tuple[float, ...]], fault: str) -> None:
    found = parse(tmp_path, f"<annotation><object><name>cat</name>{inside}</object></annotation>".encode())
    assert isinstance(found, VocFile)
    assert [item.box for item in found.objects if not item.fault] == boxes
    assert "".join(item.fault for item in found.objects).count(fault or "!") == bool(fault)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, False), ("", False), ("0", False), ("1", True), ("1.0", True), ("True", True), ("x", False)],
)
def test_difficult(tmp_path: Path, text: str | None, expected: bool) -> None:
    flag = "" if text is None else f"<difficult> {text} </difficult>"
    found = parse(tmp_path, f"<annotation><object><name>c</name>{flag}</object></annotation>".encode())
    assert isinstance(found, VocFile)
    assert found.objects[0].difficult is expected


def test_an_object_without_a_name_is_named(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", CAT, voc_object("", (1, 1, 9, 9)))
    opened = data.open(tmp_path)
    assert len(opened[0]) == 1
    assert [(p.kind, p.line, p.action) for p in opened.problems] == [("bad-record", 4, "skipped")]


@pytest.mark.parametrize("depth", [MAX_DEPTH, 2000, 40_000])
def test_deep_xml_is_refused_at_once(tmp_path: Path, depth: int) -> None:
    found = parse(tmp_path, b"<annotation>" + b"<a>" * depth + b"</a>" * depth + b"</annotation>")
    assert isinstance(found, Problem)
    assert (found.kind, found.action) == ("unreadable-annotation", "skipped")
    assert "deep" in found.message


def test_xml_of_another_kind_is_noted_and_no_label(tmp_path: Path) -> None:
    make_pairs(tmp_path, "a", annotations=".", images=".")
    (tmp_path / "pom.xml").write_text("<project/>")
    opened = data.open(tmp_path, bad_data="error")
    assert [sample.image_id for sample in opened] == ["a"]
    assert [(p.kind, p.action) for p in opened.problems] == [("not-voc", "noted")]


def test_xml_files_below_those_beside_images_are_noted(tmp_path: Path) -> None:
    make_pairs(tmp_path, "a", "b", annotations=".", images=".")
    make_pairs(tmp_path, "a", annotations="old", images="old")
    opened = data.open(tmp_path, bad_data="error")
    assert [sample.image_id for sample in opened] == ["a", "b"]
    assert "not-read" in {p.kind for p in opened.problems}


def test_fractions_are_no_pixels(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (0.1, 0.1, 0.5, 0.6)), voc_object("cat", (0, 0, 1, 1)))
    opened = data.open(tmp_path)
    assert len(opened[0]) == 0
    assert [(p.kind, p.action) for p in opened.problems] == [("fraction-boxes", "skipped")]


def test_one_box_in_the_first_pixel_is_a_box(tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 1, 1, 1)), voc_object("cat", (0.5, 0.5, 1, 1)), CAT, DOG)
    np.testing.assert_array_equal(data.open(tmp_path)[0].boxes_xyxy[0], [0, 0, 1, 1])
