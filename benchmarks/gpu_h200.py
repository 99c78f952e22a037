"""Everything that needs a GPU, in one command; written for one H200.

    python benchmarks/gpu_h200.py [--data LABELLED_JPEGS] [--json FILE] [--rows training inference postprocess]

Training of SSD300-VGG16 and SSD300-ResNet50 in images a second (batch 128, bf16, channels_last, compiled), from memory
and from JPEG files; inference at batch 1, 8 and 64 as the torch backend does it (CUDA graphs), from preprocessed images
in host memory to heads and to detections; decoding and NMS on the GPU. Beside each: FLOPs, bytes, what they would take
at the peaks that this GPU reaches here, and the share reached.

``--device cpu --tiny`` runs the same code on a small network without a GPU. It shows that the script runs, no more.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import loads
from common import Measured, clock, machine, peak_flops, show, spread_of
from singleshot import data as datasets
from singleshot.augment.pipeline import Augmenter
from singleshot.core.structures import Batch, HeadOutput
from singleshot.export.graph_torch import postprocess_static
from singleshot.images.normalise import ImageNormalizer
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import ModelSpec
from singleshot.models.heads.multibox import set_class_prior
from singleshot.models.network import Network
from singleshot.models.summary import count_flops, count_parameters
from singleshot.multibox.loss import multibox_loss
from singleshot.runtime.torch_engine import TorchEngine
from singleshot.runtime.torch_forward import EagerForward, Forward, build_forward, prepare_network
from singleshot.training.loader import TrainLoader
from singleshot.training.loader_config import LoaderConfig
from singleshot.training.optimizer import build_optimizer
from singleshot.training.optimizer_config import OptimizerConfig

ROWS = ("training", "inference", "postprocess")
GOALS = {"training": 2200.0, "inference": 4000.0}
"""Images a second; and 1.5 ms for a single image."""


class Plan(NamedTuple):
    """What is measured, and where.

    Attributes:
        device: ``cuda`` or ``cpu``.
        models: their names.
        train_batch, batches: images at once.
        steps: timed steps or passes.
        data: labelled JPEG files.
        size_hw: network input; ``None`` is the model's own.
        compiled: whether training runs through ``torch.compile``.
        warm_up: steps or passes before the timed ones.
    """

    device: str = "cuda"
    models: tuple[str, ...] = ("ssd300_vgg16", "ssd300_resnet50")
    train_batch: int = 128
    batches: tuple[int, ...] = (1, 8, 64)
    steps: int = 30
    data: Path | None = None
    size_hw: tuple[int, int] | None = None
    compiled: bool = True
    warm_up: int = 3


TINY = Plan("cpu", ("ssdlite300_mobilenet_v2",), 2, (1, 2), 1, None, (64, 64), False, 0)


class Peaks(NamedTuple):
    """What the device reaches here: FLOP/s in bf16, bytes/s of a copy (read and written)."""

    flops: float
    bytes: float


class Work(NamedTuple):
    """What one pass has to do at least: operations, and bytes to and from the device's memory."""

    flops: float
    bytes: float

    def seconds(self, peaks: Peaks) -> float:
        """The roofline: the longer of both."""
        return max(self.flops / peaks.flops, self.bytes / peaks.bytes)


