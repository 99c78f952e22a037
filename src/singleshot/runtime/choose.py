"""Which runtime runs a detector, where and in which precision: what was asked for, or the fastest that is safe.

One look at the wish, the machine and the files gives a `Plan`; whatever is built from it asks nobody again.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

from singleshot.core.lazy import has_torch
from singleshot.errors import ConfigError, MissingExtraError, WeightsError
from singleshot.export.compiled import is_compiled
from singleshot.export.int8_file import ap_loss, int8_info, int8_path, remedy
from singleshot.export.readers import ExportedFile, wrong_backend
from singleshot.kernels.library import processor_flags
from singleshot.kernels.winograd import kernel
from singleshot.runtime.base import FloatPrecision, cores
from singleshot.runtime.device import choose_device, has_gpu
from singleshot.runtime.registry import AUTO, RUNTIMES, Plan, Wish, only_torch
from singleshot.runtime.source import Source

COMPILE_FROM = 50
"""``auto`` converts a network from this many images on: fewer are done sooner with torch."""

SAFE_AP_LOSS = 0.002
"""``auto`` leaves an int8 file alone that is known to cost more COCO AP than this."""

_log = logging.getLogger(__name__)


def choose_plan(source: Source, wish: Wish) -> Plan:
    """What fulfils a wish; looks at the machine and at the files, and makes nothing.

    Raises:
        ConfigError: wishes that do not go together, or int8 without a calibrated file.
        MissingExtraError: the backend is not installed.
    """
    if source.file is not None and not _is_run_by_ours(source.file):
        return _plan_of_file(source.file, wish)
    if source.file is not None and source.file.info.precision == "int8":
        _check_precision(source.file, "int8", wish)
        wish = replace(wish, precision=AUTO)  # the file is int8 already
    name = choose_runtime(source, wish)
    runtime = RUNTIMES.get(name)
    if problem := runtime.fits(wish):
        raise ConfigError(problem)
    if missing := runtime.available():
        raise missing
    device = "cpu" if runtime.devices == ("cpu",) else str(choose_device(wish.device))
    offered = runtime.precisions(device)
    if wish.precision not in (AUTO, *offered):
        others = " or ".join(f"'{precision}'" for precision in offered)
        raise ConfigError(f"`precision='{wish.precision}'`: {name} does not compute in it on {device}; use {others}")
    first_float = next(precision for precision in offered if precision != "int8")
    precision = first_float if wish.precision in (AUTO, "int8") else wish.precision
    int8 = None
    if wish.precision == "int8" or (wish.precision == AUTO and offered[0] == "int8"):
        int8 = _int8_file(source, name, is_asked=wish.precision == "int8")
    parallel = cores() if runtime.is_parallel and wish.parallel else 1
    return Plan(name, cast(FloatPrecision, precision), device, int8, parallel, wish.compile)


def choose_runtime(source: Source, wish: Wish) -> str:
    """What ``auto`` means: torch where there is a GPU or it is quicker on this CPU, else OpenVINO where it pays."""
    if source.file is not None:
        return _runtime_of_file(source.file, wish)
    if wish.backend != AUTO:
        return wish.backend
    if wish.device not in (AUTO, "cpu") or wish.compile:
        return "torch"
    if not has_torch():
        return _without_torch("openvino" if _openvino_pays(source, wish) else "onnx")
    if wish.device == AUTO and wish.precision != "int8" and has_gpu():
        return "torch"
    if _winograd_pays(source, wish):
        return "torch"
    return "openvino" if _openvino_pays(source, wish) else "torch"


def _is_run_by_ours(file: ExportedFile) -> bool:
    """Whether a runtime takes the network of an exported file as it takes any."""
    return file.info.level == "raw" and bool(file.backends)


def _runtime_of_file(file: ExportedFile, wish: Wish) -> str:
    """Who runs a raw file: the first of those that can which is installed.

    Raises:
        ConfigError: a backend that cannot.
    """
    if wish.backend not in (AUTO, *file.backends):
        raise ConfigError(wrong_backend(file, wish.backend))
    if wish.backend != AUTO:
        return wish.backend
    wanted = [name for name in file.backends if wish.precision != "int8" or int8_path(file.path, name).exists()]
    there = [name for name in wanted or file.backends if RUNTIMES.get(name).available() is None]
    return (there or list(file.backends))[0]


def _plan_of_file(file: ExportedFile, wish: Wish) -> Plan:
    """A file that runs as it is.

    Raises:
        ConfigError: anything else is asked of it.
    """
    if wish.backend not in (AUTO, *file.backends):
        raise ConfigError(wrong_backend(file, wish.backend))
    if problem := only_torch(wish, file.kind):
        raise ConfigError(problem)
    own = "fp32" if file.info.precision == "fp16" else file.info.precision
    _check_precision(file, own, wish)
    return Plan(file.kind)


def _check_precision(file: ExportedFile, own: str, wish: Wish) -> None:
    """Refuse to compute in another precision than a file's."""
    if wish.precision not in (AUTO, own):
        raise ConfigError(
            f"`precision='{wish.precision}'`: {file.path} computes in {own}: say `precision='{own}'` or "
            f"`precision='auto'`"
        )


