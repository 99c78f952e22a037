"""What a run writes, and what it leaves alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from singleshot.detections import Detections
from singleshot.errors import ConfigError, ImageError
from singleshot.images import image_size, read_image, write_image
from singleshot.predict.runner import Failure, Prediction
from singleshot.predict.sinks import SINKS, OutputNames, open_sinks, read_json

NAMES = ("cat", "traffic/light")


def prediction(path: Path | None, boxes: list[list[float]]) -> Prediction:
    image = np.full((40, 60, 3), 90, dtype=np.uint8)
    count = len(boxes)
    found = Detections(
        np.reshape(boxes, (count, 4)),
        [0.5] * count,
        [index % 2 for index in range(count)],
        NAMES,
        (40, 60),
        path,
        (17, 3),
    )
    return Prediction(image, found)


def write(kinds: list[str], out: Path, results: list[Prediction | Failure]) -> None:
    paths = [r.detections.path if isinstance(r, Prediction) else r.path for r in results]
    with open_sinks(kinds, out, [path for path in paths if path], NAMES, (17, 3)) as sinks:
        for result in results:
            for sink in sinks:
                sink.fail(result) if isinstance(result, Failure) else sink.write(result)


def test_nothing_at_all(tmp_path: Path) -> None:
    write(list(SINKS), tmp_path, [])
    assert json.loads((tmp_path / "detections.json").read_text())["images"] == []
    assert json.loads((tmp_path / "coco.json").read_text()) == []
    assert (tmp_path / "detections.csv").read_text().splitlines() == ["path,class_id,class_name,score,x1,y1,x2,y2"]
    assert read_json(tmp_path / "detections.json") == []


def test_json_gives_the_detections_back(tmp_path: Path) -> None:
    results = [
        prediction(Path("a.jpg"), [[1, 2, 30, 20]]),
        prediction(Path("ü.jpg"), []),
        prediction(Path("c.jpg"), []),
    ]
    failure = Failure(Path("bad.jpg"), ImageError("bad.jpg: broken"))
    write(["json"], tmp_path / "new" / "folder", [results[0], failure, *results[1:]])
    path = tmp_path / "new" / "folder" / "detections.json"
    assert read_json(path) == [result.detections for result in results]
    assert json.loads(path.read_text())["failed"] == [{"path": "bad.jpg", "error": "bad.jpg: broken"}]
    assert len(path.read_text().splitlines()) == 5


def test_other_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_csv_has_a_row_per_object(tmp_path: Path) -> None:
    write(["csv"], tmp_path, [prediction(Path('odd,"name".jpg'), [[1, 2, 3, 4], [5, 6, 7, 8]])])
    with (tmp_path / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class_name"] for row in rows] == ["cat", "traffic/light"]
    assert rows[0]["path"] == 'odd,"name".jpg'
    assert float(rows[1]["y2"]) == 8


def test_coco_ids_are_numbers_where_names_are(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "000000000139.jpg", tmp_path / "x" / "dog.jpg", tmp_path / "y" / "000000000139.jpg"]
    write(["coco"], tmp_path, [prediction(path, [[1, 2, 3, 4]]) for path in paths])
    rows = json.loads((tmp_path / "coco.json").read_text())
    assert [row["image_id"] for row in rows] == [139, "x/dog.jpg", "y/000000000139.jpg"]
    assert [row["category_id"] for row in rows] == [17, 17, 17]


def test_equal_names_in_different_folders_stay_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "in" / name for name in ("a/1.jpg", "b/1.jpg", "b/1.png", "b/1.webp")]
    write(["images", "crops"], tmp_path / "out", [prediction(path, [[1, 2, 30, 20]]) for path in paths])
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert [name for name in written if name.startswith("images")] == [
        "images/a/1.jpg", "images/b/1.jpg", "images/b/1.png", "images/b/1.webp.jpg",
    ]  # fmt: skip
    assert [name for name in written if name.startswith("crops")] == [
        "crops/cat/a/1_1.jpg", "crops/cat/b/1.png_1.jpg", "crops/cat/b/1.webp_1.jpg", "crops/cat/b/1_1.jpg",
    ]  # fmt: skip
    assert image_size(tmp_path / "out/images/a/1.jpg") == (40, 60)


def test_crops_are_the_objects(tmp_path: Path) -> None:
    boxes = [[10, 5, 20, 25], [-5, -5, 8, 7], [3, 3, 3.2, 3.1], [50, 30, 99, 99]]
    write(["crops"], tmp_path, [prediction(tmp_path / "p.jpg", boxes)])
    sizes = {path.relative_to(tmp_path / "crops").as_posix(): image_size(path) for path in tmp_path.rglob("*.jpg")}
    assert sizes == {
        "cat/p_1.jpg": (20, 10), "traffic_light/p_2.jpg": (7, 8), "traffic_light/p_4.jpg": (10, 10),
    }  # fmt: skip


def test_the_photo_itself_is_never_overwritten(tmp_path: Path) -> None:
    photo = tmp_path / "images" / "a.png"
    photo.parent.mkdir()
    write_image(photo, np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(ConfigError, match="overwrite the photo"):
        write(["images"], tmp_path, [prediction(photo, [[1, 2, 3, 4]])])
    assert not read_image(photo).any()


def interrupted(out: Path) -> None:
    with open_sinks(["json", "csv", "coco"], out, [Path("b.jpg")], NAMES, ()) as sinks:
        sinks[0].write(prediction(Path("b.jpg"), [[1, 2, 3, 4]]))
        raise KeyboardInterrupt


def test_a_broken_run_leaves_the_last_good_files(tmp_path: Path) -> None:
    write(["json", "csv", "coco"], tmp_path, [prediction(Path("a.jpg"), [])])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_unknown_sinks_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose from images, json, csv, coco, crops"):
        write(["xml"], tmp_path, [])


def test_arrays_have_no_name_to_be_saved_under(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file name"):
        write(["images"], tmp_path, [prediction(None, [])])


def test_one_image_needs_no_folders() -> None:
    assert OutputNames([Path("far/away/a.jpg")]).picture(Path("far/away/a.jpg")) == Path("a.jpg")
