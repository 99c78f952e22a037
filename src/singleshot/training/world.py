"""The processes that learn together, one a device: what each of them says to the others.

One process alone says nothing: then all of this costs nothing. Numbers travel as tensors and text as bytes; nothing
that comes from another process is unpickled.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from singleshot.core.wording import counted
from singleshot.errors import ConfigError, SingleshotError

TOLD_BY_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = timedelta(hours=12)
"""The first process measures and reports while others wait; one that died is noticed by its connection, not by this."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class World:
    """Who learns together.

    Attributes:
        rank: number of this process, 0..size-1; the first one prints and writes.
        size: of them all.
        local_size: of those on this machine.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Which of ``count`` things in a row are this process's; the parts differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    @torch.no_grad()
    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over all processes, on the tensor's device, without gradient."""
        if self.size == 1:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    @torch.no_grad()
    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their means over all processes."""
        if self.size == 1 or not tensors:
            return
        mean = self.sum(torch.cat([tensor.flatten() for tensor in tensors])) / self.size
        for tensor, part in zip(tensors, torch.split(mean, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    @torch.no_grad()
    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, which have one shape, by rank."""
        if self.size == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return parts

    def gather_bytes(self, content: bytes) -> list[bytes]:
        """The bytes of all processes, by rank."""
        if self.size == 1:
            return [content]
        sizes = [int(size) for size in self.gather(torch.tensor([len(content)]))]
        padded = torch.zeros(max(sizes), dtype=torch.uint8)
        padded[: len(content)] = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)[: len(content)]
        return [bytes(part[:size].numpy()) for part, size in zip(self.gather(padded), sizes, strict=True)]

    def first(self, value: Value) -> Value:
        """What the first process says, which can be JSON; the others' ``value`` is not looked at."""
        if self.size == 1:
            return value
        content = json.dumps(value).encode() if self.is_first else b""
        said: Value = json.loads(self.gather_bytes(content)[0])
        return said

    def first_number(self, number: float) -> float:
        """The same for a number, in one message."""
        if self.size == 1:
            return number
        return self.sum(torch.tensor(number if self.is_first else 0.0, dtype=torch.float64)).item()

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag))))

    def parallel(self, network: nn.Module, device: torch.device) -> nn.Module:
        """A network that begins as the first process's and whose gradients become those of all processes together.

        They are means (`DistributedDataParallel`), and travel while the rest is still computed.
        """
        if self.size == 1:
            return network
        devices = [device] if device.type == "cuda" else None
        with warnings.catch_warnings():  # torch 2.13 calls broadcast_buffers old; 2.6 knows no other word
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(network, devices, broadcast_buffers=False, gradient_as_bucket_view=True)


ALONE = World()


class StoppedError(SingleshotError):
    """This process ended because another one of its run did, which says why."""


class LostError(SingleshotError):
    """Another process of the run is gone, or cannot be reached any more."""


def gathering(network: object, wanted: bool) -> AbstractContextManager[None]:
    """The context of a forward and backward pass after which gradients are of all processes, or still of this one."""
    return nullcontext() if wanted or not isinstance(network, DistributedDataParallel) else network.no_sync()


def in_world() -> bool:
    """Whether torchrun, or what starts processes as it does, has started this one."""
    return all(name in os.environ for name in TOLD_BY_TORCHRUN)


@contextmanager
def open_world(device: torch.device) -> Iterator[World]:
    """Meet the processes that torchrun has started with this one; alone where it has not.

    Args:
        device: of this process: GPUs talk by NCCL, CPUs by Gloo.

    Raises:
        ConfigError: they cannot talk to each other.
    """
    if not in_world() or int(os.environ["WORLD_SIZE"]) < 2:
        yield ALONE
        return
    owns = not dist.is_initialized()
    if owns:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            store, rank, size = next(rendezvous("env://"))
            # After a restart the agent's store still has the addresses of processes that are gone.
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = dist.PrefixStore(f"restart-{attempt}", store)  # type: ignore[attr-defined]
            dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=rank, world_size=size)
        except (RuntimeError, ValueError) as error:
            others = counted(int(os.environ["WORLD_SIZE"]) - 1, "other process", "other processes")
            raise ConfigError(
                f"`devices`: no connection to {others} by {backend}: {str(error).splitlines()[0]}. If the network is "
                "the wrong one, name it in the environment: GLOO_SOCKET_IFNAME=lo (NCCL_SOCKET_IFNAME for GPUs)"
            ) from error
    yield World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    if owns:  # after an error the others may wait, which ends when this process does
        dist.destroy_process_group()


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    text = str(error).lower()
    return (
        isinstance(error, RuntimeError)
        and not isinstance(error, SingleshotError)
        and any(word in text for word in ("gloo", "nccl", "connection", "socket", "processgroup"))
    )


def parameters_bytes(network: nn.Module) -> int:
    """Bytes of a network's gradients, which each device sends and receives about twice in a step (ring all-reduce)."""
    return sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
