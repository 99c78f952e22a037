"""Formats of phones, each where its package is installed (an environment of its own: docs/export.md)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime import toy
from singleshot.detector import Detector, load
from singleshot.errors import MissingExtraError, WeightsError
from singleshot.export.appended import append_texts, read_appended, read_texts
from singleshot.export.program import Program
from singleshot.export.writers import WRITERS
from singleshot.models.registry import BACKBONES

MOBILE = ("executorch", "litert", "coreml")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detector]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES._objects, "toy", toy.toy_backbone)
        yield load(toy.save_toy(tmp_path_factory.mktemp("weights") / "small.safetensors"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("level", ["raw", "decoded"])
@pytest.mark.parametrize("format", MOBILE)
def test_gives_what_the_detector_gives(detector: Detector, tmp_path: Path, format: str, level: str) -> None:
    writer = WRITERS.get(format)
    if missing := writer.available():
        pytest.skip(f"{missing.package} is not installed: {missing}")
    done = detector.export(tmp_path / f"a{writer.suffixes[0]}", format=format, level=level, verify=False, note=str)
    assert [path.name for path in tmp_path.iterdir()] == [done.path.name]
    if reason := writer.not_run():
        pytest.skip(f"written; {reason}")
    images = torch.randn(2, 3, *toy.SIZE)
    with torch.no_grad():
        expected = Program(detector.network, detector.anchors(), done.info)(images)
    found = writer.open(done.path, done.info)(images.numpy())
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs.numpy()).max() <= 1e-5 * theirs.abs().max()
    picture = toy.noise()
    ours, theirs = load(done.path).predict(picture, 0.2), detector.predict(picture, 0.2, backend="torch")
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize("format", MOBILE)
def test_without_the_package_it_names_the_command(detector: Detector, tmp_path: Path, format: str) -> None:
    if WRITERS.get(format).available() is None:
        pytest.skip(f"{format} is installed")
    with pytest.raises(MissingExtraError, match=f"needs the package .*pip install .*extra '{format}'"):
        detector.export(tmp_path / "a", format=format)
    assert not list(tmp_path.iterdir())


def test_texts_behind_the_end_of_a_file(tmp_path: Path) -> None:
    path, model = tmp_path / "model", b"\x1c\0\0\0TFL3" + bytes(100)
    path.write_bytes(model)
    assert read_appended(path) == {}
    append_texts(path, {"singleshot": "é", "labels.txt": "cat\ndog"})
    assert path.read_bytes().startswith(model)
    texts = read_appended(path)
    assert (texts["singleshot"], texts["labels.txt"]) == ("é", "cat\ndog")
    path.write_bytes(path.read_bytes().replace(b"TFL3\0", b"TFL3\1"))
    with pytest.raises(WeightsError, match="not what its digest says"):
        read_appended(path)


def test_texts_of_a_folder_in_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/extra/singleshot", "{}")
        archive.writestr("model/data/weights/weight_0", bytes(1000))
    assert read_texts(path, "extra") == {"singleshot": "{}"}


DAMAGED = {"larger": bytes(70_000_000), "not a text": b"\xff\xfe", "cut": "{}" * 99}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_texts_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.tflite"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("singleshot", DAMAGED[damage])
    if damage == "cut":
        data = bytearray(path.read_bytes())
        data[40] ^= 255
        path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"model\.tflite: its description is .*export it again"):
        read_texts(path)
