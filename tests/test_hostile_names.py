"""Names from strangers, in every page, table and message: text, and nothing else."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from singleshot import Detections
from singleshot.cli import app
from singleshot.core.files import write_atomically
from singleshot.core.yaml_files import read_mapping
from singleshot.data.formats.writers import voc_xml
from singleshot.data.opening import open as open_data
from singleshot.errors import ConfigError, DataError, SingleshotError
from singleshot.prediction.frames import Frame, Prediction
from singleshot.prediction.sinks import open_sinks

CLASSES = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(2)</script>',
    "\x1b[31mred\x1b[2J\x07",
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "gpj\u202eexe",
    "{{7*7}}",
    "../../outside",
)
FILES = ("<svg onload=alert(3)>", "=1+1", "-rf", "\x1b]0;title\x07", "two\nlines", "a&b")
COORDINATES = "<xmin>4</xmin><ymin>4</ymin><xmax>40</xmax><ymax>40</ymax>"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO data set: JSON holds any name."""
    from json import dumps

    root = tmp_path_factory.mktemp("hostile") / "data"
    names = [f"{name}.png" for name in FILES]
    rng = np.random.default_rng(0)
    for name in names:
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))[1].tobytes())
    images = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names)]
    labels = [
        {"id": i, "image_id": i % len(names), "category_id": i, "bbox": [4, 4, 30, 30], "area": 900, "iscrowd": 0}
        for i in range(len(CLASSES))
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    text = dumps({"images": images, "annotations": labels, "categories": categories})
    write_atomically(root / "annotations" / "instances_train.json", text)
    return root


class Elements(HTMLParser):
    """Elements of a page that names could have made."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An attribute of an event, or a picture from elsewhere."""
        self.found += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]
        self.found += [f"{tag} src={value}" for name, value in attrs if name == "src" and value == "x"]

    def handle_data(self, data: str) -> None:
        """What runs."""
        if self.cdata_elem == "script" and re.search(r"alert\(\d\)", data) and "</" not in data:
            self.found.append(data)


def is_harmless(output: str) -> bool:
    """Whether a terminal shows all of a text, and does nothing else with it."""
    return not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", output)


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        (["data", "check", "{data}"], (0, 1)),
        (["data", "check", "{data}/nothing \x1b[31m"], (2,)),
        (["data", "convert", "{data}", "{out}/voc", "--to", "voc"], (0, 1, 2)),
        (["data", "convert", "{data}", "{out}/yolo", "--to", "yolo"], (0, 1, 2)),
        (["doctor", "{data}", "--out", "{out}/doctor"], (0, 1)),
    ],
)
def test_no_verb_lets_a_name_do_anything(
    hostile: Path, tmp_path: Path, arguments: list[str], codes: tuple[int, ...]
) -> None:
    words = [word.format(data=hostile, out=tmp_path / "out") for word in arguments]
    result = CliRunner().invoke(app, words)
    assert result.exit_code in codes, result.output
    assert is_harmless(result.output), repr(result.output)
    for path in (tmp_path / "out").rglob("*.html"):
        assert not Elements(path.read_text()).found
    outside = [path for path in tmp_path.iterdir() if path.name != "out"]
    assert not outside


def test_names_in_results(hostile: Path, tmp_path: Path) -> None:
    paths = [hostile / "images" / f"{name}.png" for name in FILES]
    boxes = np.tile(np.array([[4, 4, 30, 30]], np.float32), (len(CLASSES), 1))
    found = Detections(boxes, np.full(len(CLASSES), 0.9), np.arange(len(CLASSES)), CLASSES, (48, 64), paths[0])
    kinds = ["csv", "json", "text", "voc", "crops", "images"]
    out = tmp_path / "found"
    with open_sinks(kinds, out, paths, CLASSES, range(len(CLASSES)), note=str) as sinks:
        for path in paths:
            frame = Frame(np.zeros((48, 64, 3), np.uint8), str(path))
            for sink in sinks:
                sink.write(Prediction(frame, found))
    assert list(tmp_path.iterdir()) == [out]
    with (out / "detections.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert "'=cmd|' /C calc'!A0" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n"
for before, after in zip("abcdefgh", "bcdefghi", strict=True):
    LAUGHS += f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"


def test_yaml_that_grows_and_makes_objects(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(LAUGHS + "names: *i\ntrain: images\n")
    with pytest.raises(SingleshotError) as caught:
        open_data(tmp_path / "data.yaml")
    assert len(str(caught.value)) < 5000
    (tmp_path / "made.yaml").write_text("x: !!python/object/apply:os.system ['touch made']\n")
    with pytest.raises(SingleshotError, match="not YAML"):
        read_mapping(tmp_path / "made.yaml", "settings", "a: 1")
    assert yaml.safe_load(LAUGHS)["a"][0] == "x"


def test_xml_entities_and_depth(tmp_path: Path) -> None:
    """Neither a file of the machine nor a thousand million laughs come in by way of a label."""
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "secret.txt").write_text("hunter2")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((48, 64, 3), np.uint8))
    entities = f'<!DOCTYPE x [<!ENTITY a SYSTEM "file://{tmp_path}/secret.txt"><!ENTITY b "&a;&a;&a;">]>'
    label = f"<annotation><filename>a.png</filename><object><name>&b;</name><bndbox>{COORDINATES}</bndbox></object>"
    for text in (entities + label + "</annotation>", "<a>" * 100_000):
        (tmp_path / "Annotations" / "a.xml").write_text(text)
        said = ""
        try:
            said = "".join(open_data(tmp_path, format="voc").class_map.names)
        except DataError as error:
            said = str(error)
        assert "hunter2" not in said
        assert len(said) < 5000


def test_what_is_written_for_voc_is_escaped(hostile: Path) -> None:
    sample = open_data(hostile).samples[0]
    text = voc_xml(sample, "a.png", CLASSES)
    assert "<img" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "a: {b: 1, c: 2, b: 3}", "a: [{x: 1, 'x': 2}]"])
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"r\.yaml is not YAML: the key '[abx]' is given twice in one mapping"):
        read_mapping(tmp_path / "r.yaml", "settings", "a: 1")


def test_merged_keys_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("base: &b {x: 1, y: 2}\none: {<<: *b, x: 3}\ntwo: {<<: *b, y: 4}\n")
    found = read_mapping(tmp_path / "r.yaml", "settings", "a: 1")
    assert found == {"base": {"x": 1, "y": 2}, "one": {"x": 3, "y": 2}, "two": {"x": 1, "y": 4}}


@pytest.mark.parametrize("text", [r'model: "\ud800"', r'model: ["a", {b: "\U0000DFFF"}]', r'"\ud83d\ude00": 1'])
def test_halves_of_characters_in_yaml(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"r\.yaml is not YAML: line 1: half of a character"):
        read_mapping(tmp_path / "r.yaml", "settings", "lr: 1")


def test_a_path_that_only_looks_like_half_a_character(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(r"data: C:\udaff")
    assert read_mapping(tmp_path / "r.yaml", "settings", "lr: 1") == {"data": r"C:\udaff"}
