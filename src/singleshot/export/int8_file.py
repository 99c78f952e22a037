"""The int8 file beside a weights file: where it lies, whether it belongs to the weights, and how to make it."""

from __future__ import annotations

import shlex
from functools import lru_cache
from pathlib import Path

from singleshot.errors import WeightsError
from singleshot.export.cache import weights_sha256
from singleshot.export.package import Package, PackageInfo, read_info, read_package


def int8_path(weights: Path, kind: str = "openvino") -> Path:
    """Where the int8 form of a weights file belongs."""
    return weights.with_name(f"{weights.stem}.int8.{kind}")


def int8_info(weights: Path, kind: str) -> PackageInfo | None:
    """What the int8 file of just these weights says about itself; ``None`` where there is none.

    Raises:
        WeightsError: it is damaged.
    """
    path = int8_path(weights, kind)
    info = _unchanged_info(path, *_state(path)) if path.exists() else read_info(path)
    return info if info is not None and info.weights_sha256 == weights_sha256(weights) else None


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=8)
def _unchanged_info(path: Path, changed_ns: int, size: int) -> PackageInfo | None:
    return read_info(path)


def read_int8(weights: Path, kind: str) -> Package:
    """The int8 file.

    Raises:
        WeightsError: it cannot be read; says how to make it.
    """
    try:
        return read_package(int8_path(weights, kind))
    except WeightsError as error:
        raise WeightsError(f"{error}; {remedy(weights, kind)}") from error


def int8_of(weights: Path | None, kind: str) -> tuple[Path, PackageInfo]:
    """The int8 file that just these weights have, and what it says of its calibration.

    Raises:
        WeightsError: there is none, or it is damaged; says how to make it.
    """
    if weights is None:
        raise WeightsError(
            "`precision='int8'` needs a weights file with an int8 file beside it: save the detector first"
        )
    try:
        info = int8_info(weights, kind)
    except WeightsError as error:
        raise WeightsError(f"{error}; {remedy(weights, kind)}") from error
    if info is None:
        raise WeightsError(f"{weights}: has no int8 file of its own; {remedy(weights, kind)}")
    return int8_path(weights, kind), info


def ap_loss(info: PackageInfo) -> float:
    """COCO AP that int8 is known to cost; 0 where nothing was measured."""
    measured = info.quantization
    return float(measured.get("fp32_AP", 0)) - float(measured["int8_AP"]) if "int8_AP" in measured else 0.0


def remedy(weights: Path, kind: str) -> str:
    """The command that makes the int8 file."""
    quoted = shlex.quote(str(weights))
    if int8_path(weights, kind).exists():
        return f"'singleshot quantize {quoted} IMAGES --backend {kind} --overwrite' makes it"
    return f"'singleshot quantize {quoted} IMAGES --backend {kind}' makes it"
