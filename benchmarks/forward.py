"""SSD300-VGG16, 21 classes: the network and its heads, by backend and precision, against torch eager.

    python benchmarks/forward.py

The baseline is torch eager in float32 with channels first, which is how ssd.pytorch and torchvision run it: the same
convolutions in the same order. int8 is calibrated on noise: that changes what it finds, not how long it takes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import common
from singleshot.backends.convert import convert_network
from singleshot.backends.openvino_backend import OpenVinoBackend
from singleshot.backends.package import Package
from singleshot.backends.quantize import quantize
from singleshot.detector import Detector
from singleshot.images import write_image
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec

GOALS = {
    ("openvino fp32", 1): 1.5,
    ("openvino bf16", 1): 3.0,
    ("openvino int8", 1): 5.0,
    ("openvino fp32", 8): 1.8,
    ("openvino bf16", 8): 3.5,
}


def int8(package: Package) -> Package:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.png" for index in range(10)]
        for path in paths:
            write_image(path, rng.integers(0, 256, (300, 300, 3), dtype=np.uint8))
        return quantize(package, paths)


def rivals(detector: Detector, package: Package, small: Package, batch: int) -> dict[str, Callable[[], object]]:
    images = np.random.default_rng(0).normal(0, 60, (batch, 3, 300, 300)).astype(np.float32)
    tensor = torch.from_numpy(images)
    last = tensor.contiguous(memory_format=torch.channels_last)
    network = detector.network

    def eager(x: torch.Tensor, bf16: bool = False) -> object:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return network(x)

    # A threshold that nothing passes: the heads are computed, NMS has nothing to do.
    settings = detector.spec.postprocess.model_copy(update={"score_threshold": 1.0})
    compiled = {
        f"{common.OURS}, openvino fp32": OpenVinoBackend(package, settings, "fp32"),
        f"{common.OURS}, openvino bf16": OpenVinoBackend(package, settings, "bf16"),
        f"{common.OURS}, openvino int8": OpenVinoBackend(small, settings, "bf16"),
    }
    calls: dict[str, Callable[[], object]] = {
        "torch eager fp32, as the peers run it": lambda: eager(tensor),
        f"{common.OURS}, torch fp32 channels_last": lambda: eager(last),
        f"{common.OURS}, torch bf16 channels_last": lambda: eager(last, bf16=True),
    }
    calls.update({name: lambda backend=backend: backend.predict(images) for name, backend in compiled.items()})
    return calls


def measure_row(settings: common.Settings) -> list[common.Measured]:
    """Seconds of the network by backend, precision and batch."""
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    torch.manual_seed(0)
    spec = model_spec("ssd300_vgg16", [f"class {index}" for index in range(20)])
    detector = Detector(spec, build_network(spec.network).state_dict())
    package = convert_network("openvino", detector.network, spec)
    small = int8(package)
    lines = []
    for batch in settings.choose((1, 8), (1, 8), (1,)):
        seconds = common.take_turns(rivals(detector, package, small, batch), settings.choose(9, 3, 1))
        goals = {f"{common.OURS}, {name}": goal for (name, size), goal in GOALS.items() if size == batch}
        lines += common.compare(f"SSD300-VGG16 forward, batch {batch}", seconds, goals=goals)
    return lines


if __name__ == "__main__":
    common.main(__doc__, measure_row)
