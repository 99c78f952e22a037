"""The input size of MXNet checkpoints, which their parameters do not tell: every name that their systems write."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mxnet_dssd_rule import RESNET101_321, Listing
from mxnet_writer import params_bytes, symbol_json

import singleshot
from singleshot.errors import WeightsError
from singleshot.interop.mxnet.names import head_inputs, mxnet_names
from singleshot.interop.mxnet.read import _preset
from singleshot.interop.mxnet.size import input_size, size_in_name
from singleshot.interop.read import read_foreign
from singleshot.interop.selfcheck import SelfCheck, check_saved
from singleshot.models.build import build_network
from singleshot.models.zoo.mxnet import SSD_PRESETS, assembled_config, ssd_config

# mxnet-ssd: <prefix>_<network>_<size>; mxnet-dssd the same. Prefixes are the users'.
NETWORKS = (
    "vgg16_reduced", "legacy_vgg16_ssd_300", "legacy_vgg16_ssd_512", "inceptionv3", "resnet50", "resnet101",
    "mobilenet", "densenet121", "densenet-tiny", "resnet18", "resnet-101", "vgg16", "inception_v3", "mobilenet_v2",
)  # fmt: skip
SIZES = (128, 224, 300, 321, 384, 512, 608, 1024)
PREFIXES = ("ssd", "dssd", "deploy_ssd", "exp1_ssd", "ssd_voc0712", "ssd_voc_2007", "my-model", "run-0003_ssd", "v2")


@pytest.mark.parametrize("network", NETWORKS)
def test_every_name_that_the_systems_write(network: str) -> None:
    for prefix, size in itertools.product(PREFIXES, SIZES):
        assert size_in_name(f"{prefix}_{network}_{size}") == (size, size)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", None),
        ("ssd", None),
        ("ssd_resnet101", None),
        ("densenet121", None),
        ("resnet-50-final", None),
        ("voc_2007_2012", None),
        ("epoch_7", None),
        ("ssd300", (300, 300)),
        ("VGG_VOC0712_SSD_512x512", (512, 512)),
        ("ssd_mobilenet_300x480", (300, 480)),
        ("ssd321_resnet101", (321, 321)),
        ("coco2017_ssd_512_best", (512, 512)),
    ],
)
def test_other_names(name: str, expected: tuple[int, int] | None) -> None:
    assert size_in_name(name) == expected


@pytest.mark.parametrize(
    ("arguments", "size_hw", "note"),
    [
        ({}, (300, 300), "nothing tells it"),
        ({"prefix": "ssd_resnet101_321"}, (321, 321), "by the file's name"),
        ({"prefix": "ssd_300", "given": (480, 640)}, (480, 640), "as asked for"),
        ({"prefix": "ssd_300", "shape": (300, 480)}, (300, 480), "its symbol's data"),
        ({"prefix": "ssd_300", "steps": (-1.0, -1.0)}, (300, 300), "by the file's name"),
        ({"prefix": "ssd", "steps": (8 / 512, 16 / 512)}, (512, 512), "by the steps"),
        ({"prefix": "ssd_512", "steps": (8 / 300,)}, (300, 300), "the file's name says 512 x 512"),
        ({"prefix": "ssd_512", "steps": (0.0156,)}, (512, 512), "by the steps"),
        ({"prefix": "ssd_resnet50_320", "steps": (0.05,), "stride": 16}, (320, 320), "by the steps"),
    ],
)
def test_the_best_evidence_decides(arguments: dict[str, object], size_hw: tuple[int, int], note: str) -> None:
    found = input_size(**{"prefix": "", "default": (300, 300), **arguments})  # type: ignore[arg-type]
    assert found.size_hw == size_hw
    assert note in found.note


@pytest.mark.parametrize(("name", "size"), [("dssd_resnet101_321", 321), ("dssd_resnet101_400", 400), ("dssd", 321)])
def test_presets_take_the_size_of_the_name(name: str, size: int) -> None:
    found = _preset(Listing(RESNET101_321).shapes, False, Path(f"{name}-0001.params"))
    assert found.config.input_size_hw == (size, size)
    assert found.spec.preprocess.size_hw == (size, size)
    assert f"{size} x {size}" in found.size.note


def checkpoint(folder: Path, network: str, prefix: str, symbol: dict[str, object] | None = None) -> Path:
    """A preset's checkpoint of small random numbers with its symbol, named as the system names it."""
    config = ssd_config(network, next(iter(SSD_PRESETS[network])))
    spec = config.to_spec(["a", "b"])
    with torch.device("meta"):
        own = build_network(spec.network).state_dict()
    generator = np.random.default_rng(0)
    arrays = {
        f"{'aux' if 'moving' in theirs else 'arg'}:{theirs}": generator.uniform(0.01, 0.02, tuple(own[ours].shape))
        for ours, theirs in mxnet_names(spec.network, own).items()
    }
    path = folder / f"{prefix}-0001.params"
    path.write_bytes(params_bytes({name: array.astype(np.float32) for name, array in arrays.items()}))
    if symbol is not None:
        document = json.loads(symbol_json(config, head_inputs(spec.network, "ssd")))
        document["nodes"][0].update(symbol)
        (folder / f"{prefix}-symbol.json").write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("with_symbol", [False, pytest.param(True, marks=pytest.mark.heavy)])
def test_the_depth_in_a_name_is_no_size(with_symbol: bool, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, "densenet121", "ssd_densenet121_300", {} if with_symbol else None)
    spec, state, report = read_foreign(path)
    assert spec.preprocess.size_hw == (300, 300)
    assert report.notes[0] == "input 300 x 300 by the file's name: another by `size`"
    singleshot.Detector(spec, state).save(tmp_path / "x.safetensors")
    check = check_saved(tmp_path / "x.safetensors", spec, state)
    assert check.anchors == 2006  # as mxnet-ssd has at 300
    assert check.doubt == ""


def test_a_size_of_the_users_and_one_of_the_symbols(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, "densenet_tiny", "final", {"attrs": {"__shape__": "(1, 3, 320, 256)"}})
    assert singleshot.import_weights(path).spec.preprocess.size_hw == (320, 256)
    detector = singleshot.import_weights(path, size=(300, 300))
    assert detector.spec.preprocess.size_hw == (300, 300)
    assert len(detector.anchors()) == 8108


def test_a_size_for_a_file_that_tells_its_own(tmp_path: Path) -> None:
    torch.save({"vgg.0.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="has input sizes of its own"):
        singleshot.import_weights(tmp_path / "x.pth", size=(300, 300))


def test_many_maps_of_one_cell_are_doubted() -> None:
    maps = ((7, 7), (4, 4), (2, 2), (1, 1), (1, 1), (1, 1))
    assert SelfCheck(330, (0.0, 1.0), maps).doubt == "3 of 6 maps are one cell: too small?"
    assert SelfCheck(330, (0.0, 1.0), maps[:5]).doubt == ""


def test_steps_hold_for_their_own_size_only() -> None:
    assert assembled_config("mxnet_ssd_vgg16_reduced_300").steps
    assert ssd_config("vgg16_reduced", 400).steps == ()
    assert ssd_config("vgg16_reduced", 400).input_size_hw == (400, 400)
