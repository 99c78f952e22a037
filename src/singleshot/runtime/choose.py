"""Which backend runs a detector, in which precision: what the user asked for, or the fastest that is there and safe."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from singleshot.core.once import ForkSafeLock, Once, away_from_fork
from singleshot.errors import ConfigError, MissingExtraError, WeightsError
from singleshot.export.cache import cached_path, file_sha256, mark_used, prune
from singleshot.export.package import Kind, Package, read_info, read_package
from singleshot.kernels.library import processor_flags
from singleshot.kernels.winograd import kernel
from singleshot.models.config import ModelSpec
from singleshot.runtime.base import Engine, FloatPrecision, cores
from singleshot.runtime.device import check_device, choose_device, has_gpu

if TYPE_CHECKING:
    from singleshot.models.network import Network

BackendName = Literal["auto", "torch", "openvino", "onnx"]
EngineName = Literal["torch", "openvino", "onnx"]
Precision = Literal["auto", "fp32", "bf16", "int8"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

COMPILE_FROM = 50
"""``auto`` converts a network from this many images on: fewer are done sooner with torch."""

SAFE_AP_LOSS = 0.002
"""``auto`` leaves an int8 file alone that is known to cost more COCO AP than this."""

_log = logging.getLogger(__name__)
_one_conversion = ForkSafeLock()

_MODULES = {"openvino": "openvino", "onnx": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a backend. Thresholds are no part of it: they come with each call.

    Attributes:
        backend, precision: ``auto`` leaves the choice.
        parallel: whether throughput counts, or the latency of one batch.
        is_long: whether so many images will come that a conversion pays; for ``auto``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        compile: whether torch compiles the network.
    """

    backend: BackendName = "auto"
    precision: Precision = "auto"
    parallel: bool = False
    is_long: bool = False
    device: str = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        check_backend(self.backend, self.precision)
        check_device(self.device)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a wish means for a detector on this machine. Equal plans are one engine.

    Attributes:
        backend: what runs the network.
        precision: of the convolutions, those of an int8 file left aside.
        int8: whether to run the int8 file beside the weights.
        parallel: batches to compute at the same time.
        device: for torch.
        compile: whether torch compiles the network.
    """

    backend: EngineName
    precision: FloatPrecision = "fp32"
    int8: bool = False
    parallel: int = 1
    device: str = "cpu"
    compile: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where engines get their network, and what was made of it.

    Attributes:
        spec: the detector.
        weights: its weights file; ``None`` where the network exists only in memory.
        network: gives the torch module, in eval mode on the CPU, which stays as it is.
        made: engines by plan, and packages that they share.
        refused: int8 files that turned out to be damaged.
    """

    spec: ModelSpec
    weights: Path | None
    network: Callable[[], Network]
    made: Once = field(default_factory=Once)
    refused: set[Path] = field(default_factory=set)


def check_backend(backend: str, precision: str) -> tuple[BackendName, Precision]:
    """Names that exist.

    Raises:
        ConfigError: one does not.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"--backend {backend}: unknown; choose from {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision {precision}: unknown; choose from {', '.join(PRECISIONS)}")
    return backend, precision


def check_torch_only(backend: BackendName, device: str, compile: bool) -> bool:
    """Whether something is asked that only torch can: a device other than the CPU, or compilation.

    Raises:
        ConfigError: of another backend.
    """
    wants = f"--device {device}" if check_device(device) not in ("auto", "cpu") else "--compile" if compile else ""
    if wants and backend in ("openvino", "onnx"):
        raise ConfigError(f"{wants} goes with --backend torch, not {backend}: leave one of them out")
    return bool(wants)


def check_kind(name: str) -> Kind:
    """An engine that runs compiled networks.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in ("openvino", "onnx"):
        raise ConfigError(f"--backend {name}: choose from openvino, onnx")
    return "openvino" if name == "openvino" else "onnx"


def open_engine(source: Source, wish: Wish) -> Engine:
    """The engine that fulfils a wish; made once, and the same for all wishes that mean the same.

    Raises:
        ConfigError: backend and precision do not go together, or int8 without a calibrated file.
        MissingExtraError: the backend is not installed.
        WeightsError: the weights, or the int8 file that was asked for, cannot be read or converted.
    """
    plan: Plan = source.made.get(wish, lambda: choose_plan(source, wish))
    try:
        return source.made.get(plan, lambda: build_engine(source, plan))
    except WeightsError as error:
        if not plan.int8 or wish.precision != "auto" or source.weights is None:
            raise
        source.refused.add(int8_path(source.weights, check_kind(plan.backend)))
        _log.warning("%s; not used: %s", error, _remedy(source.weights, check_kind(plan.backend)))
        source.made.forget(wish)
        return open_engine(source, wish)


