"""Which backend runs a detector, in which precision: what the user asked for, or the fastest that is there and safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from singleshot.backends.base import Backend, FloatPrecision, cores
from singleshot.backends.cache import cached_path, file_sha256, mark_used, prune
from singleshot.backends.device import check_device, choose_device, has_gpu
from singleshot.backends.package import Kind, Package, read_info, read_package
from singleshot.config import PostprocessConfig
from singleshot.errors import ConfigError, MissingExtraError, WeightsError
from singleshot.kernels.library import processor_flags
from singleshot.kernels.winograd import kernel
from singleshot.models.config import ModelSpec

if TYPE_CHECKING:
    from singleshot.backends.torch_forward import Forward
    from singleshot.models.network import Network

BackendName = Literal["auto", "torch", "openvino", "onnx"]
Precision = Literal["auto", "fp32", "bf16", "int8"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

COMPILE_FROM = 50
"""``auto`` converts a network from this many images on: fewer are done sooner with torch."""

SAFE_AP_LOSS = 0.002
"""``auto`` leaves an int8 file alone that is known to cost more COCO AP than this."""

_MODULES = {"openvino": "openvino", "onnx": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a backend.

    Attributes:
        settings: thresholds and NMS.
        backend, precision: ``auto`` leaves the choice.
        parallel: whether throughput counts, or the latency of one batch.
        is_long: whether so many images will come that a conversion pays; for ``auto``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        compile: whether torch compiles the network.
    """

    settings: PostprocessConfig
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
class Source:
    """Where a backend gets its network.

    Attributes:
        spec: the detector.
        weights: its weights file; ``None`` where the network exists only in memory.
        network: gives the torch module, which stays as it is.
        forwards: what torch backends made of it; later ones with other thresholds take it from here.
    """

    spec: ModelSpec
    weights: Path | None
    network: Callable[[], Network]
    forwards: dict[tuple[str, FloatPrecision, bool], Forward] = field(default_factory=dict)


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


def open_backend(source: Source, wish: Wish) -> Backend:
    """The backend that fulfils a wish.

    Raises:
        ConfigError: backend and precision do not go together, or int8 without a calibrated file.
        MissingExtraError: the backend is not installed.
        WeightsError: the weights cannot be read or converted.
    """
    backend = choose_backend(source, wish)
    if backend == "torch":
        return _torch_backend(source, wish)
    if find_spec(_MODULES[backend]) is None:
        raise MissingExtraError(_MODULES[backend], backend, f"--backend {backend}")
    return _openvino_backend(source, wish) if backend == "openvino" else _onnx_backend(source, wish)


def choose_backend(source: Source, wish: Wish) -> Literal["torch", "openvino", "onnx"]:
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
    has_int8 = source.weights is not None and _has_int8(source.weights, "openvino", safe=True)
    if wish.precision == "auto" and has_int8 and find_spec("openvino"):
        return False
    return kernel() is not None


def _openvino_pays(source: Source, wish: Wish) -> bool:
    if source.weights is None or find_spec("openvino") is None:
        return wish.precision == "int8"  # which only OpenVINO can, or can say why not
    ready = _has_int8(source.weights, "openvino", safe=True) or _cached(source.weights, "openvino").exists()
    return ready or wish.precision == "int8" or wish.is_long


def _torch_backend(source: Source, wish: Wish) -> Backend:
    from singleshot.backends.torch_backend import TorchBackend
    from singleshot.models.build import build_anchors

    if wish.precision == "int8":
        raise ConfigError("precision int8 runs with --backend openvino or onnx (on the CPU), not with torch")
    spec, network = source.spec, source.network()
    anchors = build_anchors(spec, network)
    return TorchBackend(_forward(source, wish), anchors, spec.coder, wish.settings, len(spec.class_names))


def _forward(source: Source, wish: Wish) -> Forward:
    from singleshot.backends.torch_forward import build_forward, choose_precision

    device = choose_device(wish.device)
    precision = choose_precision(wish.precision, device)
    key = (str(device), precision, wish.compile)
    if key not in source.forwards:
        size_hw = source.spec.preprocess.size_hw
        source.forwards[key] = build_forward(source.network(), size_hw, device, precision, wish.compile)
    return source.forwards[key]


