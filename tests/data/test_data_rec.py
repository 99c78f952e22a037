"""MXNet's packed data sets: records, lists and indexes; damage is named by byte, and the rest is read."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from data_makers import make_image, make_voc_image, voc_object
from hypothesis import example, given
from hypothesis import strategies as st
from rec_makers import MAGIC, frame, image_payload, jpeg, make_rec, read_rec
from typer.testing import CliRunner

from singleshot import data
from singleshot.augment.render import decode
from singleshot.cli import app
from singleshot.data.check import check
from singleshot.data.convert import convert
from singleshot.data.formats.rec_writer import pack_record
from singleshot.data.split_lists import write_lists
from singleshot.errors import DataError, ImageError, OutputError
from singleshot.images import recordio
from singleshot.images.packed import find_member, image_bytes, image_stamp, open_image
from singleshot.images.read import image_size, read_image
from singleshot.images.recordio import read_records
from singleshot.prediction.sources import find_images, is_many, search_images
from singleshot.training.fingerprint import fingerprint
from singleshot.training.training_images import read_encoded

CAT = (2, 5, 1, 0.25, 0.25, 0.5, 0.75)
DOG_AND_HARD_CAT = (2, 6, 0, 0, 0, 0.5, 0.5, 0, 1, 0.1, 0.2, 0.9, 0.8, 1)
PADDING = (2, 5, -1, -1, -1, -1, -1)


def test_no_record_is_a_split_without_images(tmp_path: Path) -> None:
    make_rec(tmp_path / "train.rec", [CAT])
    make_rec(tmp_path / "val.rec", [])
    assert data.splits(tmp_path) == ("train", "val")
    assert read_records(tmp_path / "val.rec").records == ()
    assert len(data.open(tmp_path, "val")) == 0


def test_labels_names_and_splits(tmp_path: Path) -> None:
    images = make_rec(tmp_path / "train.rec", [CAT, DOG_AND_HARD_CAT, PADDING], ["VOC/a.jpg", "VOC/b.jpg", "c.jpg"])
    make_rec(tmp_path / "val.rec", [(4, 5, 60, 40, 0, 0.5, 0.5, 1, 1)])
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    opened = data.open(tmp_path, "train", bad_data="error")
    assert (opened.format, opened.class_map.names, opened.splits) == ("rec", ("dog", "cat"), ("train", "val"))
    assert [sample.image_path for sample in opened] == [
        tmp_path / "train.rec" / n for n in ("VOC/a.jpg", "VOC/b.jpg", "c.jpg")
    ]
    assert [sample.boxes_xyxy.round(3).tolist() for sample in opened] == [
        [[15, 10, 30, 30]],
        [[0, 0, 30, 20], [6, 8, 54, 32]],
        [],
    ]
    assert [sample.class_ids.tolist() for sample in opened] == [[1], [0, 1], []]
    assert opened[1].difficult.tolist() == [False, True]
    assert [image_bytes(sample.image_path) for sample in opened] == images
    (held_out,) = data.open(tmp_path, "val")
    assert held_out.image_path == tmp_path / "val.rec" / "000000000.jpg"
    assert held_out.boxes_xyxy.tolist() == [[30, 20, 60, 40]]


def test_classes_without_names_are_numbered_and_said(tmp_path: Path) -> None:
    tmp_path /= "set"
    make_rec(tmp_path / "train.rec", [CAT])
    opened = data.open(tmp_path / "train.rec")
    assert opened.class_map.names == ("class0", "class1")
    (note,) = opened.problems
    assert (note.kind, note.action) == ("unnamed-class", "noted")
    assert str(tmp_path / "classes.txt") in note.message
    named = data.open(tmp_path, classes=["dog", "cat", "cow"])
    assert (named.class_map.names, named[0].class_ids.tolist()) == (("dog", "cat", "cow"), [1])
    assert "taken for dog, cat, cow, in this order" in str(named.problems[-1])
    convert(tmp_path, tmp_path.parent / "out", "voc", classes=["dog", "cat"])
    assert data.open(tmp_path.parent / "out").class_map.names == ("dog", "cat")
    with pytest.raises(DataError, match="unknown-class"):
        data.open(tmp_path, classes=["dog"], bad_data="error")
    (tmp_path / "voc.names").write_text("dog\ncat\n")
    assert data.open(tmp_path).class_map.names == ("dog", "cat")


def test_a_list_alone_names_images_beside_it(tmp_path: Path) -> None:
    make_image(tmp_path / "VOC2007" / "JPEGImages" / "a.jpg")
    label = "\t".join(map(str, DOG_AND_HARD_CAT))
    (tmp_path / "train.lst").write_text(f"0\t{label}\tVOC2007/JPEGImages/a.jpg\n1\t2\t5\tgone.jpg\nbroken\n")
    opened = data.open(tmp_path / "train.lst")
    assert [len(sample) for sample in opened] == [2]
    assert [(p.line, p.kind) for p in opened.problems if p.action == "skipped"] == [
        (3, "bad-record"),
        (2, "missing-image"),
    ]
    (tmp_path / "names.lst").write_text("0\t3\tcat.jpg\n")  # a list of classes of whole images
    with pytest.raises(DataError, match="no labelled images"):
        data.open(tmp_path / "names.lst")


def test_a_stale_list_and_index_are_noted(tmp_path: Path) -> None:
    make_rec(tmp_path / "train.rec", [CAT, CAT], ["a.jpg", "b.jpg"])
    text = (tmp_path / "train.lst").read_text()
    (tmp_path / "train.lst").write_text(text.replace("0.25", "0.3", 1))
    (tmp_path / "train.idx").write_text("0\t0\n1\t4\n")
    notes = {problem.kind: problem.message for problem in data.open(tmp_path).problems}
    assert "of 1 images, such as a.jpg" in notes["stale-list"]
    assert "lacks 1 of 2 records of train.rec, and has 1 others" in notes["stale-index"]


def damaged(tmp_path: Path, middle: bytes) -> tuple[list[int], list[str]]:
    """A good record, something else, a good record: ids that are read, and messages of what is skipped."""
    first = frame(image_payload(7, CAT, jpeg()))
    (tmp_path / "x.rec").write_bytes(first + middle + frame(image_payload(9, CAT, jpeg())))
    opened = data.open(tmp_path / "x.rec")
    keys = [int(sample.image_path.stem) for sample in opened]
    return keys, [p.message.replace(f"byte {len(first)}", "byte N") for p in opened.problems if p.action == "skipped"]


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (b"\0" * 32, "at byte N: no record begins here: 0x00000000"),
        (struct.pack("<II", MAGIC, 2**29 - 1), "at byte N: the record claims 536,870,911 bytes, and the file has"),
        (struct.pack("<II", MAGIC, 5 << 29), "at byte N: no record begins here: 5 is no kind of part"),
        (frame(b"short"), "at byte N: the record has 5 bytes, and the head of an image alone 24"),
        (frame(struct.pack("<IfQQ", 1000, 0, 1, 0)), "at byte N: the label of 1,000 numbers is wider than the record"),
        (frame(struct.pack("<IfQQ", 2**32 - 1, 0, 1, 0)), "at byte N: the label of 4,294,967,295 numbers is wider"),
        (frame(image_payload(1, (2, 5, 1, 0.1), b"")), "000000001 at byte N: the label has 2 numbers of objects"),
        (frame(image_payload(1, (200, 5, 1, 0.1), b"")), "000000001 at byte N: the label header is 200 numbers wide"),
        (frame(image_payload(1, (float("nan"), 5), b"")), "000000001 at byte N: the label (nan, 5 ...) does not begin"),
        (frame(image_payload(1, (), jpeg())), "000000001.jpg at byte N: the label has 1 number: it is a class"),
        (frame(image_payload(1, (2, 5, 0.5, 0, 0, 1, 1), b"")), "000000001 at byte N: the class 0.5 is no number"),
        (frame(b"part", 2), "at byte N: a part of a record whose beginning is missing"),
        (frame(b"part", 1), "at byte N: a record in parts does not end"),
    ],
)
def test_damage_is_named_by_its_byte_and_the_rest_is_read(tmp_path: Path, middle: bytes, message: str) -> None:
    keys, problems = damaged(tmp_path, middle)
    assert keys == [7, 9]
    assert len(problems) == 1
    assert message in problems[0]


@pytest.mark.parametrize("cut", [1, 40, 700])
def test_a_cut_off_file(tmp_path: Path, cut: int) -> None:
    good = frame(image_payload(7, CAT, jpeg()))
    (tmp_path / "x.rec").write_bytes(good + good[: min(cut, len(good) - 1)])
    opened = data.open(tmp_path / "x.rec")
    (problem,) = (p for p in opened.problems if p.action == "skipped")
    assert len(opened) == 1
    assert (problem.file.name, f"at byte {len(good)}" in problem.message) == ("x.rec", True)
    assert "cut off" in problem.message


def test_what_is_no_record_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.rec").write_bytes(b"GIF89a and so on")
    with pytest.raises(DataError, match=r"x\.rec: does not begin with RecordIO's magic"):
        data.open(tmp_path / "x.rec")


def test_files_that_are_passed_over_are_named(tmp_path: Path) -> None:
    (tmp_path / "val.rec").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"val\.rec: does not begin with RecordIO's magic"):
        data.open(tmp_path)
    make_rec(tmp_path / "train.rec", [CAT], ["a.jpg"])
    make_image(tmp_path / "b.jpg")
    (tmp_path / "test.lst").write_text("0\t2\t5\t0\t0\t0\t1\t1\tb.jpg\n")
    opened = data.open(tmp_path)
    assert opened.splits == ("train",)
    passed = [problem.file.name for problem in opened.problems if problem.kind == "other-settings"]
    assert passed == ["val.rec", "test.lst"]


def test_endless_damage_is_not_listed_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordio, "MAX_FAULTS", 5)
    (tmp_path / "x.rec").write_bytes(struct.pack("<I", MAGIC) * 100)
    assert len(read_records(tmp_path / "x.rec").faults) == 6


@given(st.lists(st.sampled_from([struct.pack("<I", MAGIC), b"abcd", b"x"]), max_size=12))
@example([struct.pack("<I", MAGIC)] * 3)
@example([])
def test_a_payload_with_the_magic_number_is_written_in_parts(
    tmp_path_factory: pytest.TempPathFactory, words: list[bytes]
) -> None:
    image = b"\xff\xd8\xff\xe0" + b"".join(words)
    file = tmp_path_factory.mktemp("rec") / "x.rec"
    file.write_bytes(pack_record(image_payload(3, CAT, image)))
    assert [(key, found) for key, _, found in read_rec(file)] == [(3, image)]
    (record,) = read_records(file).records
    with record.image.open() as opened:
        assert (record.key, record.numbers, opened.read()) == (3, CAT, image)


def test_what_is_written_is_as_documented(tmp_path: Path) -> None:
    make_voc_image(tmp_path / "voc", "a", voc_object("cat", (1, 1, 30, 20)), voc_object("dog", (31, 21, 60, 40), 1))
    make_voc_image(tmp_path / "voc", "empty")
    convert(tmp_path / "voc", tmp_path / "rec", "rec")
    assert sorted(path.name for path in (tmp_path / "rec").iterdir()) == [
        "classes.txt",
        "data.idx",
        "data.lst",
        "data.rec",
    ]
    (first, second) = read_rec(tmp_path / "rec" / "data.rec")
    assert first[:2] == (0, [2, 6, 0, 0, 0, 0.5, 0.5, 0, 1, 0.5, 0.5, 1, 1, 1])
    assert first[2] == (tmp_path / "voc/JPEGImages/a.jpg").read_bytes()
    assert second[:2] == (1, [2, 6, -1, 0, 0, 0, 0, 0])
    offsets = [int(line.split("\t")[1]) for line in (tmp_path / "rec/data.idx").read_text().splitlines()]
    content = (tmp_path / "rec/data.rec").read_bytes()
    assert [content[at : at + 4] for at in offsets] == [struct.pack("<I", MAGIC)] * 2
    assert (tmp_path / "rec/data.lst").read_text().splitlines()[1] == "1\t2\t6\t-1\t0\t0\t0\t0\t0\tempty.jpg"
    assert data.open(tmp_path / "rec", bad_data="error").problems == ()


def test_packing_replaces_a_packed_set_and_nothing_else(tmp_path: Path) -> None:
    make_voc_image(tmp_path / "voc", "a", voc_object("cat", (1, 1, 30, 20)))
    for _ in range(2):
        convert(tmp_path / "voc", tmp_path / "rec", "rec", overwrite=True)
    (tmp_path / "rec" / "mine.rec").write_bytes(b"")
    with pytest.raises(OutputError, match=r"mine\.rec"):
        convert(tmp_path / "voc", tmp_path / "rec", "rec", overwrite=True)


def test_what_cannot_be_linked_is_said(tmp_path: Path) -> None:
    make_voc_image(tmp_path / "voc", "a", voc_object("cat", (1, 1, 30, 20)))
    with pytest.raises(OutputError, match="RecordIO holds its images in its own files"):
        convert(tmp_path / "voc", tmp_path / "rec", "rec", images="link")
    convert(tmp_path / "voc", tmp_path / "rec", "rec")
    with pytest.raises(OutputError, match=r"data\.rec: images inside it cannot be linked"):
        convert(tmp_path / "rec", tmp_path / "yolo", "yolo", images="link")
    assert not (tmp_path / "yolo").exists()


def test_packed_images_are_read_wherever_paths_are(tmp_path: Path) -> None:
    (content,) = make_rec(tmp_path / "train.rec", [CAT], ["day/a.jpg"])
    path = tmp_path / "train.rec" / "day" / "a.jpg"
    assert image_size(path) == (40, 60)
    assert np.array_equal(read_image(str(path)), read_image(content))
    assert image_stamp(path).size == len(content)
    with open_image(path) as file:
        assert (file.seek(-2, 2), file.read(), file.seek(0), file.read(2)) == (
            len(content) - 2,
            b"\xff\xd9",
            0,
            b"\xff\xd8",
        )
    assert find_images(tmp_path / "train.rec") == find_images(path) == [path]
    assert (is_many(tmp_path / "train.rec"), is_many(path)) == (True, False)
    report = check(tmp_path).to_dict()
    assert (report["errors"], report["images"]["pixels"]) == (0, {"JPEG RGB": 1})
    assert decode(path, (40, 60), 2).image.shape == (20, 30, 3)
    assert read_encoded(data.open(tmp_path).samples, np.arange(1), 10**6) == {0: content}
    (digest,) = fingerprint(data.open(tmp_path), None)["train"].items()
    assert digest[0] == "train.rec/day/a.jpg"


def test_images_inside_a_file_are_sources(tmp_path: Path) -> None:
    file = tmp_path / "train.rec"
    make_rec(file, [CAT, CAT, CAT], ["a/x.jpg", "a/y.jpg", "b/z.jpg"])
    assert find_images([file / "a", file / "b" / "z.jpg"]) == [file / "a" / name for name in ("x.jpg", "y.jpg")] + [
        file / "b" / "z.jpg"
    ]
    with pytest.raises(ImageError, match=r"train\.rec: holds no image 'c'"):
        find_images(file / "c")
    file.write_bytes(file.read_bytes()[:-8])
    found = search_images(file)
    assert [path.name for path in found.images] == ["x.jpg", "y.jpg"]
    assert ["cut off" in line and "at byte" in line for line in found.missed] == [True]
    file.write_bytes(b"no records")
    with pytest.raises(ImageError, match=r"train\.rec: at byte 0: no record begins here"):
        find_images(file)


@pytest.mark.parametrize("inside", ["b.jpg", "day", "day/a.jpg/c.jpg", ""])
def test_what_is_not_in_the_file_is_no_image(tmp_path: Path, inside: str) -> None:
    make_rec(tmp_path / "train.rec", [CAT], ["day/a.jpg"])
    assert find_member(tmp_path / "train.rec" / inside) is None
    with pytest.raises(ImageError, match=r"train\.rec"):
        read_image(tmp_path / "train.rec" / inside)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    make_rec(tmp_path / "train.rec", [CAT])
    assert len(data.open(tmp_path)) == 1
    make_rec(tmp_path / "train.rec", [CAT, CAT])
    assert len(data.open(tmp_path)) == 2


def test_lists_of_packed_images_say_what_they_are(tmp_path: Path) -> None:
    make_rec(tmp_path / "train.rec", [CAT])
    assert any("train.rec" in note for note in write_lists(tmp_path, tmp_path / "lists").notes)


def test_the_command_line_checks_and_converts(tmp_path: Path) -> None:
    make_rec(tmp_path / "in" / "train.rec", [CAT, DOG_AND_HARD_CAT])
    (tmp_path / "in" / "classes.txt").write_text("dog\ncat\n")
    checked = CliRunner().invoke(app, ["data", "check", str(tmp_path / "in")])
    assert checked.exit_code == 0, checked.output
    for to, source in (("yolo", "in"), ("rec", "yolo")):
        done = CliRunner().invoke(app, ["data", "convert", str(tmp_path / source), str(tmp_path / to), "--to", to])
        assert done.exit_code == 0, done.output
    (tmp_path / "in" / "train.rec").write_bytes((tmp_path / "in" / "train.rec").read_bytes()[:-8])
    broken = CliRunner().invoke(app, ["data", "check", str(tmp_path / "in")])
    assert broken.exit_code == 1
    assert "at byte" in broken.output
