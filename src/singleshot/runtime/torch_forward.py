"""How torch runs a network: prepared for a device and precision, then plainly, compiled, or as a CUDA graph."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from singleshot.core.memory import keep_freed_memory
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.errors import ConfigError
from singleshot.kernels.library import processor_flags
from singleshot.models.network import Network
from singleshot.runtime.base import FloatPrecision
from singleshot.runtime.fold import CONVOLUTIONS, eval_copy, fold_batch_norms, use_winograd

Output = HeadOutput | RefineOutput
Compute = Callable[[], Output]
Capture = Callable[[Compute], Compute]
"""Makes of a computation on fixed buffers one that does the same, quicker; its result lives in fixed buffers, too."""

WARM_UP = 3
"""Runs before a capture: libraries choose their algorithms and take their memory in the first ones."""


class Forward(Protocol):
    """From a preprocessed batch to raw heads.

    Attributes:
        name: for people.
        device: where the heads are.
        lock: to be held from the call until the heads have been read.
    """

    name: str
    device: torch.device
    lock: AbstractContextManager[object]

    def __call__(self, batch: NDArray[np.float32]) -> Output:
        """Heads of a batch ``[B, 3, H, W]``."""


def prepare_network(
    network: Network, size_hw: tuple[int, int], device: torch.device, precision: FloatPrecision, compiled: bool = False
) -> Network:
    """A copy that computes the same, sooner: BatchNorm folded, weights where and as they are needed, Winograd on CPUs.

    Tensors that need no change are shared with the network; the network itself stays as it is.

    Args:
        network: what to copy.
        size_hw: of its images.
        device: for the copy.
        precision: ``bf16`` keeps the weights of convolutions so; else autocast would convert them for every batch. CPUs
            without matrix units compute the 3x3 ones in float32 all the same: by Winograd that is quicker.
        compiled: whether torch compiles it, which it cannot where a kernel of ours runs.
    """
    network = eval_copy(network)
    fold_batch_norms(network, network.backbone.in_channels, size_hw)
    in_float32: set[nn.Module] = set()
    if device.type == "cpu" and not compiled and (precision == "fp32" or "amx_bf16" not in processor_flags()):
        in_float32.update(use_winograd(network, network.backbone.in_channels, size_hw))
    for module in network.modules():
        is_low = precision == "bf16" and type(module) in (*CONVOLUTIONS, nn.ConvTranspose2d, nn.Linear)
        is_low = is_low and module not in in_float32
        for name, weight in list(module.named_parameters(recurse=False)):
            moved = weight.detach().to(device, torch.bfloat16 if is_low else weight.dtype)
            if device.type == "cuda" and moved.ndim == 4:
                moved = moved.contiguous(memory_format=torch.channels_last)
            setattr(module, name, nn.Parameter(moved, requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffer.to(device))
    return network


def build_forward(
    network: Network, size_hw: tuple[int, int], device: torch.device, precision: FloatPrecision, compiled: bool
) -> Forward:
    """The quickest way to run a network on a device.

    Raises:
        ConfigError: nothing can be compiled here.
    """
    if compiled:
        check_compiler(device)
    if device.type == "cpu":
        keep_freed_memory()
    ready = prepare_network(network, size_hw, device, precision, compiled)
    name = f"torch {precision}" + f" {device}" * (device.type != "cpu") + " compiled" * compiled
    if device.type == "cuda":
        return StaticForward(_compiled(ready) if compiled else ready, device, precision, capture_graph, name)
    if compiled:
        return StaticForward(_compiled(ready), device, precision, capture_nothing, name)
    return EagerForward(ready, precision, name)


class EagerForward:
    """Runs a network as it is, on the device of its parameters; any batch, from any thread.

    Args:
        network: in eval mode.
        precision: ``bf16`` computes the convolutions in bfloat16 (autocast).
        name: for people.
    """

    def __init__(self, network: nn.Module, precision: FloatPrecision = "fp32", name: str = "torch fp32") -> None:
        self.name = name
        self.device = next(network.parameters()).device
        self.lock: AbstractContextManager[object] = nullcontext()
        self._network = network
        self._precision = precision

    def __call__(self, batch: NDArray[np.float32]) -> Output:
        """Heads of a batch ``[B, 3, H, W]``."""
        return _run(self._network, torch.from_numpy(batch).to(self.device), self._precision)


class _Recording(NamedTuple):
    """Buffers of one batch shape, and what to run once they are filled.

    Attributes:
        host: where a batch is put; page-locked for a GPU.
        images: what the network reads; on a CPU the same.
        replay: gives the heads of ``images``.
    """

    host: Tensor
    images: Tensor
    replay: Compute


class StaticForward:
    """Runs batches through fixed buffers, so that what they launch is compiled or recorded once for each shape.

    A batch smaller than a recorded one is computed with that (a folder's last batch would not be worth a recording);
    the rows beyond it hold whatever was there before, and their heads are cut off.

    Args:
        network: in eval mode, on the device.
        device: of the network.
        precision: ``bf16`` computes the convolutions in bfloat16 (autocast).
        capture: records a computation.
        name: for people.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Output],
        device: torch.device,
        precision: FloatPrecision,
        capture: Capture,
        name: str,
    ) -> None:
        self.name = name
        self.device = device
        self.lock: AbstractContextManager[object] = threading.Lock()
        self._network = network
        self._precision = precision
        self._capture = capture
        self._recordings: dict[tuple[int, ...], _Recording] = {}

    def __call__(self, batch: NDArray[np.float32]) -> Output:
        """Heads of a batch ``[B, 3, H, W]``; they are overwritten by the next call."""
        count = len(batch)
        with _on(self.device):
            recording = self._recording(batch.shape)
            recording.host[:count].copy_(torch.from_numpy(batch))
            if recording.images is not recording.host:
                recording.images.copy_(recording.host, non_blocking=True)
            output = recording.replay()
        return type(output)(*(tensor[:count] for tensor in output))

    def _recording(self, shape: tuple[int, ...]) -> _Recording:
        """The smallest one that a batch fits in; a new one where none is."""
        fitting = [size for size in self._recordings if size[0] >= shape[0] and size[1:] == shape[1:]]
        if fitting:
            return self._recordings[min(fitting)]
        host = torch.zeros(shape, pin_memory=self.device.type == "cuda")
        images = host.to(self.device)
        replay = self._capture(lambda: _run(self._network, images, self._precision))
        self._recordings[shape] = _Recording(host, images, replay)
        return self._recordings[shape]