def measure_peaks(device: str, tiny: bool) -> Peaks:
    """A large bf16 matrix product, and a copy of a gigabyte."""
    flops = peak_flops(torch.bfloat16, device, 128 if tiny else 8192, 3 if tiny else 20)
    source = torch.empty((1 << 16) if tiny else (1 << 30), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = min(time_passes(lambda: target.copy_(source), 10, device, warm_up=3))
    return Peaks(flops, 2 * source.numel() / seconds)


def time_passes(run: Callable[[], object], count: int, device: str, warm_up: int) -> list[float]:
    """Seconds of each pass, the device's work included."""
    for _ in range(warm_up):
        run()
    seconds = []
    for _ in range(count):
        started = clock(device)
        run()
        seconds.append(clock(device) - started)
    return seconds


def activation_bytes(network: Network, size_hw: tuple[int, int], device: str) -> int:
    """Bytes that the convolutions of one image read and write in bf16, each tensor once."""
    count = 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal count
        count += 2 * (inputs[0].numel() + output.numel())

    handles = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(torch.zeros(1, 3, *size_hw, device=device).contiguous(memory_format=torch.channels_last))
    for handle in handles:
        handle.remove()
    return count


def work_of(network: Network, size_hw: tuple[int, int], batch: int, device: str, training: bool) -> Work:
    """Forward; with ``training`` also backward (twice the products) and the update (weights, gradients, momentum)."""
    flops, moved = count_flops(network, size_hw) * batch, activation_bytes(network, size_hw, device) * batch
    parameters = sum(count_parameters(network).values())
    return Work(3 * flops, 3 * moved + 20 * parameters) if training else Work(flops, moved + 2 * parameters)


def line(row: str, what: str, batch: int, seconds: list[float], work: Work, peaks: Peaks, goal: str = "") -> Measured:
    """Images a second, with the roofline beside."""
    rates = tuple(batch / value for value in seconds)
    least = work.seconds(peaks)
    limit = "FLOPs" if work.flops / peaks.flops >= work.bytes / peaks.bytes else "memory"
    note = (
        f"{median(seconds) * 1e3:.3f} ms a pass; {work.flops / 1e12:.3g} TFLOP, {work.bytes / 1e9:.3g} GB, roofline "
        f"{least * 1e3:.3f} ms ({limit}): {least / median(seconds):.0%} reached{goal}"
    )
    share = work.flops / median(seconds) / peaks.flops
    return Measured(row, what, median(rates), "img/s", spread_of(rates), share_of_peak=share, note=note, values=rates)


# Training.


def batches_in_memory(size_hw: tuple[int, int], batch: int, device: str) -> Iterator[Batch]:
    """The same uint8 batch again and again, already on the device."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, *size_hw), generator=generator).to(torch.uint8)
    objects = loads.objects(batch, generator)
    tensors = (images, objects.boxes_xyxy, objects.class_ids, objects.valid, torch.arange(batch))
    ready = Batch(*(tensor.to(device) for tensor in tensors))
    while True:
        yield ready


def batches_of_files(spec: ModelSpec, plan: Plan) -> Iterator[Batch]:
    """Decoded and augmented by worker processes, as ``singleshot train`` does."""
    found = datasets.open(str(plan.data))
    config = LoaderConfig(batch_size=plan.train_batch, pin_memory=plan.device == "cuda")
    return TrainLoader(found.samples, Augmenter("ssd", spec.preprocess.size_hw), config).stream()


def training_step(network: nn.Module, spec: ModelSpec, anchors: Tensor, plan: Plan) -> Callable[[Batch], Tensor]:
    """Copy, normalise, forward in bf16, loss, backward, fused SGD; no wait for the device."""
    device = torch.device(plan.device)
    optimizer = build_optimizer(network, OptimizerConfig(), 1e-6)
    normalize = ImageNormalizer(spec.preprocess, device, channels_last=True)
    forward = torch.compile(network) if plan.compiled else network

    def step(batch: Batch) -> Tensor:
        images, *objects = (tensor.to(device, non_blocking=True) for tensor in batch[:4])
        with torch.autocast(device.type, torch.bfloat16):
            output = forward(normalize(images))
        output = type(output)(*(tensor.float() for tensor in output))
        loss = multibox_loss(output, anchors, *objects, coder=spec.coder)["total"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def measure_training(plan: Plan, peaks: Peaks) -> list[Measured]:
    """Images a second of each model, from memory and from files."""
    lines = []
    for name in plan.models:
        spec, network, anchors = build(name, plan)
        size_hw = spec.preprocess.size_hw
        work = work_of(network, size_hw, plan.train_batch, plan.device, training=True)
        step = training_step(network.train(), spec, anchors, plan)
        sources = {"memory": batches_in_memory(size_hw, plan.train_batch, plan.device)}
        if plan.data:
            sources["JPEG files"] = batches_of_files(spec, plan)
        for source, stream in sources.items():
            for batch in islice(stream, plan.warm_up):
                step(batch)
            seconds = time_stream(step, stream, plan)
            row, goal = f"training, batch {plan.train_batch}", f"; goal {GOALS['training']:,.0f} img/s"
            lines.append(line(row, f"{name}, from {source}", plan.train_batch, seconds, work, peaks, goal))
    return lines


def time_stream(step: Callable[[Batch], Tensor], stream: Iterator[Batch], plan: Plan) -> list[float]:
    """Seconds a step in windows of steps: within a window nothing waits for the device, as in training."""
    window = max(1, plan.steps // 5)
    seconds = []
    for _ in range(0, plan.steps, window):
        started = clock(plan.device)
        for batch in islice(stream, window):
            step(batch)
        seconds.append((clock(plan.device) - started) / window)
    return seconds


# Inference.


def build(name: str, plan: Plan) -> tuple[ModelSpec, Network, Tensor]:
    """A model with random weights on the device."""
    spec = model_spec(name, loads.CLASSES, plan.size_hw)
    torch.manual_seed(0)
    network = build_network(spec.network)
    assert isinstance(network, Network)
    anchors = build_anchors(spec, network).to(plan.device)
    network = network.to(plan.device, memory_format=torch.channels_last).eval()
    return spec, network, anchors


@torch.no_grad()
def make_selective(network: Network, size_hw: tuple[int, int], device: str) -> None:
    """Have few candidates, as after training: random logits would send thousands of boxes into NMS."""
    set_class_prior(network.head)
    images = torch.randn(1, 3, *size_hw, generator=torch.Generator().manual_seed(0)).to(device)
    spread = network(images).class_logits.std(dim=1).mean()
    for predictor in network.head.logits:
        [module for module in predictor.modules() if isinstance(module, nn.Conv2d)][-1].weight /= spread


def measure_inference(plan: Plan, peaks: Peaks) -> list[Measured]:
    """What the torch backend does with preprocessed images in host memory, in bf16."""
    lines = []
    for name in plan.models:
        spec, network, anchors = build(name, plan)
        size_hw = spec.preprocess.size_hw
        make_selective(network, size_hw, plan.device)
        for batch in plan.batches:
            work = work_of(network, size_hw, batch, plan.device, training=False)
            for what, run in passes(spec, network, anchors, batch, plan.device).items():
                seconds = time_passes(run, plan.steps, plan.device, plan.warm_up)
                goal = f"; goal {GOALS['inference']:,.0f} img/s" if batch == 64 else "; goal 1.5 ms" * (batch == 1)
                lines.append(line(f"inference {name}, batch {batch}", what, batch, seconds, work, peaks, goal))
    return lines


def passes(
    spec: ModelSpec, network: Network, anchors: Tensor, batch: int, device: str
) -> dict[str, Callable[[], object]]:
    """Launched one by one; as the backend runs it (a CUDA graph on a GPU); and up to detections in host memory."""
    size_hw = spec.preprocess.size_hw
    host = np.random.default_rng(0).normal(0, 1, (batch, 3, *size_hw)).astype(np.float32)
    where = torch.device(device)
    eager = EagerForward(prepare_network(network, size_hw, where, "bf16"), "bf16")
    forward = build_forward(network, size_hw, where, "bf16", compiled=False)
    compiled = build_forward(network, size_hw, where, "bf16", compiled=True) if device == "cuda" else None
    settings = spec.postprocess.model_copy(update={"score_threshold": spec.default_score})

    @torch.inference_mode()
    def heads(run: Forward) -> object:
        return run(host)

    def detections(run: Forward) -> Callable[[], object]:
        engine = TorchEngine(run, anchors, spec.coder, len(spec.class_names))
        return lambda: engine.predict(host, settings)

    found: dict[str, Callable[[], object]] = {"bf16, host to heads, eager": lambda: heads(eager)}
    for name, run in {"": forward, ", compiled": compiled}.items():
        if run is not None:
            found[f"bf16, host to heads{name}"] = lambda run=run: heads(run)
            found[f"bf16, host to detections{name}"] = detections(run)
    return found


def measure_postprocess(plan: Plan, peaks: Peaks) -> list[Measured]:
    """Softmax, decoding and NMS with fixed shapes, on heads with about 840 candidates an image."""
    lines = []
    spec, _, anchors = build(plan.models[0], plan)
    for batch in plan.batches:
        generator = torch.Generator().manual_seed(0)
        heads = loads.crowded_heads(batch, len(anchors), min(840, len(anchors)), generator)
        output = HeadOutput(*(tensor.to(plan.device) for tensor in heads))

        def run(output: HeadOutput = output) -> object:
            return postprocess_static(output, anchors, spec.postprocess, spec.coder, spec.preprocess.size_hw)

        seconds = time_passes(run, plan.steps, plan.device, plan.warm_up)
        work = Work(0, 4 * (heads[0].numel() + heads[1].numel()))
        lines.append(line("postprocess", f"singleshot static, batch {batch}", batch, seconds, work, peaks))
    return lines


MEASURES = {"training": measure_training, "inference": measure_inference, "postprocess": measure_postprocess}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a small network and few steps: does the script run?")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--models", nargs="+", help="default: ssd300_vgg16 ssd300_resnet50")
    parser.add_argument("--data", type=Path, help="labelled JPEG files; without them nothing is trained from files")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "gpu_h200.py: torch sees no GPU here. Run it on a machine with an NVIDIA GPU and a CUDA build of torch, or "
            "try whether it runs with --device cpu --tiny.",
            file=sys.stderr,
        )
        return 2
    plan = (TINY if options.tiny else Plan())._replace(device=options.device, data=options.data)
    plan = plan._replace(models=tuple(options.models or plan.models))
    torch.backends.cudnn.benchmark = True
    started = time.perf_counter()
    peaks = measure_peaks(plan.device, options.tiny)
    print(f"peaks here: {peaks.flops / 1e12:.3g} TFLOP/s in bf16, {peaks.bytes / 1e9:.4g} GB/s", flush=True)
    lines = []
    for name in options.rows:
        print(f"{name} ... ({time.perf_counter() - started:.0f} s)", file=sys.stderr, flush=True)
        lines += MEASURES[name](plan, peaks)
    show(lines, {} if plan.data else {"training from JPEG files": "it needs --data FOLDER"})
    if options.json:
        content = {
            "machine": machine(torch.get_num_threads()),
            "peaks": peaks._asdict(),
            "rows": [one._asdict() for one in lines],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
