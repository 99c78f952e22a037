"""The detector inside the package: its description, and what 16 bits and new statistics cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from singleshot.core.class_names import COCO_NAMES
from singleshot.errors import WeightsError
from singleshot.images.preprocess import preprocess_image
from singleshot.models.build import build_network
from singleshot.weights.bundled import bundled_names, bundled_path
from singleshot.weights.file import load_state, read_header, read_spec, read_state


def test_names() -> None:
    assert "coco" in bundled_names()
    with pytest.raises(WeightsError, match="no bundled weights 'voc'; there are: coco"):
        bundled_path("voc")


def test_description() -> None:
    spec = read_spec(bundled_path("coco"))
    assert spec.name == "ssdlite300_mobilenet_v2"
    assert spec.class_names == COCO_NAMES
    assert spec.preprocess.resize == "linear_legacy"
    assert spec.provenance.licence == "Apache-2.0"
    assert "ssdlite_mobilenet_v2_coco_2018_05_09" in spec.provenance.source


def test_size_and_storage() -> None:
    path = bundled_path("coco")
    assert path.stat().st_size < 10_000_000
    _, entries = read_header(path)
    kinds = {entry["dtype"] for entry in entries.values() if len(entry["shape"]) > 1}
    assert kinds == {"F16"}


def test_statistics_are_not_those_of_a_folded_network() -> None:
    state = read_state(bundled_path("coco"))
    variances = [value for name, value in state.items() if name.endswith("running_var")]
    assert len(variances) == 76
    assert all(value.std() > 1e-4 for value in variances)


def test_close_to_the_real_runtime(reference: Path) -> None:
    with np.load(reference / "golden/weights/tfjs_ssdlite_mobilenet_v2_coco.npz") as file:
        golden = dict(file)
    from singleshot.images.read import read_image

    path = bundled_path("coco")
    spec = read_spec(path)
    network = build_network(spec.network).eval()
    load_state(network, read_state(path), path)
    for index, name in enumerate(golden["files"]):
        image = read_image(reference / "data/coco_train343/images" / str(name))
        images = torch.from_numpy(preprocess_image(image, spec.preprocess))[None]
        with torch.no_grad():
            output = network(images)
        scores, expected = output.class_logits[0].sigmoid(), torch.from_numpy(golden[f"i{index}_cls"]).sigmoid()
        assert (scores - expected).abs().max() < 0.02
        assert (output.box_codes[0] - torch.from_numpy(golden[f"i{index}_loc"])).abs().max() < 0.2
