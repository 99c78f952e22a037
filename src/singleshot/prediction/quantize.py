"""``singleshot.quantize``: a detector's int8 form, made from the images that a user names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from singleshot.core.files import check_output
from singleshot.errors import ConfigError
from singleshot.export.compiled import compiled_file
from singleshot.export.int8_file import int8_path
from singleshot.export.package import Kind, Package, check_kind
from singleshot.export.quantize import IMAGES, quantize_package
from singleshot.export.readers import read_exported
from singleshot.prediction.sources import search_images
from singleshot.weights.find import find_weights

PathLike = str | os.PathLike[str]


class Quantized(NamedTuple):
    """A detector's int8 form.

    Attributes:
        path: the file.
        images: how many it was calibrated on.
        beside_weights: where `Detector.predict` looks for it: another place than ``path`` where it was asked for.
        missed: what was asked for and could not be looked at, a line each.
    """

    path: Path
    images: int
    beside_weights: Path
    missed: list[str]


def quantize(
    model: PathLike,
    data: PathLike | Sequence[PathLike],
    *,
    out: PathLike | None = None,
    backend: str = "openvino",
    images: int = IMAGES,
    recursive: bool = False,
    overwrite: bool = False,
    note: Callable[[str], object] = warnings.warn,
) -> Quantized:
    """Make a detector's int8 form, calibrated on typical images, which need no labels.

    Args:
        model: a weights file, a bundled name, or an exported file of level ``raw``.
        data: image files, folders, globs.
        out: the int8 file; by default beside the weights, where `Detector.predict` finds it.
        backend: what will run it: ``openvino``, ``onnx``.
        images: how many to calibrate on, at most.
        recursive: look into subfolders.
        overwrite: replace an int8 file that is there.
        note: is told what is passed over.

    Raises:
        ConfigError: fewer than ten images can be read, or a setting makes no sense.
        ImageError: a source does not exist or holds no image.
        OutputError: the int8 file exists and may not be replaced.
        WeightsError: the model cannot be read.
        MissingExtraError: NNCF is not installed.
    """
    path, kind = find_weights(model), check_kind(backend)
    beside = int8_path(path, kind)
    target, found = Path(out or beside), search_images(data, recursive=recursive)
    check_output(target, overwrite=overwrite, sources=[path, *found.images])
    for line in (*found.missed, *found.notes):
        note(line)
    package = quantize_package(_float_package(path, kind), found.images, images)
    package.save(target)
    return Quantized(target, int(package.info.quantization["images"]), beside, found.missed)


def _float_package(path: Path, kind: Kind) -> Package:
    """The network that is made int8.

    Raises:
        ConfigError: an exported file of which no more can be made.
    """
    file = read_exported(path)
    if file is None:
        return compiled_file(kind, path)
    if file.info.level != "raw" or not file.backends:
        raise ConfigError(
            f"{path}: only exported files of level raw are made int8, not {file.kind} {file.info.level}: quantize the "
            "weights file that it was made from, or export that anew: 'singleshot export WEIGHTS --level raw'"
        )
    if file.info.precision == "int8":
        raise ConfigError(f"{path}: is int8 already")
    return file.package(kind)
