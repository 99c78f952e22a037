"""Sinks of other packages: one file and an entry point, and ``predict --save`` knows them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from singleshot.cli import app
from singleshot.core.postprocess import PaddedDetections
from singleshot.detector import Detector
from singleshot.errors import ConfigError
from singleshot.images.read import write_image
from singleshot.prediction.sinks import SINKS, check_kinds
from singleshot.runtime.base import TimedDetections

MODULE = '''
from singleshot.prediction.sinks.base import FileSink


class CountSink(FileSink):
    """A line for each image: its name and how many objects were found."""

    top = "counts.txt"

    def _text(self, prediction):
        return f"{prediction.frame.name} {len(prediction.detections)}\\n"
'''


class Nothing:
    name = "nothing"

    def predict(self, batch: np.ndarray) -> TimedDetections:
        none = np.zeros((len(batch), 0), np.float32)
        ids = np.zeros((len(batch), 0), np.int64)
        boxes, counts = np.zeros((len(batch), 0, 4), np.float32), np.zeros(len(batch), np.int64)
        return TimedDetections(PaddedDetections(boxes, none, ids, counts))


@pytest.fixture
def counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with a sink, a registry that has not looked for any yet, and two photos."""
    (tmp_path / "count_sink.py").write_text(MODULE)
    metadata = tmp_path / "count_sink-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: count-sink\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[singleshot.sinks]\ncounts = count_sink:CountSink\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(SINKS, "_entries", None)
    monkeypatch.setattr(SINKS, "_loaded", {})
    monkeypatch.setattr(Detector, "_backend", lambda *_: Nothing())
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("a.png", "b.png"):
        write_image(Path("photos", name), np.full((20, 30, 3), 90, np.uint8))
    yield
    sys.modules.pop("count_sink", None)


@pytest.mark.usefixtures("counts")
def test_a_sink_of_another_package_is_saved_to() -> None:
    arguments = ["predict", "photos", "--save", "counts,json", "--out", "found"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert Path("found/counts.txt").read_text() == "photos/a.png 0\nphotos/b.png 0\n"
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "earlier run" in again.output
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0


@pytest.mark.usefixtures("counts")
def test_unknown_names_are_told_what_there_is() -> None:
    result = CliRunner().invoke(app, ["predict", "photos", "--save", "count"])
    assert result.exit_code == 2
    assert (
        "--save count: unknown; choose from json, jsonl, csv, text, coco, voc-results, images, crops, counts"
        in result.output
    )


def test_without_the_package_there_is_none() -> None:
    with pytest.raises(ConfigError, match=r"`save='counts'`: unknown; choose .*images, crops$"):
        check_kinds(["counts"])


@pytest.mark.parametrize("name", list(SINKS))
def test_each_of_ours_says_what_it_writes(name: str) -> None:
    top = Path(SINKS.get(name).top)
    assert not top.is_absolute()
    assert len(top.parts) == 1