def choose_plan(source: Source, wish: Wish) -> Plan:
    """Which engine, in which precision; looks at the machine and at the files, and makes nothing.

    Raises:
        ConfigError, MissingExtraError: as `open_engine`.
    """
    backend = choose_backend(source, wish)
    if backend == "torch":
        return _torch_plan(wish)
    if find_spec(_MODULES[backend]) is None:
        raise MissingExtraError(_MODULES[backend], backend, f"--backend {backend}")
    return _openvino_plan(source, wish) if backend == "openvino" else _onnx_plan(source, wish)


def build_engine(source: Source, plan: Plan) -> Engine:
    """The engine of a plan.

    Raises:
        WeightsError: the weights, or the int8 file, cannot be read or converted.
    """
    if plan.backend == "torch":
        return away_from_fork(lambda: _torch_engine(source, plan))
    kind = plan.backend
    package = source.made.get((kind, plan.int8), lambda: _package(source, kind, plan.int8))
    if kind == "onnx":
        from singleshot.runtime.onnx import OnnxEngine

        return OnnxEngine(package, plan.parallel)
    from singleshot.export.openvino_core import must_be_alone
    from singleshot.runtime.openvino import OpenVinoEngine

    # Its threads did not come along through a fork.
    return OpenVinoEngine(package, plan.precision, *((1, 1) if must_be_alone() else (plan.parallel, None)))


def choose_backend(source: Source, wish: Wish) -> EngineName:
    """What ``auto`` means here: torch where there is a GPU or it is quicker on this CPU, else OpenVINO where it pays.

    Raises:
        ConfigError: a device, or compilation, that only torch has is asked of another backend.
    """
    only_torch = check_torch_only(wish.backend, wish.device, wish.compile)
    if wish.backend in ("openvino", "onnx"):
        return wish.backend
    if wish.backend == "torch" or only_torch:
        return "torch"
    if wish.device == "auto" and wish.precision != "int8" and has_gpu():
        return "torch"
    if _winograd_pays(source, wish):
        return "torch"
    return "openvino" if _openvino_pays(source, wish) else "torch"


def int8_path(weights: Path, kind: Kind = "openvino") -> Path:
    """Where the int8 form of a weights file belongs."""
    return weights.with_name(f"{weights.stem}.int8.{kind}")


def _winograd_pays(source: Source, wish: Wish) -> bool:
    """Whether torch with our convolutions is quicker than OpenVINO: of VGG's multiplications they save two thirds.

    Not than int8, nor than bf16 where the processor has matrix units for it.
    """
    if wish.precision == "int8" or not source.spec.network.backbone.name.startswith("vgg"):
        return False
    if wish.precision != "fp32" and "amx_bf16" in processor_flags():
        return False
    has_int8 = _has_int8(source, "openvino", safe=True)
    if wish.precision == "auto" and has_int8 and find_spec("openvino"):
        return False
    return kernel() is not None


def _openvino_pays(source: Source, wish: Wish) -> bool:
    if source.weights is None or find_spec("openvino") is None:
        return wish.precision == "int8"  # which only OpenVINO can, or can say why not
    if wish.precision == "int8" or wish.is_long:
        return True
    return _has_int8(source, "openvino", safe=True) or _cached(source.weights, "openvino").exists()


def _torch_plan(wish: Wish) -> Plan:
    from singleshot.runtime.torch_forward import choose_precision

    if wish.precision == "int8":
        raise ConfigError("precision int8 runs with --backend openvino or onnx (on the CPU), not with torch")
    device = choose_device(wish.device)
    return Plan("torch", choose_precision(wish.precision, device), device=str(device), compile=wish.compile)


def _torch_engine(source: Source, plan: Plan) -> Engine:
    import torch

    from singleshot.models.build import build_anchors
    from singleshot.runtime.torch import TorchEngine
    from singleshot.runtime.torch_forward import build_forward

    spec, network = source.spec, source.network()
    size_hw, device = spec.preprocess.size_hw, torch.device(plan.device)
    forward = build_forward(network, size_hw, device, plan.precision, plan.compile)
    return TorchEngine(forward, build_anchors(spec, network), spec.coder, len(spec.class_names))


def _openvino_plan(source: Source, wish: Wish) -> Plan:
    native = cpu_capabilities()
    int8 = ("INT8" in native or wish.precision == "int8") and _wants_int8(source, wish, "openvino")
    is_auto = wish.precision in ("auto", "int8")
    is_fp32 = wish.precision == "fp32" or (is_auto and "BF16" not in native)
    return Plan("openvino", "fp32" if is_fp32 else "bf16", int8, cores() if wish.parallel else 1)


