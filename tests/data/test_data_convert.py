"""Conversion there and back: boxes, flags, splits, the order of classes, images without objects."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from data_makers import (
    coco_box,
    coco_image,
    make_coco,
    make_image,
    make_list,
    make_voc_image,
    make_yolo_image,
    voc_object,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot import data
from singleshot.core.structures import Sample
from singleshot.data.convert import convert
from singleshot.data.formats.writers import coco_records, voc_xml, yolo_text
from singleshot.errors import DataError, OutputError
from singleshot.images.packed import image_bytes

FORMATS: tuple[str, ...] = ("voc", "coco", "yolo", "rec", "shards")


def facts(opened: data.DetectionDataset) -> dict[str, Any]:
    """What must survive, by file name."""
    return {
        sample.image_path.stem.replace(".", "_"): (  # a shard's names have no dots
            np.round(sample.boxes_xyxy.astype(float), 3).tolist(),
            [opened.class_map.names[index] for index in sample.class_ids],
            sample.image_size_hw,
        )
        for sample in opened
    }


def voc_source(root: Path) -> Path:
    make_voc_image(root, "empty")
    make_voc_image(root, "b", voc_object("cat", (1, 1, 60, 40)), voc_object("zoo & <co>", (3.5, 4, 20, 21), 1))
    make_voc_image(root, "c", voc_object("ape", (7, 7, 7, 7)))
    for split, stems in (("train", "b"), ("val", "c"), ("trainval", "bc"), ("test", ["empty"])):
        make_list(root, split, *stems)
    (root / "classes.txt").write_text("zoo & <co>\ncat\nape\nnever seen\n")
    return root


@pytest.mark.parametrize("to", FORMATS)
def test_an_image_without_objects(tmp_path: Path, to: str) -> None:
    make_voc_image(tmp_path / "a", "x")
    done = convert(tmp_path / "a", tmp_path / "b", to)
    opened = data.open(tmp_path / "b", bad_data="error")
    assert (done.images, done.objects, done.splits, done.losses) == (1, 0, {}, ())
    assert (opened.format, len(opened), len(opened[0]), opened.class_map.names) == (to, 1, 0, ())


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_every_way_there_and_back(tmp_path: Path, first: str, second: str) -> None:
    source = voc_source(tmp_path / "source")
    convert(source, tmp_path / "first", first)
    done = convert(tmp_path / "first", tmp_path / "second", second)
    assert (done.images, done.objects) == (3, 3)
    assert {problem.kind for problem in done.problems} <= {"tiny"}
    assert done.splits == {"test": 1, "train": 1, "trainval": 2, "val": 1}
    before, after = data.open(source), data.open(tmp_path / "second")
    assert after.format == second
    assert facts(after) == facts(before)
    assert after.class_map.names == before.class_map.names == ("zoo & <co>", "cat", "ape", "never seen")
    for split in ("train", "val", "trainval", "test"):
        assert facts(data.open(tmp_path / "second", split)) == facts(data.open(source, split))
    if "yolo" not in (first, second):
        assert sum(int(sample.difficult.sum()) for sample in after) == 1
    for sample in after:
        assert image_bytes(sample.image_path) == (source / "JPEGImages" / f"{sample.image_path.stem}.jpg").read_bytes()


def test_category_ids_and_crowds_survive_coco(tmp_path: Path) -> None:
    cats = [{"id": 3, "name": "car"}, {"id": 90, "name": "dog"}]
    boxes = [coco_box(5, 42, 90, [1, 2, 3, 4], area=7.5), coco_box(6, 42, 3, [0, 0, 60, 40], iscrowd=1)]
    make_coco(tmp_path / "a" / "x.json", [coco_image(42, "sub/x.jpg")], boxes, cats, tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b", "coco")
    opened = data.open(tmp_path / "b", bad_data="error")
    assert (opened.class_map.ids, opened[0].image_id) == ((3, 90), 42)
    assert opened[0].areas.tolist() == [7.5, 2400]
    assert opened[0].iscrowd.tolist() == [False, True]
    assert convert(tmp_path / "b", tmp_path / "voc", "voc").losses == (
        "1 crowds became difficult objects: VOC has no crowds",
    )
    assert data.open(tmp_path / "voc")[0].difficult.tolist() == [False, True]
    assert convert(tmp_path / "b", tmp_path / "yolo", "yolo").losses == ("1 crowds were left out: YOLO has no crowds",)
    assert len(data.open(tmp_path / "yolo")[0]) == 1


def test_difficult_objects_are_a_loss_for_yolo(tmp_path: Path) -> None:
    done = convert(voc_source(tmp_path / "a"), tmp_path / "b", "yolo")
    assert done.losses == ("1 difficult objects became ordinary ones: YOLO has no such flag",)


@pytest.mark.parametrize("to", FORMATS)
def test_equal_names_in_two_folders_stay_apart(tmp_path: Path, to: str) -> None:
    for number, split in enumerate(("train", "val")):
        make_yolo_image(tmp_path / "a", f"{split}/x", f"{number} 0.5 0.5 0.5 0.5")
    make_image(tmp_path / "a" / "images" / "val" / "x.png")
    done = convert(tmp_path / "a", tmp_path / "b", to)
    assert done.images == 3
    assert len(data.open(tmp_path / "b", bad_data="error")) == 3
    assert [sample.class_ids.tolist() for sample in data.open(tmp_path / "b", "train")] == [[0]]


def test_images_can_be_linked(tmp_path: Path) -> None:
    convert(voc_source(tmp_path / "a"), tmp_path / "b", "coco", images="link")
    assert (tmp_path / "b" / "images" / "b.jpg").is_symlink()
    assert len(data.open(tmp_path / "b", bad_data="error")) == 3


def test_only_some_classes(tmp_path: Path) -> None:
    done = convert(voc_source(tmp_path / "a"), tmp_path / "b", "coco", classes=["ape", "cat"])
    assert done.objects == 2
    assert data.open(tmp_path / "b").class_map.names == ("ape", "cat")


@pytest.mark.parametrize("place", ["source", "source/new", ".", "source/../source", "link", "link/new", "file", "full"])
def test_nothing_of_the_users_is_ever_written_over(tmp_path: Path, place: str) -> None:
    source = voc_source(tmp_path / "source")
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for overwrite in (False, True):
        with pytest.raises(
            OutputError, match=r"lies in what this run reads|no folder|not an empty folder|'thesis\.txt'"
        ):
            convert(source, tmp_path / place, "coco", overwrite=overwrite)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_only_known_formats_are_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write the format 'csv'"):
        convert(voc_source(tmp_path / "a"), tmp_path / "b", "csv")  # type: ignore[arg-type]


def test_a_conversion_replaces_another_where_that_is_allowed(tmp_path: Path) -> None:
    source = voc_source(tmp_path / "a")
    convert(source, tmp_path / "b", "yolo")
    with pytest.raises(OutputError, match="not an empty folder"):
        convert(source, tmp_path / "b", "coco")
    convert(source, tmp_path / "b", "coco", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["annotations", "images"]
    assert data.open(tmp_path / "b", bad_data="error").format == "coco"


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    source = voc_source(tmp_path / "a")
    if existing:
        convert(source, tmp_path / "b", "yolo")
    before = sorted((tmp_path / "b").rglob("*"))

    def fail(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(OSError, match=r"No space left on device.*'.*\.jpg'"):
        convert(source, tmp_path / "b", "coco", overwrite=existing)
    assert sorted((tmp_path / "b").rglob("*")) == before
    assert (tmp_path / "b").exists() is existing


def test_other_readers_understand_the_coco_file(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    convert(voc_source(tmp_path / "a"), tmp_path / "b", "coco")
    coco = COCO(str(tmp_path / "b" / "annotations" / "instances_train.json"))
    assert sorted(record["bbox"] for record in coco.anns.values()) == [[0, 0, 60, 40], [2.5, 3, 17.5, 18]]
    assert [cat["name"] for cat in coco.loadCats(coco.getCatIds())] == ["zoo & <co>", "cat", "ape", "never seen"]


side = st.floats(min_value=0, max_value=1, width=32)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    height, width = draw(st.integers(1, 4000)), draw(st.integers(1, 4000))
    count = draw(st.integers(0, 5))
    corners = np.sort(
        np.array(draw(st.lists(side, min_size=4 * count, max_size=4 * count))).reshape(count, 2, 2), axis=1
    )
    boxes = (corners * [width, height]).reshape(count, 4).astype(np.float32)
    flags = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    class_ids = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    keep = (boxes[:, :2] + 1e-3 < boxes[:, 2:]).all(axis=1)
    if min(height, width) >= 8:  # boxes within the first pixel are taken for fractions
        keep &= boxes.max(axis=1) > 2
    ids = np.array(class_ids, dtype=np.int64)[keep]
    return Sample(Path("a.jpg"), (height, width), boxes[keep], ids, np.array(flags, dtype=bool)[keep])


@settings(max_examples=40, deadline=None)
@given(samples(), st.sampled_from(("voc", "coco", "yolo")))
def test_any_sample_survives(sample: Sample, to: str) -> None:
    """Written by each format's writer and read back, boxes differ by less than a thousandth of a pixel."""
    names = ("a", "b", "c")
    height, width = sample.image_size_hw
    with TemporaryDirectory() as name:
        root = Path(name)
        # A BMP header says the size; its pixels are never looked at, but their number must be there for a whole file.
        header = b"BM" + (54).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
        image = root / "images" / "a.bmp"
        image.parent.mkdir()
        image.write_bytes(header + width.to_bytes(4, "little") + height.to_bytes(4, "little") + bytes(28))
        (root / "classes.txt").write_text("a\nb\nc\n")
        if to == "voc":
            (root / "Annotations").mkdir()
            (root / "Annotations" / "a.xml").write_text(voc_xml(sample, "a.bmp", names))
        elif to == "yolo":
            (root / "labels").mkdir()
            (root / "labels" / "a.txt").write_text(yolo_text(sample))
        else:
            record, objects = coco_records(sample, "a.bmp", 1, 1, (1, 2, 3))
            categories = [{"id": index + 1, "name": name} for index, name in enumerate(names)]
            content = {"images": [record], "annotations": objects, "categories": categories}
            (root / "instances.json").write_text(json.dumps(content))
        (back,) = data.open(root)
    first = np.unique(np.column_stack([sample.class_ids, sample.boxes_xyxy]), axis=0, return_index=True)[1]
    kept = np.sort(first)
    assert back.class_ids.tolist() == sample.class_ids[kept].tolist()
    np.testing.assert_allclose(back.boxes_xyxy, sample.boxes_xyxy[kept], atol=1e-3)
    if to != "yolo":
        assert back.difficult.tolist() == sample.difficult[kept].tolist()


@pytest.mark.parametrize("to", FORMATS)
def test_tables_are_converted_too(tmp_path: Path, to: str) -> None:
    source = tmp_path / "a"
    for name in ("photo.jpg.jpg", "b c.png"):
        make_image(source / name)
    rows = [
        'photo.jpg.jpg,60,40,"a, b",1,2,9,8',
        "photo.jpg.jpg,60,40,null,3,4,19,18.5",
        'b c.png,60,40,"a, b",5,6,7,8',
    ]
    (source / "table.csv").write_text("\n".join(["filename,width,height,class,xmin,ymin,xmax,ymax", *rows]))
    done = convert(source, tmp_path / "b", to)
    before, after = data.open(source, bad_data="error"), data.open(tmp_path / "b", bad_data="error")
    assert (done.images, done.objects) == (2, 3)
    assert facts(after) == facts(before)
    assert after.class_map.names == before.class_map.names == ("a, b", "null")
