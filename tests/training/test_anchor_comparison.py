"""``compare_anchors`` and its verb: recall counted another way, default boxes that training takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import singleshot
from singleshot.cli import app
from singleshot.core.structures import ClassMap, Sample
from singleshot.data import DetectionDataset
from singleshot.errors import DataError, OutputError
from singleshot.models.catalogue import model_spec
from singleshot.training.anchor_clusters import cluster_sides, with_shapes
from singleshot.training.anchor_comparison import AnchorComparison
from singleshot.training.anchor_fitting import map_sizes
from singleshot.training.recipes import read_config
from singleshot.training.start import start_spec


def data_set(objects: int = 40) -> DetectionDataset:
    """Flat things of 60 x 12 pixels, and a few small squares."""
    corners = np.random.default_rng(0).uniform(0, 200, (objects, 2))
    sides = np.where(np.arange(objects)[:, None] % 4 == 0, [[14.0, 14.0]], [[60.0, 12.0]])
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    ids = (np.arange(objects) % 4 == 0).astype(np.int64)
    sample = Sample(Path("a.jpg"), (300, 300), boxes, ids)
    return DetectionDataset(Path("flat"), (sample,), ClassMap(("bar", "dot")), "train", ("train",), "voc")


@pytest.fixture(scope="module")
def fitted() -> AnchorComparison:
    return singleshot.compare_anchors(data_set())


def test_without_objects_there_is_nothing_to_fit() -> None:
    with pytest.raises(DataError, match="no object"):
        singleshot.compare_anchors(data_set(0))


def test_k_means_finds_the_sizes_that_are_there() -> None:
    sides = np.array([[10.0, 20.0]] * 9 + [[100.0, 50.0]] * 5)
    np.testing.assert_allclose(cluster_sides(sides, 2), [[10, 20], [100, 50]])


def test_shapes_become_fractions_level_by_level() -> None:
    spec = model_spec("ssdlite300_mobilenet_v2", ("a",))
    count = sum(spec.anchors.boxes_per_cell)
    sides = np.arange(2.0, 2 * count + 2).reshape(count, 2)
    changed = with_shapes(spec.anchors, sides, map_sizes(spec), (300, 300))
    np.testing.assert_allclose(np.concatenate([level.shapes_wh for level in changed.levels]) * 300, sides, atol=2e-3)


def test_what_nothing_covered_is_covered(fitted: AnchorComparison) -> None:
    assert fitted.overall.objects == 40
    assert fitted.overall.before < 0.2
    assert fitted.overall.after > 0.5 + fitted.overall.before
    assert [row.objects for row in fitted.by_class] == [30, 10]
    assert sum(row.objects for row in fitted.by_size) == 40
    weighted = sum(row.after * row.objects for row in fitted.by_class) / 40
    assert weighted == pytest.approx(fitted.overall.after)


def test_training_takes_the_settings(fitted: AnchorComparison, tmp_path: Path) -> None:
    config = read_config(fitted.save(tmp_path))
    _, spec, old = start_spec(config, ClassMap(("bar", "dot")))
    assert spec.anchors == fitted.anchors
    assert old is not None
    assert spec.anchors.boxes_per_cell == old.anchors.boxes_per_cell
    assert (tmp_path / "anchors.png").stat().st_size > 1000
    with pytest.raises(OutputError, match=r"anchors\.png|anchors\.yaml"):
        fitted.save(tmp_path)


def test_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: AnchorComparison) -> None:
    monkeypatch.setattr("singleshot.training.anchor_comparison.compare_anchors", lambda *_, **__: fitted)
    done = CliRunner().invoke(app, ["anchors", "my data", "--out", str(tmp_path / "fit")])
    assert done.exit_code == 0, done.output
    assert f"singleshot train 'my data' --recipe {tmp_path / 'fit' / 'anchors.yaml'}" in done.output
    assert "bar" in done.output
