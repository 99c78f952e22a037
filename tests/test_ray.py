"""Ray's part: one small session of Ray for all of it. What jobs and services are, other tests say without Ray."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prediction.batch_toys import KILLS, toy_predictor
from singleshot.errors import ConfigError
from singleshot.images.read import write_image
from singleshot.prediction.batch.batch_job import PartsJob, detect_to_parts, find_slices
from singleshot.prediction.batch.parts_folder import PartsFolder
from singleshot.prediction.batch.registry import BATCH_ENGINES, Crew
from singleshot.prediction.batch.work import Work
from singleshot.prediction.job import Output, detect_and_save
from singleshot.prediction.result_table import read_records
from singleshot.serving.options import ServeOptions

ray = pytest.importorskip("ray")
pytest.importorskip("pyarrow")

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield
    ray.shutdown()


@pytest.mark.heavy
def test_ray_writes_the_table_of_a_plain_run(session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(9):
        write_image(f"photos/{number}.png", np.full((12, 16, 3), 25 * number, np.uint8))
    Path("photos/5.png").write_bytes(b"<html>")
    images = sorted(tmp_path.glob("photos/*"))
    detect_and_save(toy_predictor(), images, Output(kinds=("parquet",), folder=Path("plain")))
    found = find_slices([str(tmp_path / "photos")], Output(), 4)
    work = Work(build=toy_predictor, parts=PartsFolder.at("parts"))
    engine, crew = BATCH_ENGINES.get("ray"), Crew(workers=1)
    engine.check(crew)
    for resume, done in ((False, 9), (True, 4)):
        summary = detect_to_parts(engine, work, crew, PartsJob(slices=found.slices, resume=resume))
        assert (summary.done, summary.problems) == (done, [])
        assert list(read_records("parts/detections.parquet")) == list(read_records("plain/detections.parquet"))
        sorted(Path("parts/detections.parquet").iterdir())[1].unlink()


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_an_image_that_kills_every_worker_is_a_row_with_its_error(
    session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("singleshot.prediction.batch.ray_data._RETRIES", 1)
    Path("photos").mkdir()
    for number in range(12):
        write_image(f"photos/{number:02d}.png", np.full((12, 16, 3), KILLS if number == 5 else 9 * number, np.uint8))
    found = find_slices([str(tmp_path / "photos")], Output(), 4)
    work, notes = Work(build=toy_predictor, parts=PartsFolder.at("parts")), list[str]()
    engine = BATCH_ENGINES.get("ray")
    summary = detect_to_parts(engine, work, Crew(workers=1, note=notes.append), PartsJob(slices=found.slices))
    assert (summary.done, len(summary.failures), summary.problems) == (12, 1, [])
    rows = list(read_records("parts/detections.parquet"))
    assert [Path(row.image).name for row in rows] == [f"{number:02d}.png" for number in range(12)]
    assert ["dies, twice: left out" in row.error for row in rows] == [number == 5 for number in range(12)]
    assert notes[0] == "Ray gave up on 4 images: workers died of it 2 times; this machine's processes take over"


@pytest.mark.heavy
def test_the_service_on_ray_answers(session: None, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    from singleshot.serving.ray_serve import Replicas, serve_on_ray

    until, answers = threading.Event(), []

    def ask(address: str) -> None:
        with urllib.request.urlopen(f"{address}/models", timeout=60) as answer:
            answers.append(json.loads(answer.read()))
        until.set()

    serve_on_ray({}, ServeOptions(port=18437), Replicas.parse("1-2"), on_start=ask, until=until)
    assert answers[0]["models"] == []


@pytest.mark.parametrize("text", ["0", "2-1", "a", "-3"])
def test_replicas_that_make_no_sense(text: str) -> None:
    from singleshot.serving.ray_serve import Replicas

    with pytest.raises(ConfigError, match="write how many"):
        Replicas.parse(text)


def test_what_a_service_on_ray_cannot_do(tmp_path: Path) -> None:
    from singleshot.serving.ray_serve import check_ray

    with pytest.raises(ConfigError, match="`watch`"):
        check_ray(ServeOptions(watch=tmp_path))


def test_no_cluster_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from singleshot.prediction.batch.ray_data import connected

    def refuse(**how: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nmore")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConfigError, match=r"`address=auto`: no cluster: Could not find any running Ray instance\.$"):
        connected("auto").__enter__()


def test_a_cluster_that_asks_for_a_token_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from singleshot.prediction.batch.ray_data import connected

    def refuse(**how: Any) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379") from RuntimeError(
            "Failed to connect to GCS. ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: missing"
        )

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConfigError, match=r"`address=10.0.0.1:6379`: the cluster asks for a token: .*RAY_AUTH_MODE"):
        connected("10.0.0.1:6379").__enter__()
