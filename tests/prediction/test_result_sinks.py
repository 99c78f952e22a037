"""Sinks in the forms of other programs: the VOC server, ssd.pytorch."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from singleshot.errors import ConfigError
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Frame, Prediction
from singleshot.prediction.sinks import TrueObject, Truth, open_sinks, voc_results

NAMES = ("cat", "traffic/light", "dog")


def prediction(path: Path, *found: tuple[list[float], float, int]) -> Prediction:
    boxes = np.reshape([box for box, _, _ in found], (len(found), 4))
    scores, ids = [score for _, score, _ in found], [class_id for _, _, class_id in found]
    detections = Detections(boxes, scores, ids, NAMES, (40, 60), path)
    return Prediction(Frame(np.zeros((40, 60, 3), np.uint8), str(path), is_file=True), detections)


def write(kind: str, out: Path, split: str, results: list[Prediction], truth: Truth | None = None) -> None:
    images = [Path(result.frame.name) for result in results]
    with open_sinks([kind], out, images, NAMES, (), split=split, truth=truth) as (sink, *_):
        for result in results:
            sink.write(result)


@pytest.mark.parametrize(
    ("split", "name"),
    [
        ("", "comp4_det_test_cat.txt"),
        ("test", "comp4_det_test_cat.txt"),
        ("2012_test", "comp4_det_test_cat.txt"),
        ("2007_trainval+2012_trainval", "comp4_det_trainval_cat.txt"),
        ("../val", "comp4_det__val_cat.txt"),
    ],
)
def test_files_of_voc_results_are_called_by_split_and_class(tmp_path: Path, split: str, name: str) -> None:
    write("voc-results", tmp_path, split, [])
    files = sorted(path.name for path in (tmp_path / "voc-results").iterdir())
    assert name in files
    assert len(files) == 3
    assert not any(path.read_text() for path in (tmp_path / "voc-results").iterdir())


def test_rows_of_voc_results_are_in_pixels_from_one(tmp_path: Path) -> None:
    results = [
        prediction(Path("000001.jpg"), ([0, 0, 60, 40], 0.9, 0), ([9.5, 4.25, 20, 30], 0.25, 2)),
        prediction(Path("000002.jpg")),
        prediction(Path("000003.jpg"), ([1, 2, 3, 4], 0.125, 0)),
    ]
    write("voc-results", tmp_path, "test", results)
    folder = tmp_path / "voc-results"
    assert (folder / "comp4_det_test_cat.txt").read_text().splitlines() == [
        "000001 0.9 1.000 1.000 60.000 40.000",
        "000003 0.125 2.000 3.000 3.000 4.000",
    ]
    assert (folder / "comp4_det_test_dog.txt").read_text() == "000001 0.25 10.500 5.250 20.000 30.000\n"


def test_images_of_one_name_stay_apart_and_a_space_is_refused(tmp_path: Path) -> None:
    box = ([1.0, 2.0, 3.0, 4.0], 0.5, 0)
    write("voc-results", tmp_path / "a", "", [prediction(Path("x/1.jpg"), box), prediction(Path("y/1.jpg"), box)])
    lines = (tmp_path / "a/voc-results/comp4_det_test_cat.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "y/1"]
    with pytest.raises(ConfigError, match="'my cat' has a space"):
        write("voc-results", tmp_path / "b", "", [prediction(Path("my cat.jpg"), box)])


def test_a_full_disk_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.txt"
    voc_results._append(file, b"one\n")
    opened = Path.open

    class Full:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.inner.close()  # type: ignore[attr-defined]

        def write(self, data: memoryview) -> int:
            if len(data) < 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self.inner.write(data[:2]))  # type: ignore[attr-defined]

    monkeypatch.setattr(Path, "open", lambda self, *how, **more: Full(opened(self, *how, **more)))
    with pytest.raises(OSError, match="No space"):
        voc_results._append(file, b"two\n")
    monkeypatch.undo()
    assert file.read_bytes() == b"one\n"


def test_text_has_what_is_there_beside_what_was_found(tmp_path: Path) -> None:
    truth = {Path("p/a.jpg"): [TrueObject("cat", (1, 2, 30, 40))], Path("p/b.jpg"): []}
    results = [prediction(Path("p/a.jpg"), ([1, 2, 29.5, 40], 0.75, 0)), prediction(Path("p/b.jpg"))]
    write("text", tmp_path / "a", "test", results, truth)
    assert (tmp_path / "a/predictions.txt").read_text().splitlines() == [
        "GROUND TRUTH FOR: a",
        "label: 1.00 || 2.00 || 30.00 || 40.00 || cat",
        "PREDICTIONS:",
        "1 label: cat score: 0.750000 1.00 || 2.00 || 29.50 || 40.00",
        "",
        "GROUND TRUTH FOR: b",
        "PREDICTIONS:",
        "",
    ]
    write("text", tmp_path / "b", "", results)
    assert (tmp_path / "b/predictions.txt").read_text().splitlines()[:2] == ["IMAGE: a", "PREDICTIONS:"]


@pytest.mark.parametrize("failures", [1, 9])
def test_a_parquet_table_has_all_rows_or_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    tables = pytest.importorskip("pyarrow.parquet")
    from singleshot.prediction.sinks import parquet

    results = [prediction(Path(f"{number}.jpg"), ([0, 0, 10, 10], 0.9, 0)) for number in range(3)]
    write_table, left = tables.ParquetWriter.write_table, [failures]

    def sometimes(writer: object, table: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_table(writer, table)

    monkeypatch.setattr(parquet, "_ROWS", 1)
    monkeypatch.setattr(tables.ParquetWriter, "write_table", sometimes)
    with pytest.raises(OSError, match="No space left"):
        write("parquet", tmp_path, "", results)
    rows = [tables.read_table(path).num_rows for path in tmp_path.glob("*.parquet")]
    assert rows == ([1] if failures == 1 else [])  # the first image, whose row was kept
    assert not list(tmp_path.glob("*.part"))
