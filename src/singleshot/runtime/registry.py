"""What may be asked of a runtime, what was decided, and the runtimes that there are: ours, and other packages'."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from singleshot.core.registry import Registry
from singleshot.errors import ConfigError, SingleshotError
from singleshot.runtime.base import Engine, FloatPrecision
from singleshot.runtime.device import check_device
from singleshot.runtime.source import Source

AUTO = "auto"
PRECISIONS = (AUTO, "fp32", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a runtime. Thresholds are no part of it: they come with each call.

    Attributes:
        backend: name of a runtime; ``auto`` leaves the choice.
        precision: ``auto``, ``fp32``, ``bf16``, ``int8``.
        parallel: whether throughput counts, or the latency of one batch.
        is_long: whether so many images will come that a conversion pays; for ``auto``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        compile: whether torch compiles the network.

    Raises:
        ConfigError: no such backend, precision or device.
    """

    backend: str = AUTO
    precision: str = AUTO
    parallel: bool = False
    is_long: bool = False
    device: str = AUTO
    compile: bool = False

    def __post_init__(self) -> None:
        for name, value, example in (
            ("backend", self.backend, "torch"),
            ("precision", self.precision, "fp32"),
            ("device", self.device, "cuda:0"),
        ):
            if not isinstance(value, str):
                raise ConfigError(f"`{name}` must be a name such as '{example}', not {value!r}")
        if self.backend != AUTO and self.backend not in RUNTIMES:
            raise ConfigError(f"`backend='{self.backend}'`: unknown; choose from {', '.join((AUTO, *RUNTIMES))}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"`precision='{self.precision}'`: unknown; choose from {', '.join(PRECISIONS)}")
        check_device(self.device)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a wish means for a detector on this machine. Equal plans are one engine.

    Attributes:
        runtime: what runs the network.
        precision: of the convolutions, those of an int8 file left aside.
        device: where.
        int8: the int8 file to run in place of the weights.
        parallel: batches to compute at the same time.
        compile: whether torch compiles the network.
    """

    runtime: str
    precision: FloatPrecision = "fp32"
    device: str = "cpu"
    int8: Path | None = None
    parallel: int = 1
    compile: bool = False


class Runtime(Protocol):
    """Something that runs networks. Importing its module imports no optional package."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Kinds of devices that it computes on: ``cpu``, ``cuda``, ``mps``."""

    @property
    def is_parallel(self) -> bool:
        """Whether it gains by computing several batches at the same time."""

    def available(self) -> SingleshotError | None:
        """Why it cannot run on this machine: the error to raise; ``None`` where it can."""

    def fits(self, wish: Wish) -> str | None:
        """What of a wish it can do on no machine, and the remedy; ``None`` where it can do all."""

    def precisions(self, device: str) -> tuple[str, ...]:
        """What it computes in here, the one that ``auto`` takes first; an int8 file is taken only where there is one.

        Args:
            device: ``cpu``, ``cuda:0``.
        """

    def open(self, source: Source, plan: Plan) -> Engine:
        """The engine of a plan.

        Raises:
            WeightsError: the weights, or the int8 file, cannot be read or converted.
        """


RUNTIMES: Registry[Runtime] = Registry(
    "runtime",
    {
        "torch": "singleshot.runtime.torch",
        "openvino": "singleshot.runtime.openvino",
        "onnx": "singleshot.runtime.onnx",
    },
)


def only_torch(wish: Wish, name: str) -> str | None:
    """What of a wish only torch can do: a device other than the CPU, or compilation; ``None`` where nothing."""
    asked = (
        f"`device='{wish.device}'`" if wish.device not in (AUTO, "cpu") else "`compile=True`" if wish.compile else ""
    )
    return f"{asked} goes with `backend='torch'`, not '{name}': leave one of them out" if asked else None
