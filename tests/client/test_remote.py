"""``predict --server``: the same sources and sinks, the same results, by a service that runs."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from serving.toys import Running, running
from singleshot.cli import app
from singleshot.client import Client
from singleshot.client.calls import Wanted
from singleshot.client.remote import connect
from singleshot.detector import Detector, load
from singleshot.errors import ServerError
from singleshot.images.read import write_image
from singleshot.models.registry import BACKBONES
from singleshot.prediction.frames import Failure, Prediction

TOKEN = "0123456789abcdef"
HOW: dict[str, Any] = {"backend": "torch", "device": "cpu"}


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small network that computes, and can be loaded by its file meanwhile."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
    import toy

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES._objects, "toy", toy.toy_backbone)
        yield toy.save_toy(tmp_path_factory.mktemp("weights") / "toy.safetensors")


@pytest.fixture(scope="module")
def detector(toy_file: Path) -> Detector:
    return load(toy_file)


@pytest.fixture(scope="module")
def live(detector: Detector) -> Iterator[Running]:
    with running({"toy": detector}, token=TOKEN, max_pixels=50_000, **HOW) as service:
        yield service


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of several formats and sizes, one in an archive, one cut off."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(7)
    for number, suffix in enumerate((".jpg", ".png", ".bmp", ".png")):
        pixels = rng.integers(0, 256, (40 + number, 60, 3), dtype=np.uint8)
        write_image(folder / f"{number}{suffix}", pixels)
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.write(folder / "3.png", "inside.png")
    (folder / "damaged.png").write_bytes((folder / "1.png").read_bytes()[:-500])
    return folder


def documents(live: Running, toy_file: Path, photos: Path, tmp_path: Path, *arguments: str) -> tuple[Any, Any, str]:
    """What ``predict`` writes and prints: here, and by the service."""
    (tmp_path / "token.txt").write_text(TOKEN)
    found = []
    for name, how in {
        "here": ["--model", str(toy_file), "--backend", "torch", "--device", "cpu"],
        "there": ["--server", live.url, "--token-file", str(tmp_path / "token.txt")],
    }.items():
        out = tmp_path / name
        result = CliRunner().invoke(app, ["predict", str(photos), *how, "--out", str(out), *arguments])
        found.append((json.loads((out / "detections.json").read_text()), result))
    (here, first), (there, second) = found
    assert first.exit_code == second.exit_code, second.output
    return here, there, second.output


def test_a_folder_is_detected_in_as_here(live: Running, toy_file: Path, photos: Path, tmp_path: Path) -> None:
    here, there, said = documents(live, toy_file, photos, tmp_path)
    assert sum(len(image["detections"]) for image in here["images"]) > 5
    assert len(here["failed"]) == 1
    assert there == here
    assert f", {live.url}" in said
    assert sorted(p.name for p in (tmp_path / "there" / "images").iterdir()) == sorted(
        p.name for p in (tmp_path / "here" / "images").iterdir()
    )


def test_settings_go_along(live: Running, toy_file: Path, photos: Path, tmp_path: Path) -> None:
    settings = ["--save", "json", "--score", "0.55", "--classes", "dog,bird"]
    settings += ["--nms-iou", "0.2", "--max-detections", "4", "--min-size", "3"]
    here, there, _ = documents(live, toy_file, photos, tmp_path, *settings)
    assert there == here


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "torch"], "--backend is decided by the --server"),
        (["--tile", "300"], "--tile is decided by the --server"),
        (["--batch-size", "4"], "--batch-size is decided by the --server"),
        (["--no-clip"], "--no-clip is decided by the --server"),
        (["--model", "other"], "no model 'other': there are toy"),
        (["--classes", "dgo"], "did you mean 'dog'?"),
        ([], "a token is needed: Authorization: Bearer TOKEN: give the service's token"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    live: Running, photos: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "token.txt").write_text(TOKEN)
    token = ["--token-file", str(tmp_path / "token.txt")] if arguments else []
    out = ["--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["predict", str(photos), "--server", live.url, *token, *out, *arguments])
    assert (result.exit_code, said in result.output.replace("\n", " ")) == (2, True), result.output
    assert not (tmp_path / "out").exists()


def test_a_token_is_of_a_server(photos: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["predict", str(photos), "--token-file", "token.txt"])
    assert (result.exit_code, "--token-file is of a --server: name one" in result.output) == (2, True), result.output


def test_arrays_and_files_by_the_client(live: Running, detector: Detector, photos: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    with Client(live.url, TOKEN) as client:
        (model,) = client.models()
        assert (model.name, model.class_names, model.size_hw) == ("toy", detector.class_names, (96, 128))
        assert client.ready()
        assert client.ready("toy")
        assert not client.ready("other")
        by_array, by_file = client.detect(image, 0.3), client.detect([photos / "0.jpg"], 0.3, classes="dog")
    assert by_array.to_dict() == detector.predict(image, 0.3, **HOW).to_dict()
    assert by_file[0].to_dict() == detector.predict(photos / "0.jpg", 0.3, classes="dog", **HOW).to_dict()
    assert by_array.image is image


def test_an_image_that_the_service_refuses_ends_nothing(live: Running, photos: Path) -> None:
    large = np.zeros((300, 300, 3), np.uint8)
    with Client(live.url, TOKEN) as client:
        results = list(connect(client, Wanted()).stream([large, photos / "0.jpg", large], live=True))
    assert [type(result) for result in results] == [Failure, Prediction, Failure]
    assert "over the limit of 50,000" in str(results[0].error)


def test_a_service_that_went_away_ends_the_run(live: Running, photos: Path) -> None:
    with Client(live.url, TOKEN, retries=0) as client:
        remote = connect(client, Wanted())
        stream = remote.stream([photos / "0.jpg"] * 20)
        next(stream)
        remote.client._transport.token = "another token 12"
        with pytest.raises(ServerError, match="a token is needed"):
            list(stream)


def test_a_model_that_was_replaced_by_one_of_other_classes_ends_the_run(live: Running, photos: Path) -> None:
    with Client(live.url, TOKEN) as client:
        predictor = connect(client, Wanted())
        before = replace(predictor, model=replace(predictor.model, class_names=("something", "else")))
        with pytest.raises(ServerError, match="was replaced by one of other classes"):
            list(before.stream([photos / "0.jpg"]))
