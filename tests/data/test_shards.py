"""Tar shards: ours there and back, foreign ones as they come, damaged ones."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from data_makers import make_image, make_list, make_voc_image, voc_object

from singleshot import data
from singleshot.data.check import check
from singleshot.data.convert import convert
from singleshot.errors import DataError
from singleshot.images import shard_index
from singleshot.images.packed import find_member, image_bytes


@pytest.fixture(scope="module")
def shards(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "new"
    convert(source, folder, "shards")
    return folder


def pack(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def test_an_empty_folder_is_no_shard(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Tar shards: tars of images"):
        data.open(tmp_path)


def test_what_is_written_is_read_by_its_index(source: Path, shards: Path) -> None:
    files = sorted(path.name for path in (shards / "shards").iterdir())
    assert files == ["train-000000.index", "train-000000.tar", "val-000000.index", "val-000000.tar"]
    opened, before = data.open(shards, bad_data="error"), data.open(source)
    assert (opened.format, opened.splits, len(opened), opened.problems) == ("shards", ("train", "val"), 9, ())
    assert data.open(shards, "val").problems == ()
    for sample in opened:
        stem = sample.image_path.stem.replace("_", ".")
        twin = next(one for one in before if one.image_path.stem == stem)
        assert image_bytes(sample.image_path) == twin.image_path.read_bytes()
        assert sample.image_id == stem
        for column in ("boxes_xyxy", "class_ids", "difficult", "iscrowd", "areas"):
            np.testing.assert_array_equal(getattr(sample, column), getattr(twin, column))


def test_the_same_bytes_each_time_and_as_many_shards_as_asked(source: Path, tmp_path: Path) -> None:
    from singleshot.data.formats.registry import Content
    from singleshot.data.formats.shard_writer import write_shards

    opened = data.open(source)
    names = {sample.image_path: sample.image_path.name for sample in opened}
    content = Content(opened.samples, opened.class_map, "voc", {None: opened.samples}, names, shard_bytes=4096)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_shards(tmp_path / folder, content)
    written = {path.name: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file()}
    assert sum(name.endswith(".tar") for name in written) > 2
    assert len(data.open(tmp_path / "a", bad_data="error")) == len(opened)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # theirs leaves files open
def test_other_readers_understand_them(shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    rows = list(webdataset.WebDataset(str(shards / "shards" / "train-000000.tar"), shardshuffle=False))
    assert len(rows) == 7
    labels = [json.loads(row["json"]) for row in rows]
    assert {name for label in labels for name in label["class_names"]} == {"cat"}
    assert all(row["jpg"].startswith(b"\xff\xd8") for row in rows)


def foreign(jpg: bytes) -> dict[str, dict[str, bytes]]:
    """The same box, (6, 4, 30, 24) of class 1 or 'dog', as people write it."""
    coco = {"bbox": [6, 4, 24, 20], "category_id": 1}
    return {
        "yolo": {"a.jpg": jpg, "a.txt": b"1 0.3 0.35 0.4 0.5\n"},
        "coco": {"a.json": json.dumps({"annotations": [coco]}).encode(), "a.jpg": jpg},
        "list": {"a.jpg": jpg, "a.json": json.dumps([{"bbox": [6, 4, 24, 20], "label": "dog"}]).encode()},
        "torchvision": {"a.jpg": jpg, "a.json": b'{"boxes": [[6, 4, 30, 24]], "labels": [1]}'},
        "folders": {"x/a.jpg": jpg, "x/a.json": json.dumps({"objects": [coco]}).encode(), "x/a.cls": b"0"},
    }


@pytest.mark.parametrize("dialect", ["yolo", "coco", "list", "torchvision", "folders"])
def test_foreign_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str) -> None:
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    jpg = make_image(tmp_path / "a.jpg").read_bytes()
    tar = pack(tmp_path / "set" / "x.tar" if (tmp_path / "set").mkdir() is None else tmp_path, foreign(jpg)[dialect])
    for source in (tar, tar.parent):
        opened = data.open(source)
        assert opened.format == "shards"
        np.testing.assert_allclose(opened[0].boxes_xyxy, [[6, 4, 30, 24]], atol=1e-4)
        assert image_bytes(opened[0].image_path) == jpg
        name = opened.class_map.names[opened[0].class_ids[0]]
        assert name == ("dog" if dialect == "list" else "class1")
    if dialect != "list":
        (tar.parent / "classes.txt").write_text("cat\ndog\n")
        assert data.open(tar).class_map.names == ("cat", "dog")


def test_numbers_beside_names_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one tar names its classes, the numbers of another are names: '10' comes before '2', and stays '10'."""
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    jpg = make_image(tmp_path / "a.jpg").read_bytes()
    rows = "".join(f"{label} 0.3 0.35 0.4 0.5\n" for label in range(11)).encode()
    (tmp_path / "set").mkdir()
    pack(tmp_path / "set" / "train-0.tar", {"a.jpg": jpg, "a.txt": rows})
    pack(tmp_path / "set" / "train-1.tar", {**foreign(jpg)["list"]})
    opened = data.open(tmp_path / "set")
    names = [[opened.class_map.names[place] for place in sample.class_ids] for sample in opened]
    assert names == [[str(label) for label in range(11)], ["dog"]]