def capture_graph(compute: Compute) -> Compute:
    """Record what a computation launches on the current GPU as a CUDA graph. (CUDA only.)"""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch's own gap
    side.wait_stream(torch.cuda.current_stream())
    # TF32 is not what "fp32" promises. The fastest algorithms are worth a search, since they are kept.
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                compute()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            output = compute()

    def replay() -> Output:
        graph.replay()
        return output

    return replay


def capture_nothing(compute: Compute) -> Compute:
    """Compute anew each time: a compiled network on a CPU wants fixed shapes, not a recording."""
    return compute


def check_compiler(device: torch.device) -> None:
    """Look for what ``torch.compile`` needs.

    Raises:
        ConfigError: it is missing.
    """
    default = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", default)
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"`compile=True` needs a C++ compiler, and '{compiler}' is not there: install one (Debian and Ubuntu: "
            "apt install g++) or name it in CXX, or leave `compile=True` out"
        )
    if device.type == "cuda" and find_spec("triton") is None:
        raise ConfigError("`compile=True` on a GPU needs triton: pip install triton, or leave `compile=True` out")
    if device.type == "mps":
        raise ConfigError("`compile=True` runs on cpu and cuda, not on mps: leave one of the two out")


def _compiled(network: nn.Module) -> Callable[[Tensor], Output]:
    run = torch.compile(network, dynamic=False)

    def checked(images: Tensor) -> Output:
        try:
            output: Output = run(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            problem = f"`compile=True`: torch cannot compile this network here ({reason}): leave it out"
            raise ConfigError(problem) from error
        return output

    return checked


def _run(network: Callable[[Tensor], Output], images: Tensor, precision: FloatPrecision) -> Output:
    # Convolutions are quickest with the channels innermost.
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        return network(images)


def _on(device: torch.device) -> AbstractContextManager[object]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
