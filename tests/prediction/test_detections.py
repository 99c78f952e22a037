"""`Detections`: validation, indexing, filtering, and the formats that leave the house."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from singleshot.errors import ConfigError, ImageError, OutputError
from singleshot.images.read import read_image, write_image
from singleshot.prediction.converters import CSV_COLUMNS
from singleshot.prediction.detections import Detections
from singleshot.prediction.settings import check_score

NAMES = ("cat", "dog", "bird")


def three(**changes: Any) -> Detections:
    fields: dict[str, Any] = {
        "boxes_xyxy": [[0, 0, 10, 20], [5, 5, 6, 6], [1, 2, 3, 5]],
        "scores": [0.75, 0.5, 0.25],
        "class_ids": [2, 0, 2],
        "class_names": NAMES,
        "image_size_hw": (40, 50),
    }
    return Detections(**{**fields, **changes})


def test_empty() -> None:
    none = Detections.empty(NAMES, (40, 50))
    assert len(none) == 0
    assert none.boxes_xyxy.shape == (0, 4)
    assert none.boxes_xyxy.dtype == np.float32
    assert none.class_ids.dtype == np.int64
    assert list(none) == none.names == none.to_coco(1) == none.to_rows() == []
    assert len(none.filter(score=0.5, classes=["cat"], min_area=3)) == 0
    assert len(none[:3]) == len(none[[]]) == len(none[np.zeros(0, dtype=bool)]) == 0
    assert Detections.from_json(none.to_json()) == none
    assert none.plot(np.zeros((40, 50, 3), np.uint8)).shape == (40, 50, 3)
    assert len(none.to_supervision()) == 0
    assert "0 in 50 x 40" in repr(none)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [0.75, 0.5]}, r"boxes_xyxy must be \[2, 4\]"),
        ({"scores": [[0.75, 0.5, 0.25]]}, "scores must be"),
        ({"class_ids": [1]}, "class_ids must be"),
        ({"class_ids": [0, 1, 3]}, r"0\.\.2"),
        ({"class_ids": [0, 1, -1]}, r"0\.\.2"),
        ({"scores": [0.75, 0.5, 1.5]}, r"0\.\.1, not 0\.5\.\.1\.5"),
        ({"scores": [0.75, 0.5, np.nan]}, r"0\.\.1"),
        ({"boxes_xyxy": [[0, 0, 1, np.inf]] * 3}, "finite"),
        ({"category_ids": (1, 2)}, "category_ids"),
        ({"scores": [0.75, 0.5, 1.5], "path": "a.jpg"}, r"a\.jpg"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        three(**change)


def test_indexing_gives_detections() -> None:
    found = three()
    assert found[0].names == ["bird"]
    assert found[-1].scores.tolist() == [0.25]
    assert found[np.int64(1)].class_ids.tolist() == [0]
    assert found[1:].scores.tolist() == found[[1, 2]].scores.tolist() == [0.5, 0.25]
    assert found[found.scores > 0.4].names == ["bird", "cat"]
    assert found[found.class_ids == 2].image_size_hw == (40, 50)
    for wrong in (3, -4):
        with pytest.raises(IndexError):
            found[wrong]


def test_iteration_gives_one_object_after_the_other() -> None:
    first, *rest = three()
    assert (first.score, first.class_id, first.class_name) == (pytest.approx(0.75), 2, "bird")
    assert first.box_xyxy.tolist() == [0, 0, 10, 20]
    assert len(rest) == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [0.75, 0.5, 0.25]),
        ({"score": 0.5}, [0.75, 0.5]),
        ({"classes": "bird"}, [0.75, 0.25]),
        ({"classes": ["cat", 2]}, [0.75, 0.5, 0.25]),
        ({"classes": []}, []),
        ({"min_area": 6}, [0.75, 0.25]),
        ({"score": 0.3, "classes": {"bird"}, "min_area": 7}, [0.75]),
    ],
)
def test_filter(arguments: dict[str, Any], expected: list[float]) -> None:
    assert three().filter(**arguments).scores.tolist() == expected


def test_filter_names_the_nearest_class() -> None:
    with pytest.raises(ConfigError, match="did you mean 'bird'"):
        three().filter(classes=["brid"])
    with pytest.raises(ConfigError, match="did you mean 'cat'"):
        three().filter(classes="CAT")
    for wrong in (7, -1, None, 0.5):
        with pytest.raises(ConfigError, match="the classes are cat, dog, bird"):
            three().filter(classes=[wrong])  # type: ignore[list-item]
    assert three(class_names=("a", "b", "a")).filter(classes="a").class_ids.tolist() == [2, 0, 2]
    assert three().filter(classes=2).names == ["bird", "bird"]


@pytest.mark.parametrize(
    ("score", "message"),
    [(30, r"did you mean 0\.3"), (1.5, r"not 1\.5$"), (-1, "not -1"), ("x", "'x'"), (np.nan, "nan")],
)
def test_scores_that_make_no_sense(score: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_score(score)


def test_coco_rows() -> None:
    rows = three().to_coco(7)
    assert rows[2] == {"image_id": 7, "category_id": 2, "bbox": [1, 2, 2, 3], "score": 0.25}
    assert [row["category_id"] for row in three(category_ids=(17, 18, 16)).to_coco(7)] == [16, 17, 16]
    assert [row["category_id"] for row in three().to_coco(7, category_ids=(5, 6, 7))] == [7, 5, 7]


def test_coco_ids_may_be_numpys() -> None:
    rows = three().to_coco(np.int64(7), category_ids=np.array([5, 6, 7]))
    assert json.loads(json.dumps(rows))[0] == {
        "image_id": 7, "category_id": 7, "bbox": [0, 0, 10, 20], "score": 0.75,
    }  # fmt: skip
    assert json.dumps(three(category_ids=tuple(np.array([5, 6, 7]))).to_coco("a/b.jpg"))
    for ids in ([3], [1, 2, 3, 4], np.array([3])):
        with pytest.raises(ValueError, match="category_ids has"):
            three().to_coco(7, category_ids=ids)


def test_pycocotools_reads_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO()
    coco.dataset = {"images": [{"id": 7}], "categories": [{"id": k} for k in range(3)], "annotations": []}
    coco.createIndex()
    results = coco.loadRes(three().to_coco(7))
    assert [annotation["area"] for annotation in results.anns.values()] == [200, 1, 6]


def test_rows_follow_their_columns() -> None:
    row = dict(zip(CSV_COLUMNS, three(path="a/b.jpg").to_rows()[2], strict=True))
    assert row == {
        "path": "a/b.jpg", "class_id": 2, "class_name": "bird", "score": 0.25, "x1": 1, "y1": 2, "x2": 3, "y2": 5,
    }  # fmt: skip


def test_pandas_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frame:
        """As much of a DataFrame as is asked for."""

        def __init__(self, rows: list[tuple[Any, ...]], columns: list[str]) -> None:
            self.rows, self.columns = rows, columns

        def drop(self, columns: str) -> Frame:
            place = self.columns.index(columns)
            rows = [(*row[:place], *row[place + 1 :]) for row in self.rows]
            return Frame(rows, [name for name in self.columns if name != columns])

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        three().to_pandas()
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=Frame))
    assert three().to_pandas().columns == list(CSV_COLUMNS[1:])
    assert three().to_pandas().rows[2][:3] == (2, "bird", 0.25)
    assert three(path="a.jpg").to_pandas().rows[0][0] == "a.jpg"
    assert Detections.empty(NAMES).to_pandas().rows == []


boxes = arrays(np.float32, (5, 4), elements=st.floats(-1e4, 1e4, width=32))
scores = arrays(np.float32, 5, elements=st.floats(0, 1, width=32))


@given(boxes, scores)
def test_json_loses_nothing(boxes: np.ndarray, scores: np.ndarray) -> None:
    found = Detections(boxes, scores, [0, 1, 2, 1, 0], NAMES, (3, 4), Path("ä/b.jpg"), (3, 5, 9))
    assert Detections.from_json(found.to_json()) == found
    assert Detections.from_dict(found.to_dict(vocabulary=False), NAMES).names == found.names
    assert json.loads(found.to_json(indent=2))["detections"][1]["class_name"] == "dog"


@pytest.mark.parametrize("text", ["{}", '{"detections": 3}', "[]", "no json"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Detections.from_json(text)


def test_equality_and_type() -> None:
    assert three() == three()
    assert three() != three(scores=[0.75, 0.5, 0.24])
    assert three() != three(image_size_hw=(41, 50))
    assert three() != 3


def test_plot_draws_on_a_copy(tmp_path: Path) -> None:
    image = np.full((40, 50, 3), 128, np.uint8)
    write_image(tmp_path / "a.png", image)
    picture = three(path=tmp_path / "a.png").plot(out=tmp_path / "b.png")
    assert (picture != image).any()
    assert (image == 128).all()
    assert (tmp_path / "b.png").exists()
    np.testing.assert_array_equal(three().plot(image), picture)


def test_plot_needs_the_right_image() -> None:
    with pytest.raises(ImageError, match="pass it"):
        three().plot()
    with pytest.raises(ImageError, match="height, width"):
        three().plot(np.zeros((50, 40, 3), np.uint8))


def test_plot_remembers_an_array() -> None:
    image = np.full((40, 50, 3), 128, np.uint8)
    found = three(image=image)
    np.testing.assert_array_equal(found[:2].plot(), three()[:2].plot(image))
    assert found == three()
    assert "image" not in found.to_dict()


def test_plot_as_asked() -> None:
    image = np.full((40, 50, 3), 128, np.uint8)
    plain = three().plot(image, labels=False, line_width=1)
    assert (plain != image).any()
    assert (plain != image).sum() < (three().plot(image, line_width=3) != image).sum()
    for wrong in (0, -1, 1.5, "2", 10_000):
        with pytest.raises(ConfigError, match="line_width"):
            three().plot(image, line_width=wrong)  # type: ignore[arg-type]


def test_plot_never_writes_over_the_photo(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    write_image(photo, np.full((40, 50, 3), 128, np.uint8))
    (tmp_path / "link.png").symlink_to(photo)
    before = photo.read_bytes()
    for target in (photo, tmp_path / "link.png"):
        with pytest.raises(OutputError, match="is a source"):
            three(path=photo).plot(out=target)
        with pytest.raises(OutputError, match="is a source"):
            three().plot(photo, out=target)
    assert photo.read_bytes() == before
    for _ in range(2):
        three(path=photo).plot(out=tmp_path / "b.png")


def test_notebooks_show_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((40, 50, 3), 128, np.uint8)
    data = three(image=image)._repr_png_()
    assert data is not None
    np.testing.assert_array_equal(read_image(data), three().plot(image))
    assert three()._repr_png_() is None
    assert three(path="gone.jpg")._repr_png_() is None
    shown: list[Any] = []
    display = SimpleNamespace(display=shown.append, Image=lambda data: data)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    three(image=image).show()
    assert shown == [data]


def test_a_viewer_shows_the_picture_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = pytest.importorskip("PIL.ImageShow")
    image = np.full((40, 50, 3), 128, np.uint8)
    shown: list[Any] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(viewer, "show", lambda picture: shown.append(np.asarray(picture)) or True)
    three(image=image).show(labels=False)
    np.testing.assert_array_equal(shown[0], three().plot(image, labels=False))
    monkeypatch.setattr(viewer, "show", lambda picture: False)
    with pytest.raises(ImageError, match="out="):
        three(image=image).show()


def test_supervision_understands() -> None:
    supervision = pytest.importorskip("supervision")
    found = three()
    theirs = found.to_supervision()
    assert theirs["class_name"].tolist() == found.names
    same = supervision.Detections.from_yolo_nas(found)
    also = supervision.Detections(xyxy=found.xyxy, confidence=found.confidence, class_id=found.class_id)
    for other in (theirs, same, also):
        np.testing.assert_array_equal(other.xyxy, found.boxes_xyxy)
        np.testing.assert_array_equal(other.confidence, found.scores)
        np.testing.assert_array_equal(other.class_id, found.class_ids)
    image = np.zeros((40, 50, 3), np.uint8)
    assert supervision.LabelAnnotator().annotate(supervision.BoxAnnotator().annotate(image, theirs), theirs).any()


def test_importing_needs_neither_torch_nor_opencv() -> None:
    code = (
        "import sys, singleshot.prediction.detections as d; sys.exit(any(m in sys.modules for m in ('torch', 'cv2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("ids", [{0: 1, 1: 2, 2: 3}, "123", {1, 2, 3}])
def test_category_ids_without_an_order_are_refused(ids: Any) -> None:
    with pytest.raises(ValueError, match="must be a list of one id for each class"):
        three().to_coco(1, ids)


def test_ids_of_any_library_become_numbers() -> None:
    torch = pytest.importorskip("torch")
    rows = three().to_coco(torch.tensor(7), torch.arange(3))
    assert json.loads(json.dumps(rows))[0] == {"image_id": 7, "category_id": 2, "bbox": [0, 0, 10, 20], "score": 0.75}


def test_true_is_no_number() -> None:
    with pytest.raises(ConfigError, match=r"`score` must be a number in 0\.\.1, not True"):
        check_score(True)
    with pytest.raises(ConfigError, match="`line_width` must be a whole number"):
        three().plot(np.zeros((40, 50, 3), np.uint8), line_width=True)


def test_what_is_drawn_on_is_checked() -> None:
    with pytest.raises(ImageError, match="not int"):
        three().plot(3)  # type: ignore[arg-type]
