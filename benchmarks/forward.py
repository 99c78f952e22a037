"""The network of SSD300-VGG16 with 21 classes, from preprocessed images to raw heads, batch 1 and 8.

    python benchmarks/forward.py [--quick] [--json FILE]

The reference form is a plain network in float32 and NCHW under torch, as ssd.pytorch and torchvision run it. Ours is
what ``--backend torch`` and ``openvino`` run; no score passes the threshold, so that OpenVINO's postprocessing has
nothing to do. int8 is calibrated on noise: that would cost accuracy, not time. Each contender has the allocator's
settings that it has in a process of its own: ours keeps freed memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import loads
from common import Measured, Settings, compare, float_precisions, main, peak_flops, take_turns
from peers import torchvision_ssd
from reference_forms import PlainSsd300
from singleshot.images.read import write_image
from singleshot.models.build import build_network
from singleshot.models.network import Network
from singleshot.models.summary import count_flops
from singleshot.runtime.torch_forward import EagerForward, prepare_network

GOALS = {1: {"fp32": 1.5, "bf16": 3.0, "int8": 5.0}, 8: {"fp32": 1.8, "bf16": 3.5}}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TORCH, OPENVINO = "singleshot, torch {}", "singleshot, OpenVINO {}"
REFERENCE = "reference form, torch fp32 NCHW"


@torch.inference_mode()
def in_inference_mode(function: Callable[[Any], object], images: object) -> object:
    return function(images)


def openvino_backends(network: Network, threads: int) -> dict[str, Callable[[np.ndarray], object]]:
    """Compiled forms by precision."""
    from singleshot.export.conversion import convert_network
    from singleshot.export.quantize import quantize_package
    from singleshot.runtime.openvino import OpenVinoEngine

    spec = loads.spec()
    settings = spec.postprocess.model_copy(update={"score_threshold": 1.0})
    package = convert_network("openvino", network, spec)
    precisions = float_precisions()
    found = {precision: OpenVinoEngine(package, precision, threads=threads) for precision in precisions}
    if find_spec("nncf"):
        with tempfile.TemporaryDirectory() as folder:
            small = quantize_package(package, noise_images(Path(folder), 10))
        found["int8"] = OpenVinoEngine(small, precisions[-1], threads=threads)
    return {name: partial(engine.predict, settings=settings) for name, engine in found.items()}


def noise_images(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{index}.png" for index in range(count)]
    for path in paths:
        write_image(path, rng.integers(0, 256, (loads.SIDE, loads.SIDE, 3), dtype=np.uint8))
    return paths


def contenders(
    network: Network, compiled: dict[str, Callable[[np.ndarray], object]], batch: int
) -> dict[str, Callable[[], object]]:
    images = torch.randn(batch, 3, loads.SIDE, loads.SIDE, generator=torch.Generator().manual_seed(0)) * 60
    array, found = images.numpy(), {}
    for precision in float_precisions():
        ready = prepare_network(network, (loads.SIDE, loads.SIDE), torch.device("cpu"), precision)
        found[TORCH.format(precision)] = partial(in_inference_mode, EagerForward(ready, precision), array)
    found |= {OPENVINO.format(name): partial(predict, array) for name, predict in compiled.items()}
    found[REFERENCE] = partial(in_inference_mode, PlainSsd300(len(loads.CLASSES) + 1).eval(), images)
    if model := torchvision_ssd(len(loads.CLASSES) + 1):
        model.eval()
        found["torchvision"] = lambda: in_inference_mode(lambda x: model.head(list(model.backbone(x).values())), images)
    return found


def measure_row(settings: Settings) -> list[Measured]:
    """Seconds of a batch."""
    torch.manual_seed(0)
    network = build_network(loads.spec().network).eval()
    flops = count_flops(network, (loads.SIDE, loads.SIDE))
    peaks = {name: peak_flops(DTYPES[name]) for name in float_precisions()}
    lines = []
    for batch in settings.choose((1, 8), (1, 8), (1,)):
        compiled = openvino_backends(network, settings.threads) if find_spec("openvino") else {}
        seconds = take_turns(contenders(network, compiled, batch), settings.choose(11, 3, 1), own_memory=True)
        shares = {
            name: batch * flops / np.median(own) / peaks[name[-4:]]
            for name, own in seconds.items()
            if name.startswith("singleshot") and name[-4:] in peaks
        }
        goals = {(OPENVINO if name == "int8" else TORCH).format(name): goal for name, goal in GOALS[batch].items()}
        lines += compare(f"network, SSD300-VGG16, batch {batch}", seconds, goals=goals, shares=shares)
    return lines


if __name__ == "__main__":
    main(__doc__, measure_row)