def _openvino_backend(source: Source, wish: Wish) -> Backend:
    from singleshot.backends.openvino_backend import OpenVinoBackend

    native = cpu_capabilities()
    int8 = _wants_int8(source, wish, "openvino") if "INT8" in native or wish.precision == "int8" else None
    package = read_package(int8) if int8 else compiled("openvino", source)
    is_auto = wish.precision in ("auto", "int8")
    is_fp32 = wish.precision == "fp32" or (is_auto and "BF16" not in native)
    return OpenVinoBackend(package, wish.settings, "fp32" if is_fp32 else "bf16", cores() if wish.parallel else 1)


def _onnx_backend(source: Source, wish: Wish) -> Backend:
    from singleshot.backends.onnx_backend import OnnxBackend

    if wish.precision == "bf16":
        raise ConfigError("precision bf16 runs with --backend openvino or torch: ONNX Runtime has none on CPUs")
    int8 = _wants_int8(source, wish, "onnx")
    package = read_package(int8) if int8 else compiled("onnx", source)
    return OnnxBackend(package, wish.settings, cores() if wish.parallel else 1)


@lru_cache(maxsize=1)
def cpu_capabilities() -> tuple[str, ...]:
    """Precisions that OpenVINO computes natively on this CPU."""
    from singleshot.backends.openvino_core import openvino_core

    return tuple(openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def compiled(kind: Kind, source: Source) -> Package:
    """The compiled form of a network: from the cache, else converted."""
    from singleshot.backends.convert import convert_network

    if source.weights is None:
        return convert_network(kind, source.network(), source.spec)
    return compiled_file(kind, source.weights)


def compiled_file(kind: Kind, weights: Path) -> Package:
    """The compiled form of a weights file: from the cache, else converted and kept there.

    Raises:
        WeightsError: the weights cannot be read or converted.
    """
    from singleshot.backends.convert import convert_file

    path = _cached(weights, kind)
    if path.exists():
        try:
            package = read_package(path)
        except WeightsError:  # cut off by a full disk, say: make it again
            path.unlink(missing_ok=True)
        else:
            mark_used(path)
            return package
    package = convert_file(kind, weights)
    try:
        package.save(path)
        prune(path.parent)
    except OSError:  # a read-only home: it works, only slower the next time
        return package
    return package


def _cached(weights: Path, kind: Kind) -> Path:
    return cached_path(kind, _sha256(weights, weights.stat().st_mtime_ns))


@lru_cache(maxsize=8)
def _sha256(weights: Path, changed_ns: int) -> str:
    return file_sha256(weights)


def _has_int8(weights: Path, kind: Kind, *, safe: bool = False) -> bool:
    """Whether there is an int8 file of just these weights; with ``safe``, one that is not known to be much worse."""
    info = read_info(int8_path(weights, kind))
    if info is None or info.weights_sha256 != _sha256(weights, weights.stat().st_mtime_ns):
        return False
    measured = info.quantization
    loss = float(measured.get("fp32_AP", 0)) - float(measured.get("int8_AP", 0)) if "int8_AP" in measured else 0.0
    return not (safe and loss > SAFE_AP_LOSS)


def _wants_int8(source: Source, wish: Wish, kind: Kind) -> Path | None:
    """The int8 file, if that is what to run."""
    weights = source.weights
    if wish.precision not in ("auto", "int8"):
        return None
    if weights is not None and _has_int8(weights, kind, safe=wish.precision == "auto"):
        return int8_path(weights, kind)
    if wish.precision == "auto":
        return None
    name = weights or "a network in memory"
    stale = " that fits it" if weights and int8_path(weights, kind).exists() else ""
    raise ConfigError(f"{name} has no int8 file for {kind}{stale}: 'singleshot quantize WEIGHTS DATA' makes one")
