"""Detectors from files: ours, exported ones, other systems'."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from singleshot.core.files import check_output
from singleshot.core.lazy import require_torch
from singleshot.core.sizes import parse_size
from singleshot.detector.detector import Detector
from singleshot.detector.how import PathLike
from singleshot.export.readers import is_foreign_tflite, read_exported
from singleshot.weights.file import read_spec
from singleshot.weights.find import find_weights

_log = logging.getLogger(__name__)


def load(model: PathLike = "coco") -> Detector:
    """Load a detector.

    Args:
        model: name of bundled weights (``coco``, ``coco-v3``), a weights file of singleshot, or an exported file: an
            ONNX file, OpenVINO's ``.xml`` ... (docs/backends.md). Which it is, its content tells. A TFLite graph of
            another system is converted, where `import_weights` knows it.

    Raises:
        WeightsError: no such name or file, or the file is damaged or foreign.
    """
    path = find_weights(model)
    if is_foreign_tflite(path):
        return _converted(path)
    file = read_exported(path)
    if file is None:
        return Detector(read_spec(path), path)
    for line in file.notes:
        _log.warning(line)
    return Detector(file.spec, file)


def _converted(path: Path) -> Detector:
    """A graph of another system as a network in memory; says what it was taken for."""
    require_torch("reading another system's weights")
    from singleshot.interop.read import read_foreign

    spec, state, report = read_foreign(path, "tflite")
    kept = f"{path}: of another system, converted in memory: 'singleshot import {path}' keeps what it becomes"
    for line in (kept, *report.notes):
        _log.warning(line)
    return Detector(spec, state)


def import_weights(
    path: PathLike,
    source: str = "auto",
    out: PathLike | None = None,
    *,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    scale: float | None = None,
    size: int | str | Sequence[int] | None = None,
    overwrite: bool = False,
) -> Detector:
    """Load weights of another system.

    Args:
        path: its file or folder.
        source: which system; ``auto`` finds out.
        out: also write them as a weights file of singleshot.
        classes: names of the classes without background; by default what their number is known to mean (20: VOC;
            80 and COCO's 90 ids: COCO), else ``class_1``, ...
        mean: what to subtract from pixels of 0..255, in the network's channel order; by default the system's.
        scale: what to multiply pixels with after that; by default the system's.
        size: the network's input, for files that do not tell it (MXNet's): a side, HEIGHTxWIDTH or (height, width).
        overwrite: ``out`` may be an existing file, though never the one that is read.

    Raises:
        WeightsError: not recognised, damaged, or incomplete.
        OutputError: ``out`` is the checkpoint, or exists and may not be replaced.
    """
    require_torch("reading another system's weights")
    from singleshot.interop.read import read_foreign

    if out is not None:
        check_output(out, overwrite=overwrite, sources=[path])
    spec, state, _ = read_foreign(Path(path), source, classes, mean, scale, None if size is None else parse_size(size))
    detector = Detector(spec, state)
    if out is not None:
        detector.save(out)
    return detector
