"""What a run writes, and what it leaves alone."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from singleshot.errors import ConfigError, ImageError, OutputError
from singleshot.images.read import image_size, read_image, write_image
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Failure, Frame, Prediction
from singleshot.prediction.output_names import OutputNames
from singleshot.prediction.sinks import SINKS, open_sinks
from singleshot.prediction.sinks.json import read_json

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
    return Prediction(Frame(image, str(path or ""), is_file=path is not None), found)


def tracked(result: Prediction, kinds: list[str]) -> Prediction:
    """The MOT file wants tracks."""
    ids = np.arange(1, len(result.detections) + 1) if "mot" in kinds else None
    return replace(result, detections=replace(result.detections, track_ids=ids))


def write(kinds: list[str], out: Path, results: list[Prediction | Failure], overwrite: bool = False) -> None:
    paths = [r.detections.path if isinstance(r, Prediction) else r.path for r in results]
    with open_sinks(kinds, out, [path for path in paths if path], NAMES, (17, 3), overwrite=overwrite) as sinks:
        for result in results:
            for sink in sinks:
                sink.fail(result) if isinstance(result, Failure) else sink.write(tracked(result, kinds))


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


@pytest.mark.parametrize("kind", list(SINKS))
def test_no_sink_writes_over_a_file_that_is_there(tmp_path: Path, kind: str) -> None:
    top = tmp_path / SINKS.get(kind).top
    mine = top if "." in top.name else top / "mine.jpg"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(OutputError, match=rf"{top.name}: exists already: .*`out`.*`overwrite=True`"):
        write([kind], tmp_path, [prediction(tmp_path / "in/a.jpg", [[1, 2, 30, 20]])])
    assert mine.read_text() == "mine"
    write([kind], tmp_path, [prediction(tmp_path / "in/a.jpg", [[1, 2, 30, 20]])], overwrite=True)
    assert (mine.read_bytes() == b"mine") is (mine != top)


@pytest.mark.parametrize("kind", list(SINKS))
def test_results_belong_to_one_run(tmp_path: Path, kind: str) -> None:
    first, second = (prediction(tmp_path / "in" / name, [[1, 2, 30, 20]]) for name in ("a.jpg", "b.jpg"))
    write([kind, "json"], tmp_path / "out", [first])
    with pytest.raises(OutputError, match="earlier run"):
        write([kind], tmp_path / "out", [second])
    write([kind], tmp_path / "out", [second], overwrite=True)
    text = "".join(f"{path} {path.read_bytes()!r}" for path in (tmp_path / "out").rglob("*.*") if path.is_file())
    assert re.search(r"b\.jpg|b_1\.jpg|IMAGE: b|'b 0\.5 |images\.(mp4|txt)|crossings\.csv", text)
    assert "a.jpg" not in text
    assert "a_1.jpg" not in text


def test_links_in_the_folder_are_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "mine.json").write_text("mine")
    (tmp_path / "out/detections.json").symlink_to(tmp_path / "mine.json")
    write(["json"], tmp_path / "out", [prediction(Path("a.jpg"), [])], overwrite=True)
    assert (tmp_path / "mine.json").read_text() == "mine"
    assert len(read_json(tmp_path / "out/detections.json")) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_photo_itself_is_never_overwritten(tmp_path: Path, overwrite: bool) -> None:
    photo = tmp_path / "images" / "a.png"
    photo.parent.mkdir()
    write_image(photo, np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(OutputError, match="images"):
        write(["images"], tmp_path, [prediction(photo, [[1, 2, 3, 4]])], overwrite=overwrite)
    assert not read_image(photo).any()


def interrupted(out: Path) -> None:
    with open_sinks(list(SINKS), out, [Path("b.jpg"), Path("c.jpg")], NAMES, ()) as sinks:
        for sink in sinks:
            sink.write(tracked(prediction(Path("b.jpg"), [[1, 2, 3, 4]]), ["mot"]))
        raise KeyboardInterrupt


def test_an_interrupted_run_keeps_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    document = json.loads((tmp_path / "detections.json").read_text())
    assert (len(document["images"]), document["complete"]) == (1, False)
    assert len(read_json(tmp_path / "detections.jsonl")) == 1
    assert len(json.loads((tmp_path / "coco.json").read_text())) == 1
    assert len((tmp_path / "detections.csv").read_text().splitlines()) == 2
    assert not [path for path in tmp_path.rglob("*") if "tmp" in path.name]


def test_numbers_are_whole_after_every_image(tmp_path: Path) -> None:
    paths = [Path(f"{number}.jpg") for number in range(3)]
    with open_sinks(["json", "jsonl", "coco", "csv"], tmp_path, paths, NAMES, ()) as sinks:
        for done, path in enumerate(paths, 1):
            for sink in sinks:
                sink.write(prediction(path, [[1, 2, 3, 4]]))
            assert [found.path for found in read_json(tmp_path / "detections.json")] == paths[:done]
            assert len(read_json(tmp_path / "detections.jsonl")) == done
            assert len(json.loads((tmp_path / "coco.json").read_text())) == done
            assert len((tmp_path / "detections.csv").read_text().splitlines()) == done + 1
            assert not json.loads((tmp_path / "detections.json").read_text())["complete"]
    assert json.loads((tmp_path / "detections.json").read_text())["complete"]


class FullDisk:
    """A file on a disk that has ``room`` bytes left for it, which takes what fits before it says so."""

    def __init__(self, file: Any, room: int) -> None:
        self._file = file
        self.room = room

    def write(self, data: memoryview) -> int:
        free = self.room - self._file.tell()
        if free <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self._file.write(data[:free]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "coco"])
@pytest.mark.parametrize("spare", [0, 1, 40])
def test_a_full_disk_costs_what_does_not_fit(tmp_path: Path, kind: str, spare: int) -> None:
    paths = [Path(f"{number}.jpg") for number in range(4)]
    outcome = []
    with suppress(OSError), open_sinks([kind], tmp_path, paths, NAMES, ()) as (sink, *_):
        sink.write(prediction(paths[0], [[1, 2, 3, 4]]))
        disk = sink.sink._file = FullDisk(sink.sink._file, (tmp_path / SINKS.get(kind).top).stat().st_size + spare)  # type: ignore[attr-defined]
        for path in paths[1:3]:
            with pytest.raises(OSError, match=rf"{SINKS.get(kind).top}"):
                sink.write(prediction(path, [[1, 2, 3, 4]] * 5))
            outcome.append((tmp_path / SINKS.get(kind).top).read_text())
        disk.room = 10**6
        sink.write(prediction(paths[3], [[1, 2, 3, 4]]))
    text = (tmp_path / SINKS.get(kind).top).read_text()
    assert outcome[0] == outcome[1]
    if kind in ("json", "jsonl"):
        assert [found.path for found in read_json(tmp_path / SINKS.get(kind).top)] == [paths[0], paths[3]]
    elif kind == "coco":
        assert [row["image_id"] for row in json.loads(text)] == [0, 3]
    else:
        assert [line.partition(",")[0] for line in text.splitlines()] == ["path", "0.jpg", "3.jpg"]


def test_a_disk_that_is_full_at_the_end_leaves_a_valid_document(tmp_path: Path) -> None:
    failure = Failure(Path("bad.jpg"), ImageError("x" * 500))
    opened = open_sinks(["json"], tmp_path, [Path("a.jpg"), Path("bad.jpg")], NAMES, ())
    (sink, *_) = opened.__enter__()
    sink.write(prediction(Path("a.jpg"), [[1, 2, 3, 4]]))
    sink.fail(failure)
    sink.sink._file = FullDisk(sink.sink._file, (tmp_path / "detections.json").stat().st_size)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match=r"detections\.json"):
        opened.__exit__(None, None, None)
    document = json.loads((tmp_path / "detections.json").read_text())
    assert (len(document["images"]), document["failed"], document["complete"]) == (1, [], False)


def test_names_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    path = Path(os.fsdecode(b"caf\xe9.jpg"))
    failure = Failure(path, ImageError(f"{path}: broken"))
    write(["json", "jsonl", "csv", "coco"], tmp_path, [prediction(path, [[1, 2, 3, 4]]), failure])
    for name in ("detections.json", "detections.jsonl"):
        assert [os.fsencode(str(found.path)) for found in read_json(tmp_path / name)] == [b"caf\xe9.jpg"]
    assert json.loads((tmp_path / "detections.json").read_text())["failed"][0]["path"] == str(path)
    assert "caf\\udce9.jpg" in (tmp_path / "detections.csv").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "coco.json").read_text())[0]["image_id"] == str(path)


def test_lines_hold_failures_and_odd_names(tmp_path: Path) -> None:
    odd = prediction(Path("line\u2028and\nnewline.jpg"), [[1, 2, 3, 4]])
    write(["jsonl", "json"], tmp_path, [odd, Failure(Path("bad.jpg"), ImageError("bad.jpg: broken"))])
    head, first, second = map(json.loads, (tmp_path / "detections.jsonl").read_text(encoding="utf-8").split("\n")[:3])
    assert head["class_names"] == list(NAMES)
    assert first["detections"][0]["class_name"] == "cat"
    assert second == {"path": "bad.jpg", "error": "bad.jpg: broken"}
    for name in ("detections.json", "detections.jsonl"):
        assert read_json(tmp_path / name) == [odd.detections]


@pytest.mark.parametrize("kind", ["images", "crops"])
def test_pictures_too_wide_for_jpeg_are_png(tmp_path: Path, kind: str) -> None:
    wide = np.zeros((2, 65_501, 3), dtype=np.uint8)
    found = Detections([[0, 0, 65_501, 2]], [0.5], [0], NAMES, (2, 65_501), tmp_path / "in/w.jpg")
    notes: list[str] = []
    with open_sinks([kind], tmp_path, [tmp_path / "in/w.jpg"], NAMES, (), note=notes.append) as (sink, *_):
        sink.write(Prediction(Frame(wide, str(found.path)), found))
    (written,) = tmp_path.rglob("*.png")
    assert image_size(written) == (2, 65_501)
    assert str(written) in notes[0]
    assert not list(tmp_path.rglob("*.jpg"))


def test_classes_cannot_lead_out(tmp_path: Path) -> None:
    names = ("..", "", "a/b", "a_b", "/etc", "x" * 300, "dot.")
    found = Detections([[1, 2, 30, 20]] * 7, [0.5] * 7, range(7), names, (40, 60), tmp_path / "in/p.jpg")
    with open_sinks(["crops"], tmp_path / "out", [tmp_path / "in/p.jpg"], names, ()) as (sink, *_):
        sink.write(Prediction(Frame(np.zeros((40, 60, 3), np.uint8), str(found.path)), found))
    crops = list(tmp_path.rglob("*.jpg"))
    assert len(crops) == 7
    assert {path.parent.parent for path in crops} == {tmp_path / "out" / "crops"}
    assert len({path.parent for path in crops}) == 7


def test_pictures_are_drawn_as_asked(tmp_path: Path) -> None:
    result = prediction(tmp_path / "in" / "a.png", [[10, 15, 50, 35]])
    with open_sinks(["images"], tmp_path / "a", [tmp_path / "in/a.png"], NAMES, (), labels=False, line_width=9) as (
        sink,
        *_,
    ):
        sink.write(result)
    drawn = read_image(tmp_path / "a/images/a.png")
    np.testing.assert_array_equal(drawn, result.detections.plot(result.frame.pixels, labels=False, line_width=9))
    assert (drawn != result.detections.plot(result.frame.pixels)).any()


def test_nothing_to_save_makes_no_folder(tmp_path: Path) -> None:
    with open_sinks([], tmp_path / "out", [Path("a.jpg")], NAMES, ()) as sinks:
        assert sinks == []
    assert not (tmp_path / "out").exists()


def test_unknown_sinks_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose from json, jsonl, csv, text, coco, voc-results, images, crops"):
        write(["xml"], tmp_path, [])


def test_arrays_have_no_name_to_be_saved_under(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file name"):
        write(["images"], tmp_path, [prediction(None, [])])


def test_one_image_needs_no_folders() -> None:
    assert OutputNames([Path("far/away/a.jpg")]).picture(Path("far/away/a.jpg")) == Path("a.jpg")
