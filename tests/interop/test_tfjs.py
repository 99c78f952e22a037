"""The TensorFlow.js importer: its container, its errors, and parity with the real runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from singleshot.core.class_names import COCO_IDS, COCO_NAMES
from singleshot.errors import WeightsError
from singleshot.images.read import read_image
from singleshot.interop.calibrate import restore_statistics
from singleshot.interop.importers import IMPORTERS, ForeignFile
from singleshot.interop.read import read_foreign
from singleshot.interop.tensorflow.tfjs import read, read_arrays
from singleshot.models.build import build_anchors, build_network
from singleshot.models.network import Network
from singleshot.multibox.decode import postprocess
from singleshot.weights.file import load_state

FOLDER = "weights/ssdlite_mobilenet_v2_coco_tfjs"


def write_model(folder: Path, weights: list[dict[str, Any]], *shards: bytes) -> Path:
    names = [f"group1-shard{index}" for index in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        (folder / name).write_bytes(shard)
    manifest = [{"paths": names, "weights": weights}]
    path = folder / "model.json"
    path.write_text(json.dumps({"modelTopology": {"node": []}, "weightsManifest": manifest}))
    return path


def entry(name: str, shape: list[int], dtype: str = "float32", **more: object) -> dict[str, Any]:
    return {"name": name, "shape": shape, "dtype": dtype, **more}


def test_no_weights(tmp_path: Path) -> None:
    assert read_arrays(write_model(tmp_path, [])) == {}


def test_entries_may_lie_across_shards(tmp_path: Path) -> None:
    data = np.arange(4, dtype="<f4").tobytes() + np.array([7], dtype="<i4").tobytes() + b"\x01\x00"
    weights = [entry("a", [2, 2]), entry("b", [], "int32"), entry("c", [2], "bool"), entry("d", [0, 3])]
    arrays = read_arrays(write_model(tmp_path, weights, data[:5], data[5:17], data[17:]))
    assert arrays["a"].tolist() == [[0, 1], [2, 3]]
    assert arrays["b"].item() == 7
    assert arrays["c"].tolist() == [1, 0]
    assert arrays["d"].shape == (0, 3)


@pytest.mark.parametrize(("kind", "dtype"), [("uint8", "u1"), ("uint16", "<u2")])
def test_quantised_entries(tmp_path: Path, kind: str, dtype: str) -> None:
    weights = [entry("a", [3], quantization={"dtype": kind, "scale": 0.5, "min": -1.0})]
    arrays = read_arrays(write_model(tmp_path, weights, np.array([0, 2, 200], dtype=dtype).tobytes()))
    assert arrays["a"].dtype == np.float32
    assert arrays["a"].tolist() == [-1.0, 0.0, 99.0]


@pytest.mark.parametrize("scale", [1e300, 3e38])
def test_numbers_too_large_for_float32_are_infinite_without_a_warning(tmp_path: Path, scale: float) -> None:
    weights = [entry("a", [2], quantization={"dtype": "uint8", "scale": scale, "min": 0.0})]
    array = read_arrays(write_model(tmp_path, weights, bytes([255, 200])))["a"]
    assert np.isinf(array).all()


@pytest.mark.parametrize(
    ("weights", "data", "message"),
    [
        ([entry("a", [2])], b"1234", "shard is truncated"),
        ([entry("a", [1])], b"12345678", "damaged or of another model"),
        ([entry("a", [1 << 40])], b"1234", "shard is truncated"),
        ([entry("a", [-1])], b"", "impossible shape"),
        ([entry("a", [1], "complex64")], b"12345678", "unknown type"),
        ([{"name": "a"}], b"", "damaged weights manifest"),
        (["a"], b"", "damaged weights manifest"),
    ],
)
def test_damaged_manifests(tmp_path: Path, weights: list[Any], data: bytes, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_arrays(write_model(tmp_path, weights, data))


def test_shards_outside_the_folder_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path, [])
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["paths"] = ["../secret"]
    path.write_text(json.dumps(model))
    with pytest.raises(WeightsError, match="not a plain file name"):
        read_arrays(path)


def test_missing_parts(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        read(tmp_path)
    path = write_model(tmp_path, [entry("a", [1])], b"1234")
    (tmp_path / "group1-shard1").unlink()
    with pytest.raises(WeightsError, match=r"shard of model\.json is missing"):
        read_arrays(path)
    path.write_text("{")
    with pytest.raises(WeightsError, match="graph model, or damaged"):
        read_arrays(path)
    path.write_text("[" * 100_000)
    with pytest.raises(WeightsError, match="graph model, or damaged"):
        read_arrays(path)


def test_another_network(tmp_path: Path) -> None:
    write_model(tmp_path, [entry("dense/kernel", [1])], b"1234")
    assert IMPORTERS.get("tfjs").recognises(ForeignFile(tmp_path))
    with pytest.raises(WeightsError, match="not an SSD that is known; supported are"):
        read_foreign(tmp_path)


def test_unrecognised(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not recognised"):
        read_foreign(tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        read_foreign(tmp_path / "none")
    with pytest.raises(WeightsError, match="no importer 'x'"):
        read_foreign(tmp_path, "x")


# ---- the real model, against outputs of the real runtime ----


@pytest.fixture(scope="module")
def golden(reference: Path) -> dict[str, np.ndarray]:
    with np.load(reference / "golden/weights/tfjs_ssdlite_mobilenet_v2_coco.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def imported(reference: Path) -> tuple[Any, Network]:
    spec, state, report = read_foreign(reference / FOLDER)
    assert report.left_over == ()
    assert report.missing == ()
    network = build_network(spec.network).eval()
    load_state(network, state)
    return spec, network


def legacy_resize(image: np.ndarray, size: int) -> np.ndarray:
    """TensorFlow 1's bilinear written from its definition: source = destination * in / out, x first, then y."""

    def taps(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        source = np.arange(size, dtype=np.float32) * (np.float32(length) / np.float32(size))
        low = np.floor(source).astype(int)
        return low, np.minimum(low + 1, length - 1), source - low.astype(np.float32)

    pixels = image.astype(np.float32)
    (top, bottom, down), (left, right, across) = taps(image.shape[0]), taps(image.shape[1])
    rows = [pixels[row][:, left] + (pixels[row][:, right] - pixels[row][:, left]) * across[:, None]
            for row in (top, bottom)]  # fmt: skip
    return rows[0] + (rows[1] - rows[0]) * down[:, None, None]


def network_input(reference: Path, golden: dict[str, np.ndarray], index: int) -> torch.Tensor:
    image = read_image(reference / "data/coco_train343/images" / str(golden["files"][index]))
    assert int(image.sum()) == golden[f"i{index}_pixel_sum"], "the JPEG decoder differs from the golden file's"
    values = legacy_resize(image, 300) * np.float32(2 / 255) - np.float32(1)
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    np.testing.assert_array_equal(planes[:, :16, :16], golden[f"i{index}_input_corner"])
    return torch.from_numpy(planes)[None]


def test_spec(imported: tuple[Any, Network]) -> None:
    spec, _ = imported
    assert spec.class_names == COCO_NAMES
    assert spec.class_ids == spec.postprocess.class_columns == COCO_IDS
    assert (spec.coder.order, spec.postprocess.score_function) == ("yxhw", "sigmoid")
    assert (spec.preprocess.resize, spec.network.head.logits) == ("linear_legacy", 91)


def test_anchors_equal_the_graphs_constant(imported: tuple[Any, Network], golden: dict[str, np.ndarray]) -> None:
    spec, network = imported
    x, y, w, h = (build_anchors(spec, network) / 300).T
    corners_yx = torch.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], dim=1)
    np.testing.assert_allclose(corners_yx, golden["anchors"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_raw_heads_and_detections(
    imported: tuple[Any, Network], golden: dict[str, np.ndarray], reference: Path, index: int
) -> None:
    spec, network = imported
    with torch.no_grad():
        output = network(network_input(reference, golden, index))
    np.testing.assert_allclose(output.box_codes[0], golden[f"i{index}_loc"], rtol=0, atol=1.5e-4)
    np.testing.assert_allclose(output.class_logits[0], golden[f"i{index}_cls"], rtol=0, atol=1.5e-4)
    anchors = build_anchors(spec, network)
    found = postprocess(output, anchors, spec.postprocess, spec.coder, (300, 300), 80)
    count = int(found.counts[0])
    assert count == len(golden[f"i{index}_det_scores"])
    np.testing.assert_allclose(found.scores[0, :count], golden[f"i{index}_det_scores"], rtol=0, atol=1e-5)
    ids = [COCO_IDS[class_id] for class_id in found.class_ids[0, :count].tolist()]
    boxes_yx = (found.boxes_xyxy[0, :count] / 300)[:, [1, 0, 3, 2]].numpy()
    ours = sorted(zip(ids, boxes_yx.round(3).tolist(), strict=True))
    theirs = sorted(
        zip(golden[f"i{index}_det_classes"].tolist(), golden[f"i{index}_det_boxes"].round(3).tolist(), strict=True)
    )
    assert [row[0] for row in ours] == [row[0] for row in theirs]
    np.testing.assert_allclose([row[1] for row in ours], [row[1] for row in theirs], rtol=0, atol=1.1e-3)


def test_restored_statistics_keep_the_function(
    imported: tuple[Any, Network], golden: dict[str, np.ndarray], reference: Path
) -> None:
    spec, _ = imported
    network = build_network(spec.network).eval()
    load_state(network, read(reference / FOLDER)[1])
    images = torch.cat([network_input(reference, golden, index) for index in range(3)])
    with torch.no_grad():
        before = network(images)
        restore_statistics(network, [images])
        after = network(images)
    for ours, theirs in zip(after, before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-4)
    # In training mode the same batch now gives about the same numbers.
    with torch.no_grad():
        trained = network.train()(images)
    assert (trained.class_logits - before.class_logits).abs().mean() < 0.05 * before.class_logits.abs().mean()
