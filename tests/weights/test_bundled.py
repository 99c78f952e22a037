"""The detectors inside the package: their description, and what 16 bits and new statistics cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from golden_rules import i1_image
from singleshot.core.class_names import COCO_NAMES
from singleshot.errors import WeightsError
from singleshot.images.preprocess import preprocess_image
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.weights.bundled import bundled_names, bundled_path
from singleshot.weights.file import load_state, read_header, read_spec, read_state

# Of TensorFlow's graph by OpenCV 5.0's reader, on image I1 (seed 7, 320 x 320): row of the heads -> its code
# (y, x, h, w), the column of the largest logit, and that logit.
V3_BY_OPENCV = {
    0: ((-0.300, -0.117, -3.041, -3.397), 47, -2.814),
    700: ((0.179, -0.100, -0.967, 0.177), 47, -4.366),
    1300: ((1.433, 0.159, -0.605, -0.183), 47, -4.036),
    1850: ((1.409, 0.417, 0.461, 0.792), 90, -3.353),
    1990: ((-1.608, 0.341, -1.789, -0.039), 67, -3.591),
    2033: ((0.007, -0.001, 0.071, 0.086), 75, -0.708),
}


def test_names() -> None:
    assert bundled_names() == ("coco", "coco-v3")
    with pytest.raises(WeightsError, match="no bundled weights 'voc'; there are: coco"):
        bundled_path("voc")


@pytest.mark.parametrize(
    ("name", "model", "origin", "score"),
    [
        ("coco", "ssdlite300_mobilenet_v2", "ssdlite_mobilenet_v2_coco_2018_05_09", 0.3),
        ("coco-v3", "ssdlite320_mobilenet_v3_large_tf", "ssd_mobilenet_v3_large_coco_2020_01_14", 0.5),
    ],
)
def test_description(name: str, model: str, origin: str, score: float) -> None:
    spec = read_spec(bundled_path(name))
    assert spec.default_score == score
    assert spec.name == model
    assert spec.class_names == COCO_NAMES
    assert spec.preprocess.resize == "linear_legacy"
    assert spec.provenance.licence == "Apache-2.0"
    assert origin in spec.provenance.source
    named = model_spec(model, COCO_NAMES).network
    assert spec.network == named.model_copy(update={"head": named.head.model_copy(update={"logits": 91})})


@pytest.mark.parametrize(("name", "limit"), [("coco", 10_000_000), ("coco-v3", 7_000_000)])
def test_size_and_storage(name: str, limit: int) -> None:
    path = bundled_path(name)
    assert path.stat().st_size < limit
    _, entries = read_header(path)
    kinds = {entry["dtype"] for entry in entries.values() if len(entry["shape"]) > 1}
    assert kinds == {"F16"}


def test_statistics_are_not_those_of_a_folded_network() -> None:
    state = read_state(bundled_path("coco"))
    variances = [value for name, value in state.items() if name.endswith("running_var")]
    assert len(variances) == 76
    assert all(value.std() > 1e-4 for value in variances)


def test_v3_is_close_to_opencvs_reading_of_the_graph() -> None:
    path = bundled_path("coco-v3")
    spec = read_spec(path)
    network = build_network(spec.network).eval()
    load_state(network, read_state(path), path)
    with torch.no_grad():
        output = network(torch.from_numpy(preprocess_image(i1_image(7, 320, 320), spec.preprocess))[None])
    for row, (codes, column, logit) in V3_BY_OPENCV.items():
        np.testing.assert_allclose(output.box_codes[0, row], codes, atol=0.04)
        assert int(output.class_logits[0, row].argmax()) == column
        assert float(output.class_logits[0, row, column]) == pytest.approx(logit, abs=0.03)


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
