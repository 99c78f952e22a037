"""Frozen TensorFlow graphs: the same numbers as the TensorFlow.js model of the same network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from wire_writer import graphdef

import singleshot
from singleshot.errors import WeightsError
from singleshot.interop.read import read_foreign
from singleshot.interop.tensorflow.tfjs import read_arrays


def test_frozen_graph_equals_the_web_model(reference: Path, tmp_path: Path) -> None:
    web = reference / "weights/ssdlite_mobilenet_v2_coco_tfjs"
    everything = read_arrays(web / "model.json")
    arrays = {name: value for name, value in everything.items() if value.dtype.kind == "f"}
    (tmp_path / "frozen_inference_graph.pb").write_bytes(graphdef(arrays))
    spec, state, report = read_foreign(tmp_path)
    web_spec, web_state, _ = read_foreign(web)
    assert (spec, report.source, report.left_over) == (web_spec, "tensorflow", ())
    assert state.keys() == web_state.keys()
    assert all(torch.equal(state[name], value) for name, value in web_state.items())


def test_unfolded_statistics_are_taken(reference: Path, tmp_path: Path) -> None:
    web = reference / "weights/ssdlite_mobilenet_v2_coco_tfjs"
    arrays = {name: value for name, value in read_arrays(web / "model.json").items() if value.dtype.kind == "f"}
    block = "FeatureExtractor/MobilenetV2/Conv"
    channels = arrays.pop(f"{block}/BatchNorm/batchnorm/sub").shape
    generator = np.random.default_rng(0)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        arrays[f"{block}/BatchNorm/{name}"] = generator.uniform(0.5, 1.5, channels).astype(np.float32)
    arrays[f"{block}/weights"] = arrays.pop(f"{block}/Conv2D/merged_input")
    (tmp_path / "x.pb").write_bytes(graphdef(arrays))
    network = singleshot.import_weights(tmp_path / "x.pb").network
    np.testing.assert_array_equal(network.backbone.stem.bn.running_var, arrays[f"{block}/BatchNorm/moving_variance"])
    np.testing.assert_array_equal(network.backbone.stem.bn.weight.detach(), arrays[f"{block}/BatchNorm/gamma"])


def test_other_graphs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pb").write_bytes(graphdef({"dense/kernel": np.zeros((3, 3), np.float32)}))
    with pytest.raises(WeightsError, match="not an SSD that is known; supported are"):
        singleshot.import_weights(tmp_path / "x.pb")
    (tmp_path / "x.pb").write_bytes(graphdef({"dense/kernel": np.zeros((3, 3), np.float32)})[:-30])
    with pytest.raises(WeightsError, match="claims"):
        singleshot.import_weights(tmp_path / "x.pb")