def _without_torch(preferred: str) -> str:
    """A runtime that is installed, other than torch.

    Raises:
        MissingExtraError: none is.
    """
    candidates: tuple[str, ...] = (preferred, *RUNTIMES.names())
    for name in candidates:
        if name != "torch" and RUNTIMES.get(name).available() is None:
            return name
    raise MissingExtraError("onnxruntime", "runtime", "a network runs by ONNX Runtime, OpenVINO or torch, and here it")


def check_wish(wish: Wish) -> Wish:
    """Refuse what no machine can do, before any work.

    Raises:
        ConfigError: the backend cannot do the rest of it.
    """
    problem = None if wish.backend == AUTO else RUNTIMES.get(wish.backend).fits(wish)
    if problem:
        raise ConfigError(problem)
    return wish


def _winograd_pays(source: Source, wish: Wish) -> bool:
    """Whether torch with our convolutions is quicker than OpenVINO: of VGG's multiplications they save two thirds.

    Not than int8, nor than bf16 where the processor has matrix units for it.
    """
    if wish.precision == "int8" or not source.spec.network.backbone.name.startswith("vgg"):
        return False
    if wish.precision != "fp32" and "amx_bf16" in processor_flags():
        return False
    if wish.precision == AUTO and _openvino_is_there() and _int8_file(source, "openvino"):
        return False
    return kernel() is not None


def _openvino_pays(source: Source, wish: Wish) -> bool:
    if source.weights is None or not _openvino_is_there():
        return wish.precision == "int8"  # which only OpenVINO can, or can say why not
    if wish.precision == "int8" or wish.is_long:
        return True
    return _int8_file(source, "openvino") is not None or is_compiled("openvino", source.weights)


def _openvino_is_there() -> bool:
    return RUNTIMES.get("openvino").available() is None


def _int8_file(source: Source, kind: str, is_asked: bool = False) -> Path | None:
    """The int8 file of just these weights; unless it is asked for, only one that is not known to be much worse.

    Raises:
        ConfigError: it is asked for, and not there or damaged.
    """
    weights = source.weights
    if weights is None:
        if is_asked:
            raise ConfigError("a network in memory has no int8 file: save it, then 'singleshot quantize WEIGHTS DATA'")
        return None
    path, info = int8_path(weights, kind), None
    if path not in source.refused:
        try:
            info = int8_info(weights, kind)
        except WeightsError as error:
            refuse_int8(source, path, kind, error, quietly=is_asked)
    if info is not None and (is_asked or ap_loss(info) <= SAFE_AP_LOSS):
        return path
    if not is_asked:
        return None
    problem = "is damaged" if path in source.refused else "is of other weights" if path.exists() else "is missing"
    raise ConfigError(f"{path} {problem}, which `precision='int8'` needs: {remedy(weights, kind)}")


def refuse_int8(source: Source, path: Path, kind: str, error: WeightsError, quietly: bool = False) -> None:
    """Look at a damaged int8 file no more, with a line that says so."""
    is_new = path not in source.refused
    source.refused.add(path)
    if is_new and not quietly and source.weights is not None:
        advice = remedy(source.weights, kind)
        _log.warning("%s; not used", error if advice in str(error) else f"{error}; {advice}")
