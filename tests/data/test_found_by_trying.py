"""Data sets as tools and people leave them, each with a known truth: what adversarial tries found to go wrong."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from data_makers import coco_box, coco_image, make_coco, make_image, make_voc_image, make_yolo_image, voc_object

from singleshot import data
from singleshot.data.check import check
from singleshot.data.convert import convert
from singleshot.errors import DataError

CAT_ROW = "0 0.5 0.5 0.5 0.5"
CAT_XML = voc_object("cat", (5, 5, 30, 30))
CATEGORIES: list[dict[str, object]] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
HEADER = "filename,class,xmin,ymin,xmax,ymax\n"
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))


def found(opened: data.DetectionDataset) -> dict[str, list[str]]:
    """Class names of the objects of each image."""
    names = opened.class_map.names
    return {sample.image_path.name: [names[index] for index in sample.class_ids] for sample in opened}


def sizes(path: Path) -> dict[str, int]:
    return {name: counts["images"] for name, counts in check(path).splits.items()}


def flat_yolo(root: Path, folder: str) -> None:
    make_yolo_image(root / folder, f"{folder}0", CAT_ROW, images=".", labels=".")


def nested_yolo(root: Path, folder: str) -> None:
    make_yolo_image(root, f"{folder}0", CAT_ROW, images=f"images/{folder}", labels=f"labels/{folder}")


def inner_yolo(root: Path, folder: str) -> None:
    make_yolo_image(root / folder, f"{folder}0", CAT_ROW)


def voc(root: Path, folder: str) -> None:
    make_voc_image(root / folder, f"{folder}0", CAT_XML)


def labelme(root: Path, folder: str) -> None:
    make_image(root / folder / f"{folder}0.jpg")
    shape = {"label": "cat", "points": [[5, 5], [30, 30]], "shape_type": "rectangle"}
    content = {"shapes": [shape], "imagePath": f"{folder}0.jpg", "imageHeight": 40, "imageWidth": 60}
    (root / folder / f"{folder}0.json").write_text(json.dumps(content))


def coco_in_folder(root: Path, folder: str) -> None:
    make_image(root / folder / f"{folder}0.jpg")
    box = coco_box(1, 1, 1, [5, 5, 25, 25])
    make_coco(root / folder / "annotation_coco.json", [coco_image(1, f"{folder}0.jpg")], [box], CATEGORIES)


MAKERS = [flat_yolo, nested_yolo, inner_yolo, voc, labelme, coco_in_folder]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("folders", "trains"),
    [
        (("train", "val", "test"), True),
        (("train", "holdout"), True),
        (("Training", "Validation", "TEST"), True),
        (("fold0", "fold1", "fold2"), False),
        (("train", "val", "calibration"), True),
    ],
)
def test_labelled_folders_beside_splits_are_splits(
    tmp_path: Path, make: Callable[[Path, str], None], folders: tuple[str, ...], trains: bool
) -> None:
    for folder in folders:
        make(tmp_path, folder)
    assert sizes(tmp_path) == dict.fromkeys(folders, 1)
    if not trains:
        with pytest.raises(DataError, match="`train`"):
            data.open_training(tmp_path)
        return
    train, held_out = data.open_training(tmp_path)
    assert [sample.image_path.name for sample in train] == [f"{folders[0]}0.jpg"]
    assert held_out is not None
    assert [sample.image_path.name for sample in held_out] == [f"{folders[1]}0.jpg"]


def one_coco(root: Path, names: list[str]) -> None:
    images = [coco_image(key, name) for key, name in enumerate(names)]
    boxes = [coco_box(key, key, 1, [5, 5, 25, 25]) for key in range(len(names))]
    make_coco(root / "annotations.json", images, boxes, CATEGORIES)


def one_csv(root: Path, names: list[str]) -> None:
    (root / "labels.csv").write_text(HEADER + "".join(f"{name},cat,5,5,30,30\n" for name in names))


@pytest.mark.parametrize("label", [one_coco, one_csv])
@pytest.mark.parametrize(
    ("folders", "splits", "note"),
    [
        ((), {}, None),
        (("train",), {}, None),
        (("day1", "day2"), {}, None),
        (("train", "val"), {"train": 2, "val": 2}, None),
        (("train", "val2017", "extra"), {"train": 2, "val2017": 2}, "no-split"),
    ],
)
def test_folders_of_images_divide_one_file(
    tmp_path: Path,
    label: Callable[[Path, list[str]], None],
    folders: tuple[str, ...],
    splits: dict[str, int],
    note: str | None,
) -> None:
    names = [f"{folder}/{folder.strip('.')}{index}.jpg" for folder in folders or (".",) for index in range(2)]
    for name in names:
        make_image(tmp_path / name)
    label(tmp_path, names)
    report = check(tmp_path)
    assert {name: counts["images"] for name, counts in report.splits.items()} == splits
    assert ("no-split" in {problem.kind for problem in report.problems}) == (note is not None)
    assert len(data.open(tmp_path)) == len(names)
    if splits:
        train, held_out = data.open_training(tmp_path)
        assert held_out is not None
        assert set(found(train)) == {"train0.jpg", "train1.jpg"}
        assert {name[:3] for name in found(held_out)} == {"val"}


@pytest.mark.parametrize("to", ["voc", "coco", "yolo", "rec"])
def test_splits_that_number_classes_otherwise_are_converted_by_name(tmp_path: Path, to: str) -> None:
    swapped: list[dict[str, object]] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    for split, categories, cat in (("train", CATEGORIES, 1), ("val", swapped, 2)):
        make_image(tmp_path / "in" / split / f"{split}.jpg")
        box = coco_box(1, 1, cat, [5, 5, 25, 25])
        images = [coco_image(1, f"{split}.jpg")]
        make_coco(tmp_path / "in/annotations" / f"instances_{split}.json", images, [box], categories)
    convert(tmp_path / "in", tmp_path / "out", to)  # type: ignore[arg-type]
    for split in ("train", "val"):
        assert found(data.open(tmp_path / "out", split)) == {f"{split}.jpg": ["cat"]}


def test_files_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    make_image(tmp_path / "b.jpg")
    images = [coco_image(1, "a.jpg"), coco_image(2, "b.jpg")]
    same = coco_box(2, 2, 1, [1, 1, 9, 9])
    make_coco(tmp_path / "cats.json", images, [coco_box(1, 1, 1, [5, 5, 25, 25]), same], CATEGORIES)
    make_coco(tmp_path / "dogs.json", images, [coco_box(1, 1, 2, [5, 5, 25, 25]), same], CATEGORIES)
    bad = [problem for problem in data.open(tmp_path).problems if problem.kind == "contradiction"]
    assert [(problem.file.name, problem.action) for problem in bad] == [("dogs.json", "skipped")]
    assert "1 of its images, such as a.jpg" in bad[0].message
    assert found(data.open(tmp_path, "dogs")) == {"a.jpg": ["dog"], "b.jpg": ["cat"]}


@pytest.mark.parametrize(("disk", "named"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_names_in_another_unicode_form(tmp_path: Path, disk: str, named: str) -> None:
    for folder in ("labels", "list", "table"):
        make_image(tmp_path / folder / "images" / f"{disk}.jpg")
    (tmp_path / "labels/labels").mkdir()
    (tmp_path / "labels/labels" / f"{named}.txt").write_text(CAT_ROW)
    (tmp_path / "list/labels").mkdir()
    (tmp_path / "list/labels" / f"{disk}.txt").write_text(CAT_ROW)
    (tmp_path / "list/train.txt").write_text(f"images/{named}.jpg\n", encoding="utf-8")
    (tmp_path / "list/data.yaml").write_text("train: train.txt\nnames: [cat]\n")
    (tmp_path / "table/labels.csv").write_text(f"{HEADER}{named}.jpg,cat,5,5,30,30\n", encoding="utf-8")
    for folder in ("labels", "list", "table"):
        assert [len(sample) for sample in data.open(tmp_path / folder)] == [1], folder


def test_a_list_in_other_capitals(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "im0", CAT_ROW)
    (tmp_path / "train.txt").write_text("images/IM0.JPG\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nnames: [cat]\n")
    opened = data.open(tmp_path)
    assert found(opened) == {"im0.jpg": ["cat"]}
    assert "moved-paths" in {problem.kind for problem in opened.problems}


@pytest.mark.parametrize(
    ("file", "content", "name"),
    [
        ("ds/ann/a.jpg.json", '{"objects": [{"classTitle": "cat"}]}', "Supervisely"),
        ("train/_annotations.createml.json", '[{"image": "a.jpg", "annotations": [{"coordinates": {}}]}]', "CreateML"),
        ("train/x.tfrecord", "", "TFRecord"),
        ("train/metadata.jsonl", '{"file_name": "a.jpg", "objects": {"bbox": []}}\n', "Hugging Face"),
        ("output.manifest", '{"source-ref": "s3://b/a.jpg"}\n', "Ground Truth"),
        ("data.json", '[{"regions": [{"tagName": "cat"}]}]', "Custom Vision"),
        ("p-export.json", '{"assets": {"x": {"regions": []}}}', "VoTT"),
        ("train.csv", 'image_id,width,height,bbox\na,60,40,"[1, 2, 3, 4]"\n', "one column"),
        ("train/_classes.csv", "filename, cat, dog\na.jpg,1,0\n", "whole images"),
        ("labelTxt/a.txt", "imagesource:GoogleEarth\ngsd:0.1\n", "DOTA"),
        ("annotations/a.txt", "5,5,25,25,1,4,0,0\n", "VisDrone"),
        ("gt/gt.txt", "1,1,10,10,20,20,1,1,1\n", "MOT Challenge"),
        ("split/train_bbx_gt.txt", "0--Parade/a.jpg\n1\n10 10 20 20 0 0 0 0 0 0 \n", "WIDER FACE"),
        ("photos/_annotations.txt", "a.jpg 1,2,30,40,0 5,5,10,10,1\nb.jpg\n", "keras-yolo3"),
        ("x-asset.json", '{"asset": {"name": "a.jpg"}, "regions": [{"tags": ["cat"]}]}', "VoTT"),
        ("results.json", '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]', "COCO results"),
        ("data.ndjson", '{"type": "dataset", "task": "detect", "class_names": {"0": "cat"}}\n', "Ultralytics NDJSON"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path: Path, file: str, content: str, name: str) -> None:
    make_image(tmp_path / "photos/a.jpg")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=name):
        data.open(tmp_path)


def test_boxes_around_other_shapes_are_told_once(tmp_path: Path) -> None:
    for name in "ab":
        make_yolo_image(tmp_path / "yolo", name, f"{CAT_ROW}\n0 .1 .1 .5 .1 .5 .5 .1 .5\n0 .2 .2 .6 .2 .6 .6\n")
        make_image(tmp_path / "labelme" / f"{name}.jpg")
        shapes = [
            {"label": "cat", "shape_type": kind, "points": [[5, 5], [20, 30], [9, 40]][:count]}
            for kind, count in (("rectangle", 2), ("polygon", 3), ("circle", 2))
        ]
        text = json.dumps({"shapes": shapes, "imagePath": f"{name}.jpg"})
        (tmp_path / "labelme" / f"{name}.json").write_text(text)
    for kind, told in (
        ("yolo", "4 points: of polygons and oriented boxes"),
        ("labelme", "shape 2 is a polygon: of all shapes"),
    ):
        opened = data.open(tmp_path / kind)
        assert sum(map(len, opened)) == 6
        notes = [problem for problem in opened.problems if problem.kind == "polygon"]
        assert [(note.file.name[0], note.action) for note in notes] == [("a", "noted")]
        assert notes[0].message == f"{told}, the upright box around them is used"


def test_a_folder_with_an_archive_alone(tmp_path: Path) -> None:
    (tmp_path / "export.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"export\.zip is an archive: unpack it\.$"):
        data.open(tmp_path)


def test_labels_of_another_program_beside_images_are_not_background(tmp_path: Path) -> None:
    make_image(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    box = {"category": "car", "box2d": {"x1": 1, "y1": 1, "x2": 9, "y2": 9}}
    (tmp_path / "labels/det_train.json").write_text(json.dumps([{"name": "a.jpg", "labels": [box]}]))
    with pytest.raises(DataError, match=r"det_train\.json looks like BDD100K"):
        data.open(tmp_path)


def test_a_table_without_classes_shows_its_columns(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text("photo,bx,by,bw,bh,kind\na.jpg,5,5,30,30,cat\n")
    with pytest.raises(DataError, match=r"boxes\.csv is 'photo,bx,by,bw,bh,kind': the columns' names"):
        data.open(tmp_path)


def test_gtsrb(tmp_path: Path) -> None:
    make_image(tmp_path / "00000.ppm")
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    (tmp_path / "GT-00003.csv").write_text(f"{header}00000.ppm;60;40;5;5;30;30;3\n")
    (sample,) = data.open(tmp_path, bad_data="error")
    assert sample.boxes_xyxy.tolist() == [[5, 5, 30, 30]]


def test_a_heic_photo_is_named(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", CAT_ROW)
    make_yolo_image(tmp_path, "b", CAT_ROW)
    (tmp_path / "images/b.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (problem,) = (one for one in data.open(tmp_path).problems if one.kind == "unreadable-image")
    assert "is a HEIC photo, which singleshot does not read: export it as JPEG" in problem.message


def test_an_archive_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "photos.tar.gz").touch()
    with pytest.raises(DataError, match=r"photos\.tar\.gz is an archive: unpack it, and name the folder\.$"):
        data.open(tmp_path / "photos.tar.gz")


def test_labels_without_images_are_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(CAT_ROW)
    with pytest.raises(DataError, match=r"no images.*a\.txt: no image is called a"):
        check(tmp_path)
    with pytest.raises(DataError, match="no usable images"):
        data.open_training(tmp_path)


def test_one_label_file_of_two_images_is_noted(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", CAT_ROW)
    make_image(tmp_path / "images/a.png")
    shared = [problem for problem in data.open(tmp_path).problems if problem.kind == "shared-labels"]
    assert [(problem.file.name, problem.message) for problem in shared] == [("a.txt", "labels both a.jpg and a.png")]


def test_a_list_of_classes_that_contradicts_the_settings_is_noted(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", CAT_ROW)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    assert not data.open(tmp_path).problems
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    opened = data.open(tmp_path)
    assert opened.class_map.names == ("cat", "dog")
    assert [(p.file.name, p.kind) for p in opened.problems] == [("classes.txt", "other-settings")]


def test_numbers_with_underscores_are_none(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", CAT_ROW, "0 0.1_2 0.5 0.1 0.1")
    opened = data.open(tmp_path)
    assert [(p.kind, p.line) for p in opened.problems if p.action == "skipped"] == [("bad-record", 2)]
    assert [len(sample) for sample in opened] == [1]


def test_spaces_before_quoted_cells(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    (tmp_path / "labels.csv").write_text('filename, class, xmin, ymin, xmax, ymax\na.jpg, "cat, small", 5, 5, 30, 30\n')
    assert found(data.open(tmp_path)) == {"a.jpg": ["cat, small"]}


def test_corners_in_columns_of_a_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_image(tmp_path / f"{name}.jpg")
    rows = "".join(f"{name}.jpg,35,10,55,38,cat\n{name}.jpg,5,5,30,30,cat\n" for name in "ab")
    (tmp_path / "labels.csv").write_text("filename,x,y,w,h,class\n" + rows)
    opened = data.open(tmp_path)
    assert "corner-boxes" in {problem.kind for problem in opened.problems if problem.action == "skipped"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_labelme_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    labelme(tmp_path, "x")
    file = tmp_path / "x/x0.json"
    file.write_text(file.read_text(), encoding=encoding)
    assert [len(sample) for sample in data.open(tmp_path / "x")] == [1]


@pytest.mark.parametrize("label", [one_coco, one_csv])
def test_images_of_another_split_with_the_same_names_are_not_taken(
    tmp_path: Path, label: Callable[[Path, list[str]], None]
) -> None:
    make_image(tmp_path / "images/train/0.jpg")
    for split in ("train", "val"):
        label(tmp_path, ["0.jpg"])
        made = next(path for path in tmp_path.glob("*.*") if path.stem in ("annotations", "labels"))
        made.rename(tmp_path / f"{split}{made.suffix}")
    with pytest.raises(DataError, match=r"val\.(json|csv)"):
        data.open(tmp_path, "val")
    make_image(tmp_path / "images/val/0.jpg")
    for split in ("train", "val"):
        assert [sample.image_path for sample in data.open(tmp_path, split)] == [tmp_path / f"images/{split}/0.jpg"]


@pytest.mark.parametrize("settings", ["", "train: images/train\nval: images/val\nnames: [cat]\n"])
def test_labels_in_one_folder_of_images_in_several(tmp_path: Path, settings: str) -> None:
    for split in ("train", "val"):
        make_yolo_image(tmp_path, split, CAT_ROW, images=f"images/{split}")
    if settings:
        (tmp_path / "data.yaml").write_text(settings)
    else:
        (tmp_path / "classes.txt").write_text("cat\n")
    assert found(data.open(tmp_path)) == {"train.jpg": ["cat"], "val.jpg": ["cat"]}
    assert sizes(tmp_path) == {"train": 1, "val": 1}


def test_one_folder_for_two_splits_is_named_once(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", CAT_ROW)
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cat]\n")
    assert [problem.kind for problem in check(tmp_path).problems] == ["shared-image"]
    with pytest.raises(DataError, match="share 1 image"):
        data.open_training(tmp_path)


def test_a_spreadsheets_line_about_the_separator(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    (tmp_path / "labels.csv").write_text(
        "sep=;\n" + HEADER.replace(",", ";") + "a.jpg;cat;5;5;30;30\nb.jpg;cat;5;5;9;9\n"
    )
    opened = data.open(tmp_path)
    assert found(opened) == {"a.jpg": ["cat"]}
    assert [(problem.kind, problem.line) for problem in opened.problems] == [("missing-image", 4)]


def test_a_key_given_twice_in_data_yaml(tmp_path: Path) -> None:
    make_yolo_image(tmp_path, "a", CAT_ROW)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat, dog]\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match=r"data\.yaml: not valid YAML: the key 'names' is given twice"):
        data.open(tmp_path)


@pytest.mark.parametrize(
    ("inside", "kind", "count"),
    [
        ("<polygon><x1>5</x1><y1>5</y1><x2>30</x2><y2>9</y2><x3>9</x3><y3>30</y3></polygon>", "polygon", 1),
        (CAT_XML.partition("</difficult>")[2].partition("</object>")[0] * 2, "several-boxes", 2),
    ],
)
def test_objects_of_voc_that_are_not_one_box(tmp_path: Path, inside: str, kind: str, count: int) -> None:
    for stem in "ab":
        second = inside.replace("<xmin>5<", "<xmin>6<", 1)
        make_voc_image(tmp_path, stem, f"<object><name>cat</name>{second}</object>\n")
    opened = data.open(tmp_path)
    assert [len(sample) for sample in opened] == [count, count]
    assert [(problem.kind, problem.action) for problem in opened.problems] == [(kind, "noted")]


def test_ignore_of_coco_is_difficult_as_converters_write_it(tmp_path: Path) -> None:
    boxes = [coco_box(1, 1, 1, [5, 5, 25, 25], ignore=1), coco_box(2, 1, 1, [9, 9, 25, 25], ignore=0)]
    make_coco(tmp_path / "labels.json", [coco_image(1, "a.jpg")], boxes, CATEGORIES, tmp_path)
    (sample,) = data.open(tmp_path, bad_data="error")
    assert sample.difficult.tolist() == [True, False]
