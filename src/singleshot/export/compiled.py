"""The compiled form of a weights file: from the cache, else converted and kept there."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from singleshot.core.lazy import has_torch
from singleshot.core.once import ForkSafeLock, away_from_fork
from singleshot.errors import WeightsError
from singleshot.export.cache import cached_path, mark_used, prune, weights_sha256
from singleshot.export.conversion import as_openvino, convert_file
from singleshot.export.filled import filled_package
from singleshot.export.package import Kind, Package, read_package

_log = logging.getLogger(__name__)
_one_conversion = ForkSafeLock()


def compiled_file(kind: Kind, weights: Path) -> Package:
    """The compiled form of a weights file: from the cache, else converted and kept there.

    Where torch is not installed, the bundled weights have a graph to be put into.

    Raises:
        WeightsError: the weights cannot be read or converted.
        MissingExtraError: torch, which converts others, is not installed.
    """
    path = _cached(weights, kind)
    package = _read_cached(path)
    if package is not None:
        return package
    if not has_torch() and (filled := filled_package(weights)) is not None:
        return filled if kind == "onnx" else as_openvino(filled)
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


def is_compiled(kind: Kind, weights: Path) -> bool:
    """Whether the cache has the compiled form of a weights file."""
    return _cached(weights, kind).exists()


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
    return cached_path(kind, weights_sha256(weights))
