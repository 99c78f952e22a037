"""Parquet tables as data sets: ours there and back, others' as they come, what is no data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_makers import make_image, make_voc_image, voc_object

from singleshot import data
from singleshot.data.check import check
from singleshot.data.convert import convert
from singleshot.data.formats.registry import Content
from singleshot.errors import DataError, OutputError
from singleshot.images.packed import image_bytes, list_members
from singleshot.images.read import read_image

pyarrow = pytest.importorskip("pyarrow")
tables = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def written(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parquet") / "new"
    convert(source, folder, "parquet")
    return folder


def write(file: Path, rows: list[dict[str, Any]], metadata: dict[str, str] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(rows)
    tables.write_table(table.replace_schema_metadata(metadata), file)
    return file


def test_what_is_written_is_read(source: Path, written: Path) -> None:
    files = sorted(path.name for path in (written / "parquet").iterdir())
    assert files == ["train-00000-of-00001.parquet", "val-00000-of-00001.parquet"]
    opened, before = data.open(written, bad_data="error"), data.open(source)
    assert (opened.format, opened.splits, len(opened), opened.problems) == ("parquet", ("train", "val"), 9, ())
    assert len(data.open(written, "val")) == 3
    for sample in opened:
        twin = next(one for one in before if one.image_id == sample.image_id)
        assert sample.image_path.name == twin.image_path.name
        assert image_bytes(sample.image_path) == twin.image_path.read_bytes()
        for column in ("boxes_xyxy", "class_ids", "difficult", "iscrowd", "areas"):
            np.testing.assert_array_equal(getattr(sample, column), getattr(twin, column))


def test_to_other_formats_and_over_itself(source: Path, written: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="images inside it cannot be linked to"):
        convert(written, tmp_path / "coco", "coco", images="link")
    convert(written, tmp_path / "coco", "coco")
    convert(tmp_path / "coco", tmp_path / "again", "parquet")
    convert(source, tmp_path / "again", "parquet", overwrite=True)
    for place in (tmp_path / "coco", tmp_path / "again"):
        opened, before = data.open(place, "val", bad_data="error"), data.open(source, "val")
        assert [one.image_path.name for one in opened] == [one.image_path.name for one in before]
        assert [one.boxes_xyxy.tolist() for one in opened] == [one.boxes_xyxy.tolist() for one in before]


def test_files_and_row_groups_are_bounded(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from singleshot.data.formats import parquet_writer

    monkeypatch.setattr(parquet_writer, "GROUP_ROWS", 2)
    opened = data.open(source)
    names = {sample.image_path: sample.image_path.name for sample in opened}
    content = Content(opened.samples, opened.class_map, "voc", {None: opened.samples}, names, shard_bytes=4096)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        parquet_writer.write_parquet(tmp_path / folder, content)
    files = sorted((tmp_path / "a" / "parquet").iterdir())
    assert len(files) > 1
    assert all(tables.ParquetFile(file).metadata.row_group(0).num_rows <= 2 for file in files)
    assert [file.read_bytes() for file in files] == [
        (tmp_path / "b" / "parquet" / file.name).read_bytes() for file in files
    ]
    again = data.open(tmp_path / "a", bad_data="error")
    assert (len(again), again.splits) == (9, data.open(tmp_path / "a" / "parquet").splits)
    assert [read_image(sample.image_path).shape for sample in again] == [read_image(path).shape for path in names]
    files[0].unlink()
    with pytest.raises(DataError, match=rf"1 of the {len(files)} tables of 'data' are missing"):
        data.open(tmp_path / "a")


CLASSES = {"names": ["cat", "dog"], "_type": "ClassLabel"}
FEATURES = {"objects": {"bbox": {"_type": "List"}, "category": {"feature": CLASSES}}}
THEIRS = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
FOREIGN: dict[str, dict[str, Any]] = {
    "hugging face": {"objects": {"bbox": [[6.0, 4.0, 24.0, 20.0]], "category": [1]}},
    "coco": {"annotations": [{"bbox": [6, 4, 24, 20], "category_name": "dog"}]},
    "corners": {"boxes": [[6, 4, 30, 24]], "labels": ["dog"]},
    "mmdetection": {"annotations": [{"bbox": [6, 4, 24, 20], "category_name": "dog", "ignore": 1}]},
    "columns": {"bbox": [[6, 4, 24, 20]], "label": ["dog"], "caption": "a dog"},
}


@pytest.mark.parametrize("dialect", FOREIGN)
@pytest.mark.parametrize("form", ["struct", "bytes", "path"])
def test_tables_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str, form: str) -> None:
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    labels, metadata = FOREIGN[dialect], THEIRS if dialect == "hugging face" else None
    jpg = make_image(tmp_path / "set" / "photos" / "a.jpg").read_bytes()
    image = {"struct": {"bytes": jpg, "path": "a.jpg"}, "bytes": jpg, "path": "photos/a.jpg"}[form]
    write(tmp_path / "set" / "train-00000-of-00001.parquet", [{"image": image, **labels}], metadata)
    if form != "path":
        (tmp_path / "set" / "photos" / "a.jpg").unlink()
    for _ in range(2):  # from the table, and from the index that is kept of it
        opened = data.open(tmp_path / "set", "train", bad_data="error")
        assert (opened.format, opened.class_map.names[int(opened[0].class_ids[0])]) == ("parquet", "dog")
        np.testing.assert_allclose(opened[0].boxes_xyxy, [[6, 4, 30, 24]])
        assert opened[0].difficult.tolist() == [dialect == "mmdetection"]
        assert opened[0].image_path.name == ("00000000.jpg" if form == "bytes" else "a.jpg")
        assert image_bytes(opened[0].image_path) == jpg


def test_what_is_wrong_is_said_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    jpg, box = make_image(tmp_path / "a.jpg").read_bytes(), [[1.0, 2.0, 9.0, 9.0]]
    rows = [
        {"image": jpg, "name": "x/good.jpg", "boxes": box, "labels": ["cat"]},
        {"image": jpg, "name": "y/good.jpg", "boxes": None, "labels": ["cat"]},
        {"image": b"no image", "name": "text.jpg", "boxes": box, "labels": ["cat"]},
        {"image": None, "name": "none.jpg", "boxes": box, "labels": ["cat"]},
        {"image": jpg, "name": "short.jpg", "boxes": box, "labels": []},
    ]
    table = write(tmp_path / "set" / "x.parquet", rows)
    opened = data.open(table)
    assert [sample.image_path.name for sample in opened] == ["good.jpg"]
    kinds = [(problem.file.name, problem.kind) for problem in opened.problems]
    assert sorted(kinds) == [
        ("00000001-good.jpg", "unreadable-annotation"),
        ("row 3", "missing-image"),
        ("short.jpg", "unreadable-annotation"),
        ("text.jpg", "unreadable-image"),
    ]
    assert list(list_members(table)) == ["good.jpg", "00000001-good.jpg", "text.jpg", "none.jpg", "short.jpg"]


def test_what_is_no_data_set(tmp_path: Path, written: Path) -> None:
    detections = write(tmp_path / "found" / "detections.parquet", [{"image": "a.jpg", "x1": 1.0}], {"singleshot": "{}"})
    for place in (detections, detections.parent):
        with pytest.raises(DataError, match="holds detections that `predict` wrote, not labelled images"):
            data.open(place)
    with pytest.raises(DataError, match="the columns are caption"):
        data.open(write(tmp_path / "text.parquet", [{"caption": "a"}]))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 is how they begin")
    with pytest.raises(DataError, match=r"broken\.parquet: cannot be read as Parquet"):
        data.open(tmp_path / "broken.parquet")


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    rows = [{"image": b"...", "path": "a.jpg", "boxes": [[1.0, 2.0, 3.0, 4.0]], "labels": [0]}]
    tables.write_table(
        pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet", compression="none", use_dictionary=False
    )
    (tmp_path / "x.parquet").write_bytes((tmp_path / "x.parquet").read_bytes().replace(b"a.jpg", b"a\x96jpg"))
    with pytest.raises(DataError, match=r"x\.parquet: damaged: .*UTF8"):
        data.open(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    "damage", ["version", "classes", "ids", "no id", "class", "counts", "size", "kinds", "same id"]
)
def test_a_damaged_table_of_ours(tmp_path: Path, written: Path, damage: str) -> None:
    table = tables.read_table(written / "parquet" / "val-00000-of-00001.parquet")
    about = json.loads(table.schema.metadata[b"singleshot-data"])
    rows = table.to_pylist()
    changed = next(row for row in rows if row["class_ids"])
    if damage == "version":
        about["version"] = 2
    elif damage == "classes":
        del about["classes"]
    elif damage == "ids":
        del about["class_ids"][0]
    elif damage == "no id":
        about["class_ids"][0] = float("inf")
    elif damage == "same id":
        about |= {"classes": ["cat", "dog"], "class_ids": [0, -0.0]}
    elif damage == "class":
        changed["class_ids"][0] = 7
    elif damage == "counts":
        changed["difficult"] = []
    else:
        changed["height"] = 0
    changed = pyarrow.Table.from_pylist(rows, table.schema)
    if damage == "kinds":
        place = changed.schema.get_field_index("height")
        changed = changed.set_column(place, "height", [[float("nan")] * len(rows)])
    tables.write_table(changed.replace_schema_metadata({b"singleshot-data": json.dumps(about)}), tmp_path / "x.parquet")
    others = {"version": "version 2; this singleshot reads 1", "same id": "class ids must differ; repeated: 0"}
    wanted = others.get(damage, "damaged .*: convert the data set again")
    with pytest.raises(DataError, match=rf"x\.parquet: .*{wanted}"):
        data.open(tmp_path / "x.parquet")


def test_an_image_that_was_replaced_is_found(tmp_path: Path, written: Path) -> None:
    shutil.copytree(written, tmp_path / "new")
    assert "changed-image" not in {problem.kind for problem in check(tmp_path / "new").problems}
    file = next((tmp_path / "new" / "parquet").glob("val-*"))
    table = tables.read_table(file)
    images = table.column("image").to_pylist()
    place = table.schema.get_field_index("image")
    table = table.set_column(place, table.schema.field("image"), [[images[0] + b"\0", *images[1:]]])
    tables.write_table(table, file)
    found = [problem for problem in check(tmp_path / "new").problems if problem.kind == "changed-image"]
    assert [problem.action for problem in found] == ["noted"]


def test_a_folder_of_other_labels_may_hold_a_table(source: Path, tmp_path: Path) -> None:
    make_voc_image(tmp_path, "a", voc_object("cat", (1, 2, 30, 20)))
    write(tmp_path / "detections.parquet", [{"image": "a.jpg"}], {"singleshot": "{}"})
    opened = data.open(tmp_path, bad_data="error")
    assert (opened.format, len(opened), opened.problems) == ("voc", 1, ())