def test_a_foreign_index_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    jpg = make_image(tmp_path / "a.jpg").read_bytes()
    tar = pack(tmp_path / "train-0.tar", foreign(jpg)["yolo"])
    assert data.open(tar).splits == ("train",)
    monkeypatch.setattr("singleshot.data.formats.shards.scan_shard", lambda tar: pytest.fail("read again"))
    shard_index._read_unchanged.cache_clear()
    assert len(data.open(tar)) == 1
    monkeypatch.undo()
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    pack(tar, {**foreign(jpg)["yolo"], "b.jpg": jpg, "b.txt": b""})  # another file of this name
    assert [len(sample) for sample in data.open(tar)] == [1, 0]


def test_a_pattern_with_braces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    jpg = make_image(tmp_path / "a.jpg").read_bytes()
    for number in range(3):
        pack(tmp_path / f"part-{number:03d}.tar", {f"{number}.jpg": jpg, f"{number}.txt": b""})
    assert [sample.image_path.name for sample in data.open(tmp_path / "part-{001..002}.tar")] == ["1.jpg", "2.jpg"]
    with pytest.raises(DataError, match=r"part-003\.tar: there is no such shard"):
        data.open(tmp_path / "part-{002..003}.tar")
    with pytest.raises(DataError, match="more than 1,000,000 shards"):
        data.open(tmp_path / "{0..999999}-{0..999999}.tar")


def test_an_image_of_two_splits_has_one_key(tmp_path: Path) -> None:
    for number, name in enumerate(("a.b", "a_b")):
        make_voc_image(tmp_path / "in", name, voc_object("cat", (1 + number, 2, 30, 20)))
    make_list(tmp_path / "in", "train", "a.b", "a_b")
    make_list(tmp_path / "in", "val", "a_b")
    convert(tmp_path / "in", tmp_path / "out", "shards")
    assert len(data.open(tmp_path / "out")) == 2
    assert data.open(tmp_path / "out", "val")[0].image_path.stem == "a_b_2"


