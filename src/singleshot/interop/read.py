"""``read_foreign``: weights of another system, whichever it is."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from singleshot.core.files import is_regular
from singleshot.core.setting_errors import plain_reason
from singleshot.core.settings import SizeHW
from singleshot.errors import ConfigError, MissingExtraError, SingleshotError, WeightsError
from singleshot.interop.fill import Imported
from singleshot.interop.importers import IMPORTERS, ForeignFile, Importer, StateDictImporter, known
from singleshot.interop.translate import with_names, with_pixels

MAX_REASON = 300
MALFORMED = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, AssertionError, MemoryError,
    EOFError, struct.error,
)  # fmt: skip
"""What readers trip over in files that make no sense, wherever they had not foreseen it."""


def read_foreign(
    path: str | Path,
    source: str = "auto",
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    scale: float | None = None,
    size_hw: SizeHW | None = None,
) -> Imported:
    """Convert weights of another system.

    Args:
        path: a file or folder of that system.
        source: a name of ``IMPORTERS``, or ``auto`` to find out.
        class_names: names of the classes without background; ``None`` takes what their number is known to mean.
        mean: what to subtract from pixels of 0..255, in the network's channel order; ``None`` takes the system's.
        scale: what to multiply pixels with after that; ``None`` takes the system's.
        size_hw: the network's input, for files that do not tell (MXNet's); ``None`` guesses, and the report says how.

    Returns:
        The detector's spec, the numbers by our parameter names, and what was done.

    Raises:
        WeightsError: the path is missing, no importer knows it, or it is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise WeightsError(f"{path}: no such file or folder")
    if not path.is_dir() and not is_regular(path):
        raise WeightsError(f"{path}: is no ordinary file")
    try:
        spec, state, report = _read(ForeignFile(path), source, size_hw)
    except (WeightsError, MissingExtraError, OSError):
        raise
    except (SingleshotError, *MALFORMED) as error:
        reason = f"{type(error).__name__}: {plain_reason(error)}"[:MAX_REASON]
        raise WeightsError(f"{path}: damaged, or another kind of network: {reason}") from error
    if class_names is not None:
        spec = with_names(spec, class_names, path)
    return with_pixels(spec, mean, scale), state, report


def _read(file: ForeignFile, source: str, size_hw: SizeHW | None) -> Imported:
    importer = _named(source) if source != "auto" else _find(file, size_hw)
    if size_hw is not None and not importer.takes_size:
        raise WeightsError(f"{file.path}: {importer.name} has input sizes of its own; leave `size` out")
    return importer.read(file, size_hw)


def _named(source: str) -> Importer:
    try:
        return IMPORTERS.get(source)
    except ConfigError as error:
        raise WeightsError(str(error)) from None


def _find(file: ForeignFile, size_hw: SizeHW | None) -> Importer:
    """The first importer that knows the file: files of its own before state dicts, which have to be read for that."""
    for wants_state in (False, True):
        if wants_state and file.state is not None and size_hw is not None:
            raise WeightsError(f"{file.path}: a state dict, whose system has input sizes of its own; leave `size` out")
        for name in IMPORTERS:
            importer = IMPORTERS.get(name)
            if isinstance(importer, StateDictImporter) == wants_state and importer.recognises(file):
                return importer
    if file.state is None:
        raise WeightsError(f"{file.path}: not recognised. {known()}")
    shown = ", ".join(list(file.state)[:4])
    raise WeightsError(
        f"{file.path}: a state dict of no known system (it begins with {shown}). A classifier is where training "
        f"starts: weights 'imagenet:{file.path}'. {known()}"
    )
