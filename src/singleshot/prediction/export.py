"""A detector becomes a file that runs elsewhere."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import check_output, put_in_place
from singleshot.core.leftovers import hidden_folder, hidden_path
from singleshot.errors import ConfigError, ImageError, WeightsError
from singleshot.export.cache import weights_sha256
from singleshot.export.info import ExportInfo
from singleshot.export.int8_file import int8_of, int8_path
from singleshot.export.verify import PICTURES, Verification
from singleshot.export.verify import verify as run_both
from singleshot.export.writers import ExportWish, ExportWriter, Origin, Run, plan_export
from singleshot.images.read import read_image
from singleshot.images.samples import sample_pictures
from singleshot.prediction.sources import search_images
from singleshot.version import __version__
from singleshot.weights.bundled import bundled_names, bundled_path

PathLike = str | os.PathLike[str]


class Exported(NamedTuple):
    """An exported detector.

    Attributes:
        path: the file.
        files: all of them: the file, and those that must lie beside it.
        info: what it says about itself.
        verification: how it agrees with the detector; ``None`` where that was not looked at.
    """

    path: Path
    files: tuple[Path, ...]
    info: ExportInfo
    verification: Verification | None = None


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
    named = _named_pictures(images, note)
    sources = [*named, *([origin.weights] if origin.weights else [])]
    if origin.weights and info.precision == "int8":
        sources.append(int8_path(origin.weights, writer.name))
    for file in files:
        if not (overwrite and _is_package(file)):
            check_output(file, overwrite=overwrite, sources=sources)
    is_int8 = info.precision == "int8"
    calibration = int8_of(origin.weights, writer.name)[1].quantization if is_int8 else {}
    sha256 = weights_sha256(origin.weights) if origin.weights else ""
    made_with = f"singleshot {__version__}, torch {version('torch')}"
    info = info.model_copy(update={"weights_sha256": sha256, "made_with": made_with, "quantization": calibration})
    with _made_folder(files[0].parent) as parent, hidden_folder(parent) as folder:
        made = [folder / file.name for file in files]
        writer.write(origin, info, made[0])
        checked = _verified(writer, origin, info, made[0], named, note) if verify else None
        for new, file in reversed(list(zip(made, files, strict=True))):
            _move(new, file)
    if not verify:
        note(f"{files[0]}: not compared with the detector (`verify=False`)")
    return Exported(files[0], tuple(files), info, checked)


@contextmanager
def _made_folder(folder: Path) -> Iterator[Path]:
    """A folder, made where it is missing; what was made is gone again if the work in it fails."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except BaseException:
        with suppress(OSError):  # something else lies in it by now
            for parent in missing:
                parent.rmdir()
        raise


def _named_pictures(images: PathLike | Sequence[PathLike] | None, note: Callable[[str], object]) -> list[Path]:
    """Files that a user names, a few of them evenly spread."""
    if images is None:
        return []
    found = search_images(images)
    for line in (*found.missed, *found.notes):
        note(line)
    places = np.linspace(0, len(found.images) - 1, min(PICTURES, len(found.images))).astype(int)
    return [found.images[place] for place in places]


def _verified(
    writer: ExportWriter,
    origin: Origin,
    info: ExportInfo,
    path: Path,
    named: Sequence[Path],
    note: Callable[[str], object],
) -> Verification | None:
    """How a file agrees with the detector; ``None`` where it cannot be run here, with a line.

    Raises:
        WeightsError: it does not agree.
    """
    if reason := writer.not_run():
        note(f"{path.name}: not compared with the detector: {reason}")
        return None
    pictures, words = (_readable(named, note), "yours") if named else sample_pictures(PICTURES)

    def open_file(score: float) -> Run:
        if score == info.score or info.level != "end2end":
            return writer.open(path, info)
        lower = info.model_copy(update={"score": score})
        other = path.with_name(f"lower-{path.name}")
        writer.write(origin, lower, other)
        return writer.open(other, lower)

    result = run_both(origin, info, open_file, pictures, words)
    if not result.agrees:
        bar = result.bar
        raise WeightsError(
            f"{path.name}: does not find what the detector finds: {result}. Asked of {info.precision}: "
            f"{bar.matched:.0%} matched, IoU {bar.iou}, score {bar.score}. "
            "Nothing was written; `verify=False` writes it all the same"
        )
    return result


def _readable(files: Sequence[Path], note: Callable[[str], object]) -> list[NDArray[np.uint8]]:
    """The pictures in some files; one that cannot be read is left out, with a line.

    Raises:
        ImageError: none can be read.
    """
    pictures = []
    for file in files:
        try:
            pictures.append(read_image(file))
        except ImageError as error:
            note(f"{error}; not compared on it")
    if not pictures:
        raise ImageError("`images`: none of the pictures to compare on can be read: name others, or leave it out")
    return pictures


def _files(origin: Origin, writer: ExportWriter, out: PathLike | None) -> list[Path]:
    """What will be written: by default beside the weights, or here for a bundled detector and one in memory."""
    first, *others = writer.suffixes
    if out is None:
        weights = origin.weights
        is_own = weights is not None and weights not in map(bundled_path, bundled_names())
        path = weights.with_suffix(first) if weights is not None and is_own else Path(f"{origin.spec.name}{first}")
    else:
        path = Path(out)
        if path.suffix != first and first in (".xml", ".mlpackage"):  # their own tools refuse other names
            raise ConfigError(f"`out={str(path)!r}`: {writer.title} needs a name that ends in {first}")
    return [path, *(path.with_suffix(suffix) for suffix in others)]


def _is_package(path: Path) -> bool:
    """Whether it is what Core ML calls a file: a folder with a manifest."""
    return path.suffix == ".mlpackage" and (path / "Manifest.json").is_file() and not path.is_symlink()


def _move(new: Path, place: Path) -> None:
    """Put a file, or a folder, in the place of an older one."""
    if not place.is_dir():
        put_in_place(new, place)
        return
    old = place.rename(hidden_path(place.parent))
    new.replace(place)
    shutil.rmtree(old, ignore_errors=True)
