"""Compiled networks on disk, each under the hash of everything that it was made from."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from singleshot.core.files import cache_folder
from singleshot.export.package import FORMAT, SUFFIX, Kind
from singleshot.version import __version__

MAX_BYTES = 4 * 1024**3
"""When the cache grows beyond this, what has not been used for the longest time goes."""

_ENGINES = {"openvino": "openvino", "onnx": "onnxruntime"}
_MAKERS = ("models", "multibox", "export")
"""Packages whose code decides what graph weights become."""


def file_sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(weights: Path) -> str:
    """Digest of a weights file, or of an exported one, computed once as long as it does not change.

    That of OpenVINO's ``.xml`` is also one of the numbers beside it.
    """
    own = _sha256(weights, weights.stat().st_mtime_ns)
    numbers = weights.with_suffix(".bin")
    if weights.suffix != ".xml" or not numbers.is_file():
        return own
    return hashlib.sha256(f"{own} {_sha256(numbers, numbers.stat().st_mtime_ns)}".encode()).hexdigest()


@lru_cache(maxsize=8)
def _sha256(weights: Path, changed_ns: int) -> str:
    return file_sha256(weights)


def cached_path(kind: Kind, weights_sha256: str) -> Path:
    """Where the compiled form of some weights is, or would be.

    Args:
        kind: engine.
        weights_sha256: of the weights file, which says everything about the detector.
    """
    content = "\n".join((kind, str(FORMAT), __version__, makers_sha256(), version(_ENGINES[kind]), weights_sha256))
    return cache_folder() / "compiled" / f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:32]}{SUFFIX}"


@lru_cache(maxsize=1)
def makers_sha256(root: Path = Path(__file__).parents[1]) -> str:
    """Digest of the code that makes graphs, which changes between releases, too.

    Args:
        root: folder of the package.
    """
    digest = hashlib.sha256()
    for path in sorted(path for name in _MAKERS for path in (root / name).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def mark_used(path: Path) -> None:
    """Note that an entry was used now. A read-only cache stays as it is."""
    try:
        os.utime(path)
    except OSError:
        return


def prune(folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Remove the entries that were not used for the longest time, until the rest fits."""
    entries = []
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            entries.append((path.stat().st_mtime, path.stat().st_size, path))
        except FileNotFoundError:  # another process pruned it
            continue
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries)[:-1]:
        if total <= max_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
