"""Tables of boxes as spreadsheets, labelling tools and other trainers write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_makers import make_image

from singleshot import data
from singleshot.errors import DataError

BOX = (15, 10, 45, 30)  # of 60 x 40 pixels
HEADER = "filename,class,xmin,ymin,xmax,ymax\n"
ROW = "a.jpg,cat,15,10,45,30\n"


def read(root: Path, text: str | bytes, name: str = "labels.csv") -> data.DetectionDataset:
    make_image(root / "a.jpg")
    (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return data.open(root, bad_data="error")


def boxes(opened: data.DetectionDataset) -> list[tuple[int, ...]]:
    return [tuple(round(value) for value in box) for sample in opened for box in sample.boxes_xyxy.tolist()]


@pytest.mark.parametrize(
    "text",
    [
        HEADER + ROW,
        (HEADER + ROW).replace(",", ";"),
        (HEADER + ROW).replace(",", "\t"),
        (HEADER + ROW).replace(",", "|"),
        (HEADER + ROW).replace("\n", "\r\n"),
        (HEADER + ROW).replace("\n", "\r"),
        "\n\n" + HEADER + "\n" + ROW,
        (HEADER + ROW).encode("utf-8-sig"),
        (HEADER + ROW).encode("utf-16"),
        "filename;class;xmin;ymin;xmax;ymax\na.jpg;cat;15,0;10,0;45,0;30,0\n",
        '"FileName" , "Class Name","X Min","Y-Min","x_max","YMax"\n' + ROW,
        "image,label,x1,y1,x2,y2\n" + ROW,
        "image_path,label,left,top,right,bottom\n" + ROW,
        "image,xmin,ymin,xmax,ymax,label\na.jpg,15,10,45,30,cat\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,60,40,cat,15,10,45,30\n",
        "file_name,category,x,y,w,h\na.jpg,cat,15,10,30,20\n",
        "file,name,bbox_x,bbox_y,bbox_width,bbox_height\na.jpg,cat,15,10,30,20\n",
        "path,class,x_center,y_center,width,height\na.jpg,cat,30,20,30,20\n",
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\ncat,15,10,30,20,a.jpg,60,40",
        "a.jpg,15,10,45,30,cat\n",
        "cat,15,10,30,20,a.jpg,60,40\n",
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\na,x,cat,1,0.25,0.75,0.25,0.75\n",
        "UNASSIGNED,gs://bucket/set/a.jpg,cat,0.25,0.25,,,0.75,0.75,,\n",
    ],
)
def test_every_way_to_write_a_table(tmp_path: Path, text: str | bytes) -> None:
    opened = read(tmp_path, text)
    assert (opened.format, opened.class_map.names, boxes(opened)) == ("csv", ("cat",), [BOX])
    assert {problem.kind for problem in opened.problems} <= {"fractions"}


@pytest.mark.parametrize(
    "name",
    [
        *("a.jpg", "images\\a.jpg", "C:\\Users\\me\\images\\a.jpg", "/content/set/images/a.jpg", "../images/a.jpg"),
        *("gs://bucket/images/a.jpg", "https://host/data/images/a.jpg", "./images/a.jpg"),
    ],
)
@pytest.mark.parametrize("place", ["labels.csv", "data/labels.csv"])
def test_images_are_found_by_the_end_of_their_path(tmp_path: Path, name: str, place: str) -> None:
    make_image(tmp_path / "images" / "a.jpg")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(HEADER + ROW.replace("a.jpg", name))
    for path in (tmp_path, tmp_path / place):
        assert boxes(data.open(path, bad_data="error")) == [BOX]


def test_a_space_as_percent_20_and_images_deep_below(tmp_path: Path) -> None:
    make_image(tmp_path / "pictures" / "day1" / "my photo.jpg")
    (tmp_path / "t.csv").write_text(HEADER + ROW.replace("a.jpg", "my%20photo.jpg"))
    assert boxes(data.open(tmp_path, bad_data="error")) == [BOX]


def test_an_empty_line_of_retinanet_is_background(tmp_path: Path) -> None:
    make_image(tmp_path / "b.jpg")
    opened = read(tmp_path, "a.jpg,15,10,45,30,cat\nb.jpg,,,,,\n")
    assert [len(sample) for sample in opened] == [1, 0]


def test_retinanets_class_list_gives_the_order(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("dog,0\ncat,1\n")
    opened = read(tmp_path, "a.jpg,15,10,45,30,cat\n")
    assert opened.class_map.names == ("dog", "cat")


def test_automl_rows_say_their_split(tmp_path: Path) -> None:
    rows = []
    for index, split in enumerate(("TRAIN", "TRAIN", "VALIDATION", "TEST")):
        make_image(tmp_path / f"{index}.jpg")
        rows.append(f"{split},gs://bucket/{index}.jpg,cat,0.1,0.1,,,0.5,0.5,,\n")
    (tmp_path / "export.csv").write_text("".join(rows))
    assert data.splits(tmp_path) == ("train", "val", "test")
    assert [len(data.open(tmp_path, name)) for name in ("train", "val", "test")] == [2, 1, 1]


@pytest.mark.parametrize("names", [("train.csv", "test.csv"), ("x-train-export.csv", "x-test-export.csv")])
def test_tables_of_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        make_image(tmp_path / f"{name}.jpg")
        (tmp_path / name).write_text(HEADER + ROW.replace("a.jpg", f"{name}.jpg"))
    assert len(data.open(tmp_path, "train")) == len(data.open(tmp_path, "test")) == 1


def test_roboflow_tables_in_split_folders(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        make_image(tmp_path / split / f"{split}.jpg")
        (tmp_path / split / "_annotations.csv").write_text(HEADER + ROW.replace("a.jpg", f"{split}.jpg"))
    assert data.splits(tmp_path) == ("train", "valid")
    assert boxes(data.open(tmp_path, "val", bad_data="error")) == [BOX]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"l\.csv: the table is empty"),
        ("filename,class,xmin,ymin,xmax\na.jpg,cat,1,2,3\n", r"l\.csv:1: the header lacks ymax; it has: filename"),
        ('filename,class,xmin,ymin,xmax,"ymax\ra.jpg,"x, y",1,2,8,9\n', r"l\.csv:1: the header has a line break"),
        ('filename,class,xmin,ymin,xmax,"ymax\na.jpg,"x, y",1,2,8,9\n', r"l\.csv:1: the header has a line break"),
        (HEADER.replace("class", "c" * 200_000) + ROW, r"l\.csv:1: "),
        (HEADER + ROW + f'"{"x" * 200_000}"', r"l\.csv:\d: not valid csv"),
        ("a,b\n1,2\n", r"l\.csv:1: the header lacks filename, class, xmin"),
    ],
)
def test_a_table_that_cannot_be_read_names_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "l.csv").write_bytes(text.encode())
    with pytest.raises(DataError, match=words):
        data.open(tmp_path / "l.csv")


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "/", "..", "a\0.jpg"])
def test_impossible_names_are_problems_of_their_lines(tmp_path: Path, name: str) -> None:
    make_image(tmp_path / "a.jpg")
    (tmp_path / "l.csv").write_text(HEADER + ROW + ROW.replace("a.jpg", name))
    opened = data.open(tmp_path)
    assert boxes(opened) == [BOX]
    assert [(p.kind, p.line) for p in opened.problems] == [("bad-record", 3)]


def test_tables_of_fractions_and_of_pixels_do_not_mix(tmp_path: Path) -> None:
    make_image(tmp_path / "a.jpg")
    (tmp_path / "train.csv").write_text(HEADER + ROW)
    (tmp_path / "test.csv").write_text(HEADER + "a.jpg,cat,0.1,0.1,0.5,0.5\n")
    with pytest.raises(DataError, match="some tables hold fractions"):
        data.open(tmp_path)


OPEN_IMAGES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf,id,ClassName\n"


def open_images(root: Path, *, selected: bool) -> None:
    """The tables and folders that jetson-inference's downloader leaves, or those of Open Images alone."""
    for number, split in enumerate(("train", "validation", "test")):
        make_image(root / split / f"000{number}.jpg")
        row = f"000{number},xclick,/m/014j1m,1,0.1,0.5,0.2,0.75,0"
        (root / f"{split}-annotations-bbox.csv").write_text(
            f"{OPEN_IMAGES.removesuffix(',id,ClassName' + chr(10))}\n{row}\n"
        )
        if selected:
            (root / f"sub-{split}-annotations-bbox.csv").write_text(f"{OPEN_IMAGES}{row},/m/014j1m,Apple\n")
    (root / "class-descriptions-boxable.csv").write_text("LabelName,DisplayName\n/m/014j1m,Apple\n")


