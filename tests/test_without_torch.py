"""Predicting, evaluating and measuring where torch is not installed; what needs it says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import singleshot
from singleshot.core.boxes import aligned_iou
from singleshot.core.lazy import has_torch, missing_torch, torch_error
from singleshot.errors import WeightsError
from singleshot.export.conversion import as_openvino
from singleshot.export.filled import filled_package, graph_path
from singleshot.runtime.openvino import OpenVinoEngine
from singleshot.weights.bundled import bundled_names, bundled_path
from singleshot.weights.file import read_numbers, read_spec, read_state, save_weights

skimage_data = pytest.importorskip("skimage.data")

BLOCKED = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NoTorch())
"""

CODE = """
import json, sys
import cv2
import singleshot
from singleshot.export import compiled

compiled._read_cached = lambda path: None  # what torch has converted before
photo, folder, backend = sys.argv[1:]
model = singleshot.load("coco")
found = model.predict(photo, 0.1, backend=backend, precision="fp32")
frames = [len(result.detections) for result in model.stream([photo, photo], 0.3, backend=backend)]
rows = list(singleshot.benchmark(model, batch_size=1, backend=backend, precision="fp32", seconds=0.01))
refused = {}
for name, call in {
    "train": lambda: singleshot.train(folder),
    "network": lambda: model.network,
    "save": lambda: model.save("never.safetensors"),
    "resized": lambda: model.resized(320),
    "anchors": lambda: model.anchors(),
    "preprocess": lambda: model.preprocess(photo),
    "import": lambda: singleshot.import_weights(photo),
    "explain": lambda: singleshot.explain(photo, model="coco"),
    "torch": lambda: model.predict(photo, backend="torch"),
    "architecture": lambda: singleshot.benchmark("ssd300_vgg16"),
}.items():
    try:
        call()
    except singleshot.MissingExtraError as error:
        refused[name] = [error.extra, str(error)]
print(json.dumps({
    "boxes": found.boxes_xyxy.tolist(), "scores": found.scores.tolist(), "ids": found.class_ids.tolist(),
    "frames": frames, "measured": [[row.backend, row.skipped] for row in rows],
    "refused": refused, "torch": sorted(name for name in sys.modules if name.split(".")[0] == "torch"),
}))
"""


def run(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("photo")
    photo = folder / "photo.png"
    import cv2

    cv2.imwrite(str(photo), skimage_data.astronaut()[..., ::-1])
    result: dict[str, Any] = json.loads(run(CODE, photo, folder, "onnx"))
    return result


def test_the_same_is_found_as_with_torch(without: dict[str, Any]) -> None:
    expected = singleshot.load("coco").predict(skimage_data.astronaut(), 0.1, backend="torch", precision="fp32")
    assert len(expected) > 2
    assert without["ids"] == expected.class_ids.tolist()
    assert np.allclose(without["scores"], expected.scores, atol=1e-4)
    assert aligned_iou(torch.tensor(without["boxes"]), torch.tensor(expected.boxes_xyxy)).min() > 0.999
    assert without["torch"] == []
    assert len(without["frames"]) == 2
    assert without["frames"][0] > 0
    assert [skipped for _, skipped in without["measured"]] == [""]
    assert without["measured"][0][0] == "onnx fp32"


def test_what_needs_torch_names_the_extra(without: dict[str, Any]) -> None:
    assert set(without["refused"]) == {
        *("train", "network", "save", "resized", "anchors", "preprocess", "import", "explain", "torch", "architecture")
    }
    assert {extra for extra, _ in without["refused"].values()} == {"train"}
    assert all("needs the package 'torch'" in message for _, message in without["refused"].values())


def test_the_command_line_names_the_extra(tmp_path: Path) -> None:
    code = """
from singleshot.cli import main
sys.argv = ["singleshot", "train", "photos"]
try:
    main()
except SystemExit as end:
    print(end.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.strip() == "2"
    assert done.stderr.startswith("Error: 'singleshot train' needs the package 'torch': pip install")
    assert "singleshot's extra 'train'" in done.stderr


def test_models_are_listed_and_shown() -> None:
    code = """
from singleshot.cli import app
for words in (["models"], ["models", "ssd300_vgg16"]):
    app(words, standalone_mode=False)
"""
    shown = " ".join(run(code).split())
    assert "ssdlite300_mobilenet_v2 300x300 coco, imagenet" in shown
    assert "input 300 x 300 (h x w), 20 classes" in shown
    assert "backbone vgg16_reduced, neck none" in shown
    assert shown.count("are not shown: counting them needs the package 'torch'") == 2


def test_another_missing_module_is_not_torch() -> None:
    assert has_torch()
    assert missing_torch("this") is None
    assert torch_error(ModuleNotFoundError("no torchvision", name="torchvision")) is None


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_detector_has_its_graph(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    package = filled_package(bundled_path(name))
    assert package is not None
    batch = np.random.default_rng(0).normal(size=(1, 3, *package.info.spec.preprocess.size_hw)).astype(np.float32)
    found = onnxruntime.InferenceSession(package.parts[0]).run(None, {"images": batch})
    with torch.inference_mode():
        expected = singleshot.load(name).network(torch.from_numpy(batch))
    for values, head in zip(found, expected, strict=True):
        assert np.abs(values - head.numpy()).max() < 1e-3


@pytest.mark.heavy
def test_the_bundled_graph_computes_the_same_in_openvino() -> None:
    pytest.importorskip("openvino")
    weights = bundled_path("coco")
    package = filled_package(weights)
    assert package is not None
    batch = np.random.default_rng(0).normal(size=(1, 3, *package.info.spec.preprocess.size_hw)).astype(np.float32)
    engine = OpenVinoEngine(as_openvino(package))
    _size, request = engine._request(1)
    request.infer([batch])
    with torch.inference_mode():
        expected = singleshot.load("coco").network(torch.from_numpy(batch))
    for tensor, head in zip(request.output_tensors, expected, strict=True):
        assert np.abs(tensor.data - head.numpy()).max() < 1e-3


def test_a_graph_of_other_weights_is_refused(tmp_path: Path) -> None:
    weights = Path(shutil.copy(bundled_path("coco"), tmp_path))
    assert filled_package(weights) is None
    shutil.copy(graph_path(bundled_path("coco")), graph_path(weights))
    spec = read_spec(weights)
    save_weights(weights, spec.model_copy(update={"name": "another"}), read_state(weights))
    with pytest.raises(WeightsError, match=r"coco\.graph: is the graph of other weights than .*coco\.safetensors"):
        filled_package(weights)


def test_numbers_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    spec = read_spec(bundled_path("coco"))
    values = torch.tensor([[1.5, -2.0], [0.25, 3e-3]])
    state = {"half": values.half(), "brain": values.bfloat16(), "single": values, "double": values.double()}
    path = save_weights(tmp_path / "some.safetensors", spec, {**state, "count": torch.tensor(3)})
    numbers = read_numbers(path)
    assert set(numbers) == set(state)
    for name, tensor in state.items():
        assert numbers[name].dtype == np.float32
        assert np.array_equal(numbers[name], tensor.float().numpy())
    save_weights(path, spec, {"bad": torch.tensor([float("nan")])})
    with pytest.raises(WeightsError, match="'bad' holds numbers that are not finite"):
        read_numbers(path)
