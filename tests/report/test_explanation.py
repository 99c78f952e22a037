"""``explain``: pictures looked at by their pixels, numbers by another count, the command end to end."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import singleshot
from singleshot.cli import app
from singleshot.core.boxes import cxcywh_to_xyxy
from singleshot.demo.scenes import make_scenes
from singleshot.detector import Detector
from singleshot.errors import ConfigError, DataError, OutputError
from singleshot.images.read import read_image, write_image
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.multibox import plain
from singleshot.report import explanation_parts, panels
from singleshot.report.explanation import Explanation, explain
from singleshot.report.panels import NEGATIVE, PALETTE, DrawnLevel, Match, draw_levels, draw_matches, draw_selection

GREY = np.full((300, 400, 3), 128, np.uint8)
EMPTY, NO_BOXES = "scene_00004.jpg", np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes; in the fifth is nothing."""
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes", count=12, seed=3, size_hw=(240, 320))


@pytest.fixture(scope="module")
def explanation(scenes: Path) -> Explanation:
    return explain(scenes)


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of exactly this colour."""
    return int((picture == colour).all(axis=-1).sum())


def test_no_objects_no_boxes_no_candidates():
    picture = draw_matches(GREY, [], NO_BOXES, ("nothing", "nothing"))
    assert count(picture, NEGATIVE) == 0
    assert draw_selection(GREY, NO_BOXES, np.zeros(0, int), GREY, ("nothing", "nothing")).shape == picture.shape


def test_levels_have_panels_of_their_colour():
    levels = [
        DrawnLevel((rows, rows), np.tile([0.25, 0.25, 0.75, 0.75], (rows, rows, 2, 1)).astype(np.float32))
        for rows in (20, 10, 3, 2, 1)
    ]
    picture = draw_levels(GREY, levels)
    height, width = (-(-side // parts) for side, parts in zip(picture.shape[:2], (2, 3), strict=True))
    for number in range(5):
        row, column = divmod(number, 3)
        panel = picture[row * height : (row + 1) * height, column * width : (column + 1) * width]
        assert count(panel, PALETTE[number]) > 300
        assert sum(count(panel, other) for other in PALETTE) == count(panel, PALETTE[number])


def test_matched_and_forced_and_mined_are_told_apart():
    box, anchor, far = (
        np.array(corners, np.float32)
        for corners in ([0.4] * 2 + [0.6] * 2, [0.3] * 2 + [0.7] * 2, [0.1] * 2 + [0.2] * 2)
    )
    nothing, one = NO_BOXES, anchor[None]
    solid = draw_matches(GREY, [Match("mug", box, one, nothing)], nothing, ("", ""))
    dashed = draw_matches(GREY, [Match("mug", box, nothing, one)], nothing, ("", ""))
    bare = draw_matches(GREY, [Match("mug", box, nothing, nothing)], nothing, ("", ""))
    added = [count(picture, PALETTE[0]) - count(bare, PALETTE[0]) for picture in (solid, dashed)]
    assert 0.35 * added[0] < added[1] < 0.75 * added[0]
    mined = draw_matches(GREY, [Match("mug", box, one, nothing)], far[None], ("", ""))
    half = mined.shape[1] // 2
    assert count(mined[:, :half], NEGATIVE) == 0
    assert count(mined[:, half:], NEGATIVE) > 100


def test_a_long_heading_is_not_cut():
    panel = panels._titled(np.zeros((20, 200, 3), np.uint8), "a heading that is much too long for its narrow panel")
    assert (panel[:-20, -3:] == panels._PAPER).all()


def test_numbers_equal_the_plain_reading(scenes: Path, explanation: Explanation):
    """Matching of the same image, anchor by anchor."""
    detector = singleshot.load()
    sample = next(sample for sample in singleshot.data.open(scenes) if 2 <= len(sample) <= 6)
    assert sample.image_path.name in explanation.title
    boxes = (sample.boxes_xyxy / [320, 240, 320, 240] * 300).tolist()
    anchors = cxcywh_to_xyxy(detector.anchors()).tolist()
    overlaps = [[plain.iou(anchor, box) for box in boxes] for anchor in anchors]
    matched, by_iou = plain.match(overlaps), plain.match(overlaps, forced="none")
    assert explanation.numbers["anchors"] == len(anchors)
    assert explanation.numbers["objects"] == len(boxes)
    assert explanation.numbers["positives"] == sum(m >= 0 for m in matched)
    assert explanation.numbers["forced"] == sum(m >= 0 and m != own for m, own in zip(matched, by_iou, strict=True))
    assert explanation.numbers["negatives"] == max(3, 3 * explanation.numbers["positives"])
    eligible = sum(m < 0 and max(row) < 0.5 for m, row in zip(matched, overlaps, strict=True))
    assert explanation.numbers["eligible"] == eligible


def test_candidates_and_detections_are_those_of_predict(scenes: Path):
    photo = scenes / "JPEGImages" / "scene_00006.jpg"
    detector = singleshot.load()
    found = explain(photo, detector, score=0.1)
    assert set(found.pictures) == {"default_boxes", "detection"}
    assert found.numbers["detections"] == len(detector.predict(photo, 0.1, backend="torch"))
    assert found.numbers["candidates"] >= found.numbers["detections"] > 0
    same = explain(read_image(photo), detector, score=0.1)
    assert same.numbers == found.numbers


def test_an_image_without_objects(scenes: Path):
    found = explain(scenes, image=EMPTY)
    assert (found.numbers["objects"], found.numbers["positives"], found.numbers["negatives"]) == (0, 0, 3)


def test_a_two_step_detector(scenes: Path):
    spec = model_spec("refinedet320_vgg16", ("ball", "mug"), (192, 192))
    found = explain(scenes, Detector(spec, build_network(spec.network).state_dict()))
    assert found.numbers["negatives"] == max(3, 3 * found.numbers["positives"])
    (matching,) = (section for section in found.sections if section.title == "Matching and mining")
    assert "its first step, which tells objects from background" in str(matching.blocks[0])


@pytest.mark.parametrize("layout", ["cell", "shape"])
def test_the_boxes_of_a_cell_are_around_it(scenes: Path, monkeypatch: pytest.MonkeyPatch, layout: str):
    drawn: list[DrawnLevel] = []
    monkeypatch.setattr(explanation_parts, "draw_levels", lambda image, levels: drawn.extend(levels) or image)
    bundled = singleshot.load()
    spec = bundled.spec.model_copy(update={"anchors": bundled.spec.anchors.model_copy(update={"layout": layout})})
    explain(GREY, Detector(spec, bundled.network.state_dict()))
    assert [level.map_hw for level in drawn] == [(side, side) for side in (19, 10, 5, 3, 2, 1)]
    for level in drawn:
        rows, columns = level.map_hw
        centres = (level.boxes_xyxy[..., :2] + level.boxes_xyxy[..., 2:]) / 2
        y, x = np.mgrid[0:rows, 0:columns] + 0.5
        assert np.allclose(centres, np.stack([x / columns, y / rows], axis=-1)[:, :, None], atol=1e-5)


def test_the_command_end_to_end(scenes: Path, tmp_path: Path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["explain", str(scenes), "--out", str(out), "--image", "scene_00001"])
    assert result.exit_code == 0, result.output
    assert "1,917 default boxes" in result.output
    assert "negatives mined of" in result.output
    names = {path.name for path in out.iterdir()}
    assert names == {"default_boxes.png", "matching.png", "detection.png", "explain.html"}
    page = (out / "explain.html").read_text()
    assert page.count("data:image/jpeg") == 3
    assert "http" not in page.split("<body")[1]
    for heading in ("Default boxes", "Matching and mining", "From heads to boxes"):
        assert heading in page
    again = CliRunner().invoke(app, ["explain", str(scenes), "--out", str(out)])
    assert again.exit_code == 2
    assert "default_boxes.png: exists already" in again.output
    assert CliRunner().invoke(app, ["explain", str(scenes), "--out", str(out), "--overwrite"]).exit_code == 0


def test_a_photo_and_the_default_folder(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(scenes / "JPEGImages" / EMPTY, "photo.jpg")
    for folder in ("explanation", "explanation-2"):
        result = CliRunner().invoke(app, ["explain", "photo.jpg"])
        assert result.exit_code == 0, result.output
        assert f"Page: {folder}/explain.html" in result.output.replace("\\", "/")
        assert {path.name for path in Path(folder).iterdir()} == {"default_boxes.png", "detection.png", "explain.html"}
    assert CliRunner().invoke(app, ["explain", "missing.jpg"]).exit_code == 2
    assert not Path("explanation-3").exists()


def test_mistakes(scenes: Path, tmp_path: Path, explanation: Explanation):
    with pytest.raises(DataError, match=r"no image 'scene_00002.png'; did you mean .*scene_00002.jpg"):
        explain(scenes, image="scene_00002.png")
    with pytest.raises(ConfigError, match="image: 'scene_1' chooses from a data set"):
        explain(scenes / "JPEGImages" / EMPTY, image="scene_1")
    with pytest.raises(ConfigError, match="score"):
        explain(GREY, score=2)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="name a folder"):
        explanation.save(tmp_path / "file")


def test_the_source_is_never_replaced(tmp_path: Path):
    photo = tmp_path / "detection.png"
    write_image(photo, GREY)
    before = photo.read_bytes()
    with pytest.raises(OutputError, match="is a source of this run"):
        explain(photo).save(tmp_path, overwrite=True)
    assert photo.read_bytes() == before
    assert list(tmp_path.iterdir()) == [photo]
