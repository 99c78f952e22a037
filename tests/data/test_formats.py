"""The registry of data formats: light, and open to other packages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from singleshot import data
from singleshot.cli import app
from singleshot.data.convert import convert
from singleshot.data.formats.registry import FORMATS, known_format
from singleshot.errors import ConfigError, DataError
from singleshot.images.read import write_image
from singleshot.training.data_config import DataConfig

THEIRS = """
import json
from dataclasses import dataclass
from pathlib import Path

from singleshot.data.formats.registry import DataFormat, Writer
from singleshot.data.records import ImageRecord, Records


@dataclass(frozen=True)
class Layout:
    root: Path
    splits = ("train", "val")

    def read(self, split):
        records = Records(class_names=("nut", "shell"))
        file = self.root / "walnut.json"
        for name, part, objects in json.loads(file.read_text()):
            if split is None or part in split.split("+"):
                records.images.append(ImageRecord(self.root / "photos" / name, Path(name).stem, file))
                for label, *box in objects:
                    records.add_object(tuple(box), label, 0)
        return records


def write(folder, content):
    rows = [
        [content.names[sample.image_path], split or "train",
         [[content.class_map.names[k], *box] for k, box in zip(sample.class_ids, sample.boxes_xyxy.tolist())]]
        for split, samples in content.splits.items() for sample in samples
    ]
    (folder / "walnut.json").write_text(json.dumps(rows))


walnut = DataFormat(
    "Walnut",
    "a walnut.json beside photos/",
    lambda path: Layout(path) if (path / "walnut.json").is_file() else None,
    writer=Writer(write, "photos", frozenset({"walnut.json", "photos"}), losses=lambda crowds, difficult: ["no taste"]),
)
"""


@pytest.fixture
def walnuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set in a format of an installed package."""
    package = tmp_path / "site"
    info = package / "walnuts-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "walnut_format.py").write_text(THEIRS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: walnuts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[singleshot.data_formats]\nwalnut = walnut_format:walnut\n")
    monkeypatch.syspath_prepend(package)
    monkeypatch.setattr(FORMATS, "_entries", None)
    monkeypatch.setattr(FORMATS, "_loaded", {})
    root = tmp_path / "set"
    (root / "photos").mkdir(parents=True)
    rows = [("a.png", "train", [("nut", 1, 2, 9, 12)]), ("b.png", "val", [("shell", 0, 0, 4, 4), ("nut", 3, 3, 8, 8)])]
    (root / "walnut.json").write_text(json.dumps(rows))
    for seed, (name, *_) in enumerate(rows):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        write_image(root / "photos" / name, pixels)
    return root


def test_a_format_of_another_package(walnuts: Path, tmp_path: Path) -> None:
    opened = data.open(walnuts, "train")
    assert (opened.format, opened.splits, opened.class_map.names) == ("walnut", ("train", "val"), ("nut", "shell"))
    assert opened[0].boxes_xyxy.tolist() == [[1, 2, 9, 12]]
    result = CliRunner().invoke(app, ["data", "check", str(walnuts)])
    assert result.exit_code == 0, result.output
    assert "shell" in result.output
    for to in ("coco", "walnut"):
        result = CliRunner().invoke(app, ["data", "convert", str(walnuts), str(tmp_path / to), "--to", to])
        assert result.exit_code == 0, result.output
        assert ("no taste" in result.output) == (to == "walnut")
        again = data.open(tmp_path / to, "val")
        assert again.format == to
        assert again[0].boxes_xyxy.tolist() == [[0, 0, 4, 4], [3, 3, 8, 8]]
    convert(walnuts, tmp_path / "walnut", "walnut", overwrite=True)  # its files are known as written
    assert DataConfig(path=str(walnuts), format="walnut").format == "walnut"
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"Walnut: a walnut\.json beside photos/"):
        data.open(tmp_path / "none")


def test_ours_come_first_and_every_one_is_whole() -> None:
    assert FORMATS.names()[:7] == ("labelme", "coco", "yolo", "voc", "csv", "rec", "kitti")
    for name in FORMATS:
        assert name in FORMATS.get(name).title.lower()
        assert FORMATS.get(name).find(Path("/nowhere/at all.xyz")) is None


def test_names_are_checked_without_importing_a_format() -> None:
    code = (
        "import sys; from singleshot.data.formats.registry import known_format; known_format('voc');"
        "print([m for m in sys.modules if m.rpartition('.')[2] in ('coco', 'csv_table', 'labelme', 'voc', 'yolo')])"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
    assert known_format("auto") == "auto"
    with pytest.raises(DataError, match="unknown data format 'pascal': use auto, labelme, coco, yolo, voc, csv"):
        known_format("pascal")
    with pytest.raises((ValueError, ConfigError), match="unknown data format 'pascal'"):
        DataConfig(path="x", format="pascal")