def _onnx_plan(source: Source, wish: Wish) -> Plan:
    if wish.precision == "bf16":
        raise ConfigError("precision bf16 runs with --backend openvino or torch: ONNX Runtime has none on CPUs")
    return Plan("onnx", "fp32", _wants_int8(source, wish, "onnx"), cores() if wish.parallel else 1)


def _package(source: Source, kind: Kind, int8: bool) -> Package:
    if not int8 or source.weights is None:
        return compiled(kind, source)
    path = int8_path(source.weights, kind)
    try:
        return read_package(path)
    except WeightsError as error:
        raise WeightsError(f"{error}; {_remedy(source.weights, kind)}") from error


@lru_cache(maxsize=1)
def cpu_capabilities() -> tuple[str, ...]:
    """Precisions that OpenVINO computes natively on this CPU."""
    from singleshot.export.openvino_core import openvino_core

    return tuple(openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def compiled(kind: Kind, source: Source) -> Package:
    """The compiled form of a network: from the cache, else converted."""
    from singleshot.export.conversion import convert_network

    if source.weights is None:
        return away_from_fork(lambda: convert_network(kind, source.network(), source.spec))
    return compiled_file(kind, source.weights)


def compiled_file(kind: Kind, weights: Path) -> Package:
    """The compiled form of a weights file: from the cache, else converted and kept there.

    Raises:
        WeightsError: the weights cannot be read or converted.
    """
    from singleshot.export.conversion import convert_file

    path = _cached(weights, kind)
    package = _read_cached(path)
    if package is not None:
        return package
    with _one_conversion:
        package = _read_cached(path)  # another thread may have made it meanwhile
        if package is not None:
            return package
        package = away_from_fork(lambda: convert_file(kind, weights))
        try:
            package.save(path)
            prune(path.parent)
        except OSError as error:  # a read-only home: it works, only slower the next time
            _log.info("the converted network is not kept: %s", error)
        return package


def _read_cached(path: Path) -> Package | None:
    """The cache's entry; a damaged one is removed."""
    if not path.exists():
        return None
    try:
        package = read_package(path)
        if not package.info.parts_sha256:
            raise WeightsError(f"{path}: has no digest")
    except WeightsError as error:
        _log.warning("%s; converting the network anew", error)
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None
    mark_used(path)
    return package


def _cached(weights: Path, kind: Kind) -> Path:
    return cached_path(kind, _sha256(weights, weights.stat().st_mtime_ns))


@lru_cache(maxsize=8)
def _sha256(weights: Path, changed_ns: int) -> str:
    return file_sha256(weights)


def _has_int8(source: Source, kind: Kind, *, safe: bool = False) -> bool:
    """Whether there is an int8 file of just these weights; with ``safe``, one that is not known to be much worse."""
    weights = source.weights
    if weights is None or int8_path(weights, kind) in source.refused:
        return False
    path = int8_path(weights, kind)
    try:
        info = read_info(path)
    except WeightsError as error:
        source.refused.add(path)
        if safe:
            _log.warning("%s; not used: %s", error, _remedy(weights, kind))
        return False
    if info is None or info.weights_sha256 != _sha256(weights, weights.stat().st_mtime_ns):
        return False
    measured = info.quantization
    loss = float(measured.get("fp32_AP", 0)) - float(measured.get("int8_AP", 0)) if "int8_AP" in measured else 0.0
    return not (safe and loss > SAFE_AP_LOSS)


def _wants_int8(source: Source, wish: Wish, kind: Kind) -> bool:
    """Whether the int8 file is what to run."""
    weights = source.weights
    if wish.precision not in ("auto", "int8"):
        return False
    if _has_int8(source, kind, safe=wish.precision == "auto"):
        return True
    if wish.precision == "auto":
        return False
    if weights is None:
        raise ConfigError("a network in memory has no int8 file: save it, then 'singleshot quantize WEIGHTS DATA'")
    path = int8_path(weights, kind)
    problem = "is damaged" if path in source.refused else "is of other weights" if path.exists() else "is missing"
    raise ConfigError(f"{path} {problem}, which precision int8 needs: {_remedy(weights, kind)}")


def _remedy(weights: Path, kind: Kind) -> str:
    """The command that makes the int8 file."""
    path = int8_path(weights, kind)
    options = (f" --backend {kind}" if kind != "openvino" else "") + (" --overwrite" if path.exists() else "")
    return f"'singleshot quantize {shlex.quote(str(weights))} IMAGES{options}' makes it"
