"""Splits, folders, and what "auto" means on a machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from singleshot.data.train_val import open_training
from singleshot.demo.scenes import make_scenes
from singleshot.errors import ConfigError, DataError
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.runtime.device import choose_device
from singleshot.training import batch_size, precision
from singleshot.training.batch_size import activation_bytes, choose_batch
from singleshot.training.config import TrainConfig
from singleshot.training.precision import choose_amp
from singleshot.training.recipes import write_config
from singleshot.training.run_folder import HEAD, UNSAVED, clear_results, existing_folder, new_folder, sole_use

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes", count=40, size_hw=(40, 50))


@pytest.mark.parametrize(
    ("train", "val", "splits", "sizes"),
    [
        ("auto", "auto", ("trainval", "test"), (32, 8)),
        ("trainval", "none", ("trainval", None), (32, None)),
        ("test", "trainval", ("test", "trainval"), (8, 32)),
    ],
)
def test_a_data_set_keeps_its_splits(
    scenes: Path, train: str, val: str, splits: tuple[str, str | None], sizes: tuple[int, int | None]
) -> None:
    train_set, val_set = open_training(scenes, train, val)
    assert (train_set.split, val_set.split if val_set else None) == splits
    assert (len(train_set), len(val_set) if val_set else None) == sizes


def test_where_nothing_is_held_out_a_fifth_of_a_small_set_is(scenes: Path, tmp_path: Path) -> None:
    (scenes / "ImageSets" / "Main" / "test.txt").rename(tmp_path / "test.txt")
    try:
        train_set, val_set = open_training(scenes)
    finally:
        (tmp_path / "test.txt").rename(scenes / "ImageSets" / "Main" / "test.txt")
    assert val_set
    assert (train_set.split, val_set.split) == ("train", "val")
    assert (len(train_set), len(val_set)) == (26, 6)
    assert any("'trainval' has no part to measure on" in note for note in train_set.notes)
    assert not {s.image_path for s in train_set} & {s.image_path for s in val_set}


def test_of_too_few_images_none_is_held_out_and_that_is_said(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "two", count=2, size_hw=(40, 50))
    (folder / "ImageSets" / "Main" / "test.txt").unlink()
    train_set, val_set = open_training(folder)
    assert val_set is None
    assert any("nothing is measured" in note for note in train_set.notes)


def test_an_unknown_split_is_an_error(scenes: Path) -> None:
    with pytest.raises(DataError, match="no split 'night'"):
        open_training(scenes, "night")


def test_new_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new_folder(None, "cats") == Path("runs/cats")
    assert new_folder(None, "cats") == Path("runs/cats-2")
    assert new_folder("elsewhere", "cats") == Path("elsewhere")
    assert new_folder("elsewhere", "cats") == Path("elsewhere")
    assert sorted(path.name for path in Path("runs").iterdir()) == ["cats", "cats-2"]


@pytest.mark.parametrize(
    "name", ["best.safetensors", "last.safetensors", "state.pt", "report.html", "metrics.csv", "config.yaml"]
)
def test_nothing_is_replaced_unasked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"{name} is there already.*`overwrite=True`"):
        new_folder(tmp_path, "cats")
    assert new_folder(tmp_path, "cats", overwrite=True) == tmp_path
    assert (tmp_path / name).read_text() == "mine"
    clear_results(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_left_that_never_saved_is_replaced(tmp_path: Path) -> None:
    write_config(TrainConfig(), tmp_path / "config.yaml", HEAD)
    (tmp_path / "metrics.csv").write_text("step,epoch\n")
    assert new_folder(tmp_path, "cats") == tmp_path


def test_what_a_run_left_that_was_killed_in_its_first_save_is_replaced(tmp_path: Path) -> None:
    write_config(TrainConfig(), tmp_path / "config.yaml", HEAD)
    (tmp_path / "last.safetensors").touch()
    with pytest.raises(ConfigError, match=r"last\.safetensors is there already"):
        new_folder(tmp_path, "cats")
    (tmp_path / UNSAVED).touch()
    assert new_folder(tmp_path, "cats") == tmp_path
    clear_results(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        new_folder(tmp_path / "file", "cats")


HOLDS = """
import sys, time
from pathlib import Path
from singleshot.training.run_folder import sole_use
with sole_use(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        sole_use(tmp_path),
        pytest.raises(ConfigError, match="in use by another run of this process"),
        sole_use(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=rf"in use by another run \(process {other.pid}\)"), sole_use(tmp_path):
            pass
        other.kill()
    with sole_use(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_run_saved_last_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(("new", "old")):
        Path("runs", name).mkdir(parents=True)
        for file in ("config.yaml", "last.safetensors", "state.pt"):
            Path("runs", name, file).touch()
        os.utime(Path("runs", name, "state.pt"), (1000 - age, 1000 - age))
    assert existing_folder(None) == Path("runs/new")


@pytest.mark.parametrize(
    ("units", "share", "amp"),
    [
        (["avx512_bf16"], 0.0, "bf16"),
        (["avx512_bf16"], 0.95, "fp32"),
        (["avx512_bf16", "amx_bf16"], 0.95, "bf16"),
        ([], 0.95, "fp32"),
        ([], 0.0, "fp32"),
    ],
)
def test_auto_precision_follows_the_cpu(
    monkeypatch: pytest.MonkeyPatch, units: list[str], share: float, amp: str
) -> None:
    monkeypatch.setattr(precision, "cpu_bf16_units", lambda: units)
    assert choose_amp("auto", CPU, share) == amp
    assert choose_amp("fp32", CPU, share) == "fp32"
    assert choose_amp("bf16", CPU, share) == "bf16"


def test_fp16_on_a_cpu_is_an_error() -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        choose_amp("fp16", CPU)


@pytest.mark.parametrize("name", ["warp", "cuda:99"])
def test_an_unusable_device_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{name}' cannot be used"):
        choose_device(name)


@pytest.mark.parametrize(
    ("images", "free_gb", "batch"), [(1, 100, 2), (40, 100, 4), (1000, 100, 8), (1000, 2.0, 4), (1000, 0.01, 2)]
)
def test_auto_batch_fits_the_data_and_the_memory(
    monkeypatch: pytest.MonkeyPatch, images: int, free_gb: float, batch: int
) -> None:
    network = build_network(model_spec("ssdlite300_mobilenet_v2", ["a"]).network)
    monkeypatch.setattr(batch_size, "free_memory", lambda device: int(free_gb * 1e9))
    assert choose_batch(network, (300, 300), CPU, images) == batch


def test_activations_are_counted() -> None:
    network = build_network(model_spec("ssd300_vgg16", ["a"]).network)
    # conv1_1 and conv1_2 alone: 2 maps of 64 x 300 x 300 floats
    assert 2 * 4 * 64 * 300 * 300 < activation_bytes(network, (300, 300)) < 400e6
