"""One training step of SSD300-VGG16, batch 8, 21 classes: forward, loss, backward, SGD; images already in memory.

    python benchmarks/train_step.py [--quick] [--json FILE]

Ours is what ``singleshot train`` does: uint8 images normalised, channels_last, fused AdamW, and on CPUs float32 with
our 3x3 convolutions, or bf16 autocast where the processor has matrix units for it. The reference form is a plain
network in float32 and NCHW with the plain loss and plain SGD. Each contender has the allocator settings that it has in
a process of its own: ours keeps freed memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import loads
from common import Measured, Settings, compare, float_precisions, main, peak_flops, take_turns
from peers import torchvision_ssd
from reference_forms import PlainSsd300, loss_ssd_pytorch_form
from singleshot.core.settings import LossConfig, MatchConfig
from singleshot.images.normalise import ImageNormalizer
from singleshot.models.build import build_network
from singleshot.models.fast_conv.training import winograd_share
from singleshot.models.network import Network
from singleshot.models.summary import count_flops
from singleshot.multibox.loss import multibox_loss
from singleshot.training.optimizer import build_optimizer
from singleshot.training.optimizer_config import OptimizerConfig
from singleshot.training.precision import Amp, choose_amp, precision_of

GOAL = 2.3
FORWARD_AND_BACKWARD = 3
"""A backward pass takes two products where the forward pass takes one."""

Step = Callable[[], float]


class Load:
    """A batch: uint8 images and objects."""

    def __init__(self, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (batch, 3, loads.SIDE, loads.SIDE), generator=generator).to(torch.uint8)
        self.objects = loads.objects(batch, generator)
        self.anchors = loads.anchors()


def ours(load: Load, amp: Amp) -> Step:
    """The engine's parts, put together as the trainer does; the learning rate is so small that nothing diverges."""
    spec, device = loads.spec(), torch.device("cpu")
    torch.manual_seed(0)
    network = build_network(spec.network).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(network, OptimizerConfig(), 1e-6)
    normalize = ImageNormalizer(spec.preprocess, device, channels_last=True)
    precision = precision_of(amp)

    def step() -> float:
        with precision.forward(device):
            output = network(normalize(load.images))
        output = type(output)(*(tensor.float() for tensor in output))
        losses = multibox_loss(output, load.anchors, *load.objects, match=MatchConfig(), loss=LossConfig())
        losses["total"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(losses["total"].detach())

    return step


def plain_sgd(network: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4, foreach=False)


def normalized(load: Load) -> Tensor:
    return load.images.float() - torch.tensor([123.0, 117.0, 104.0]).view(-1, 1, 1)


def reference(load: Load) -> Step:
    """Plain network, loss and update, as in ssd.pytorch."""
    torch.manual_seed(0)
    network = PlainSsd300(len(loads.CLASSES) + 1)
    optimizer = plain_sgd(network)
    boxes, labels = load.objects.lists()

    def step() -> float:
        optimizer.zero_grad()
        loss = sum(loss_ssd_pytorch_form(network(normalized(load)), load.anchors, boxes, labels))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def torchvision(load: Load, model: torch.nn.Module) -> Step:
    """torchvision's detector in training mode, which resizes and normalises itself."""
    optimizer = plain_sgd(model.train())
    boxes, labels = load.objects.lists()
    targets = [{"boxes": own, "labels": label + 1} for own, label in zip(boxes, labels, strict=True)]

    def step() -> float:
        optimizer.zero_grad()
        loss = sum(model(list(load.images.float() / 255), targets).values())
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def step_flops(batch: int) -> int:
    """Floating-point operations of the convolutions of a step."""
    with torch.device("meta"):
        network = build_network(loads.spec().network)
    assert isinstance(network, Network)
    network = network.to_empty(device="cpu")
    return FORWARD_AND_BACKWARD * batch * count_flops(network, (loads.SIDE, loads.SIDE))


def contenders(load: Load) -> dict[str, Step]:
    """Everybody's step; ours in the number format that training chooses comes first."""
    spec = loads.spec()
    network = build_network(spec.network)
    assert isinstance(network, Network)
    amp = choose_amp("auto", torch.device("cpu"), winograd_share(network, spec.preprocess.size_hw))
    found = {
        f"singleshot, {name}": ours(load, name) for name in sorted(float_precisions(), key=lambda name: name != amp)
    }
    found["reference form, ssd.pytorch"] = reference(load)
    if model := torchvision_ssd(len(loads.CLASSES) + 1):
        found["torchvision"] = torchvision(load, model)
    return found


def measure_row(settings: Settings) -> list[Measured]:
    """Seconds of a step."""
    batch = settings.choose(8, 8, 1)
    found = contenders(Load(batch))
    side = settings.choose(2048, 2048, 256)
    peaks = {name: peak_flops(torch.bfloat16 if "bf16" in name else torch.float32, side=side) for name in found}
    flops = step_flops(batch)
    notes = {name: f"{flops / 1e9:,.0f} GFLOP; peak {peak / 1e9:,.0f} GFLOP/s" for name, peak in peaks.items()}
    seconds = take_turns(found, settings.choose(5, 2, 1), own_memory=True)
    shares = {name: flops / min(values) / peaks[name] for name, values in seconds.items()}
    goals = {next(iter(found)): GOAL}
    return compare(f"training step, batch {batch}", seconds, goals=goals, shares=shares, notes=notes)


if __name__ == "__main__":
    main(__doc__, measure_row)