def test_what_is_wrong_is_said_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    jpg = make_image(tmp_path / "a.jpg").read_bytes()
    members = {"good.jpg": jpg, "good.txt": b"0 .5 .5 .2 .2", "bare.jpg": jpg, "alone.txt": b""}
    members |= {"bad.jpg": jpg, "bad.json": b"{", "pixels.jpg": jpg, "pixels.txt": b"0 10 10 5 5"}
    members |= {
        "text.jpg": b"no image",
        "text.txt": b"",
        "null.jpg": jpg,
        "null.json": b'{"boxes": null, "labels": []}',
    }
    members |= {"half.jpg": jpg, "half.json": b'{"boxes_xyxy": []}'}
    tar = pack(tmp_path / "x.tar", members)
    opened = data.open(tar)
    assert [sample.image_path.name for sample in opened] == ["good.jpg"]
    kinds = sorted((problem.file.name, problem.kind) for problem in opened.problems if problem.kind != "unnamed-class")
    assert kinds == [
        ("alone.txt", "orphan-label"),
        ("bad.json", "unreadable-annotation"),
        ("bare.jpg", "missing-annotation"),
        ("half.json", "unreadable-annotation"),
        ("null.json", "unreadable-annotation"),
        ("pixels.txt", "unreadable-annotation"),
        ("text.jpg", "unreadable-image"),
    ]
    tar.write_bytes(tar.read_bytes()[:2048])  # cut off
    with pytest.raises(DataError, match=r"x\.tar"):
        data.open(tar, bad_data="error")


def test_missing_and_changed_shards(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    convert(source, tmp_path / "new", "shards")
    tar = tmp_path / "new" / "shards" / "val-000000.tar"
    tar.write_bytes(tar.read_bytes() + bytes(1024))
    opened = data.open(tmp_path / "new", "val")
    assert [problem.kind for problem in opened.problems] == ["stale-index"]
    assert len(opened) == 3
    tar.unlink()
    with pytest.raises(DataError, match=r"1 of 2 shards are missing, such as .*val-000000"):
        data.open(tmp_path / "new")


@pytest.mark.parametrize("damage", ["cut", "offsets", "bounds", "version"])
def test_a_damaged_index_is_never_believed(source: Path, tmp_path: Path, damage: str) -> None:
    convert(source, tmp_path / "new", "shards")
    tar = tmp_path / "new" / "shards" / "val-000000.tar"
    file = tar.with_suffix(".index")
    index = shard_index.read_index(file, tar)
    columns = {name: column.copy() for name, column in index.columns.items()}
    if damage == "offsets":
        columns["offsets"][1] = 10**12
    if damage == "bounds":
        columns["bounds"][1] = 10**6
    content = shard_index.ShardIndex(tar, index.tar_bytes, columns, index.class_names).to_bytes()
    changed = {"cut": content[:100], "version": content.replace(b'\\"version\\": 1', b'\\"version\\": 2')}
    file.write_bytes(changed.get(damage, content))
    with pytest.raises(ValueError, match="index"):
        shard_index.read_index(file, tar)
    assert len(data.open(tmp_path / "new", "val")) == 3  # the tar itself is read


def test_a_byte_that_changed_is_found(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "new", "shards")
    assert [problem.kind for problem in check(tmp_path / "new").problems if problem.kind == "changed-image"] == []
    tar = tmp_path / "new" / "shards" / "val-000000.tar"
    places = find_member(tar / "p6.jpg").places[0]
    content = bytearray(tar.read_bytes())
    content[places[0] + 15] ^= 1  # of JFIF's dots an inch: no pixel is another
    tar.write_bytes(content)
    found = [problem for problem in check(tmp_path / "new").problems if problem.kind == "changed-image"]
    assert [(problem.file, problem.action) for problem in found] == [(tar / "p6.jpg", "noted")]


@pytest.mark.parametrize("name", ["offsets", "class_ids", "difficult", "names"])
def test_a_column_of_an_index_that_is_one_number(shards: Path, name: str) -> None:
    tar = shards / "shards" / "val-000000.tar"
    index = shard_index.read_index(tar.with_suffix(".index"), tar)
    columns = dict(index.columns) | {name: np.array(0, index.columns[name].dtype)}
    with pytest.raises(ValueError, match="contradicts itself"):
        shard_index._check_columns(tar, columns, index.tar_bytes, len(index.class_names))


def test_members_are_found_without_reading_the_tar(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singleshot.images.tar_archive.read_tar", lambda path: pytest.fail("the tar was gone through"))
    tar = shards / "shards" / "train-000000.tar"
    member = find_member(tar / "p3.jpg")
    assert member is not None
    assert member.open().read(2) == b"\xff\xd8"
    assert find_member(tar / "p9.jpg") is None
