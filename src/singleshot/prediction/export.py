"""A detector becomes a file that runs elsewhere."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from singleshot.core.files import check_output
from singleshot.export.cache import weights_sha256
from singleshot.export.info import ExportInfo
from singleshot.export.writers import ExportWish, ExportWriter, Origin, plan_export
from singleshot.version import __version__
from singleshot.weights.bundled import bundled_names, bundled_path

PathLike = str | os.PathLike[str]


class Exported(NamedTuple):
    """An exported detector.

    Attributes:
        path: the file.
        files: all of them: the file, and those that must lie beside it.
        info: what it says about itself.
    """

    path: Path
    files: tuple[Path, ...]
    info: ExportInfo


def export_detector(
    origin: Origin,
    out: PathLike | None,
    wish: ExportWish,
    *,
    verify: bool = True,
    images: PathLike | Sequence[PathLike] | None = None,
    overwrite: bool = False,
    note: Callable[[str], object] = warnings.warn,
) -> Exported:
    """Write a detector in another system's format, and see that it finds the same; `Detector.export` says the rest."""
    writer, info = plan_export(origin.spec, wish)
    files = _files(origin, writer, out)
    for file in files:
        check_output(file, overwrite=overwrite, sources=[origin.weights] if origin.weights else [])
    sha256 = weights_sha256(origin.weights) if origin.weights else ""
    made_with = f"singleshot {__version__}, torch {version('torch')}"
    info = info.model_copy(update={"weights_sha256": sha256, "made_with": made_with})
    files[0].parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=files[0].parent) as folder:
        made = [Path(folder) / file.name for file in files]
        writer.write(origin, info, made[0])
        for new, file in reversed(list(zip(made, files, strict=True))):
            _move(new, file)
    return Exported(files[0], tuple(files), info)


def _files(origin: Origin, writer: ExportWriter, out: PathLike | None) -> list[Path]:
    """What will be written: by default beside the weights, or here for a bundled detector and one in memory."""
    first, *others = writer.suffixes
    if out is None:
        weights = origin.weights
        is_own = weights is not None and weights not in map(bundled_path, bundled_names())
        path = weights.with_suffix(first) if weights is not None and is_own else Path(f"{origin.spec.name}{first}")
    else:
        path = Path(out)
    return [path, *(path.with_suffix(suffix) for suffix in others)]


def _move(new: Path, place: Path) -> None:
    """Put a file, or a folder, in the place of an older one."""
    if place.is_dir():
        shutil.rmtree(place)
    new.replace(place)