@pytest.mark.parametrize("selected", [True, False])
def test_open_images(tmp_path: Path, selected: bool) -> None:
    open_images(tmp_path, selected=selected)
    train, held_out = data.open_training(tmp_path)
    assert held_out is not None
    assert [str(s.image_path.relative_to(tmp_path)) for s in (*train, *held_out)] == [
        "train/0000.jpg",
        "validation/0001.jpg",
    ]
    assert train.class_map.names == ("Apple",)
    np.testing.assert_allclose(train[0].boxes_xyxy, [[6, 8, 30, 30]], atol=1e-4)
    passed = [p for p in data.open(tmp_path).problems if p.kind == "other-settings"]
    assert [p.file.name for p in passed] == [
        f"{s}-annotations-bbox.csv" for s in ("test", "train", "validation")
    ] * selected


MODEL_MAKER = "set,path,label,x_min,y_min,x_max,y_min,x_max,y_max,x_min,y_max\n"


@pytest.mark.parametrize("header", ["", MODEL_MAKER])
def test_model_maker(tmp_path: Path, header: str) -> None:
    for name in "abcd":
        make_image(tmp_path / "images" / f"{name}.jpg")
    rows = [
        "TRAIN,gs://bucket/images/a.jpg,cat,0.1,0.2,,,0.5,0.75,,",
        "VALIDATION,images/b.jpg,dog,0.1,0.2,0.5,0.2,0.5,0.75,0.1,0.75",
        "TEST,images/c.jpg,,,,,,,,,",
        "UNASSIGNED,images/d.jpg,cat,0.1,0.2,,,0.5,0.75,,",
    ]
    (tmp_path / "set.csv").write_text(header + "\n".join(rows))
    assert data.splits(tmp_path) == ("train", "val", "test")
    for split in ("train", "val"):
        (sample,) = data.open(tmp_path, split)
        np.testing.assert_allclose(sample.boxes_xyxy, [[6, 8, 30, 30]], atol=1e-4)
    whole = data.open(tmp_path)
    assert (len(whole), whole.class_map.names) == (4, ("cat", "dog"))
    assert ["1 images are in no split" in p.message for p in whole.problems if p.kind == "no-split"] == [True]


def test_lines_that_are_all_unassigned_are_divided(tmp_path: Path) -> None:
    for number in range(6):
        make_image(tmp_path / f"{number}.jpg")
    lines = [f"UNASSIGNED,{number}.jpg,cat,0.1,0.2,,,0.5,0.75,,\n" for number in range(6)]
    (tmp_path / "set.csv").write_text("".join(lines))
    assert data.splits(tmp_path) == ()
    assert sum(len(part or ()) for part in data.open_training(tmp_path)) == 6


@pytest.mark.parametrize("name", ["classes.csv", "class-descriptions-boxable.csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_of_classes_with_any_end_of_line(name: str, end: str, tmp_path: Path) -> None:
    keys = {"classes.csv": ("cat,1", "dog,0"), "class-descriptions-boxable.csv": ("/m/1,cat", "/m/2,dog")}[name]
    (tmp_path / name).write_bytes((end.join(keys) + end).encode())
    assert set(read(tmp_path, HEADER + ROW).class_map.names) >= {"cat"}


def test_a_damaged_list_of_classes_is_named(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(f'"{"x" * 200_000}",0\n')
    with pytest.raises(DataError, match=r"classes\.csv:1: not valid csv"):
        read(tmp_path, HEADER + ROW)
