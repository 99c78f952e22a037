"""Weights of other systems. An importer is one module here.

Every importer has a ``DESCRIPTION`` in a few words. One that reads files of its own has ``recognises(path) -> bool``,
which looks at a file or folder without reading it all and never raises for a readable path, and
``read(path) -> (ModelSpec, state, ImportReport)``. One that reads state dicts of PyTorch has
``matches(names) -> bool`` and ``translate(shapes, origin) -> Translation``; reading the file is not its business.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from singleshot.core.files import is_regular
from singleshot.core.settings import SizeHW
from singleshot.errors import MissingExtraError, SingleshotError, WeightsError
from singleshot.interop.report import ImportReport
from singleshot.models.config import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    Imported = tuple[ModelSpec, dict[str, Tensor], ImportReport]

__all__ = ["ImportReport", "importers", "read_foreign"]

MODULES = {
    "caffe": "singleshot.interop.caffe.read",
    "lufficc": "singleshot.interop.pytorch.lufficc",
    "mxnet": "singleshot.interop.mxnet.read",
    "nvidia": "singleshot.interop.pytorch.nvidia",
    "pytorch_ssd": "singleshot.interop.pytorch.pytorch_ssd",
    "refinedet_pytorch": "singleshot.interop.pytorch.refinedet_pytorch",
    "sgrvinod": "singleshot.interop.pytorch.sgrvinod",
    "ssd_pytorch": "singleshot.interop.pytorch.ssd_pytorch",
    "tensorflow": "singleshot.interop.tensorflow.frozen_graph",
    "tfjs": "singleshot.interop.tensorflow.tfjs",
    "torchvision": "singleshot.interop.pytorch.torchvision",
}

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".pkl", ".bin", ".tar", ".ckpt", ".safetensors")
CHECKPOINT_STARTS = (b"PK\x03\x04", b"\x80")
"""Zip archives and pickles."""

MAX_REASON = 300
MALFORMED = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, AssertionError, MemoryError,
    EOFError, struct.error,
)  # fmt: skip
"""What readers trip over in files that make no sense, wherever they had not foreseen it."""


@cache
def importers() -> dict[str, ModuleType]:
    """All importers by source name."""
    return {name: import_module(module) for name, module in MODULES.items()}


def read_foreign(
    path: str | Path,
    source: str = "auto",
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    scale: float | None = None,
    size_hw: SizeHW | None = None,
) -> tuple[ModelSpec, dict[str, Tensor], ImportReport]:
    """Convert weights of another system.

    Args:
        path: a file or folder of that system.
        source: a key of ``importers()``, or ``auto`` to find out.
        class_names: names of the classes without background; ``None`` takes what their number is known to mean.
        mean: what to subtract from pixels of 0..255, in the network's channel order; ``None`` takes the system's.
        scale: what to multiply pixels with after that; ``None`` takes the system's.
        size_hw: the network's input, for files that do not tell (MXNet's); ``None`` guesses, and the report says how.

    Returns:
        The detector's spec, the numbers by our parameter names, and what was done.

    Raises:
        WeightsError: the path is missing, no importer knows it, or it is damaged.
    """
    from singleshot.interop.translate import with_names, with_pixels

    path = Path(path)
    if not path.exists():
        raise WeightsError(f"{path}: no such file or folder")
    if not path.is_dir() and not is_regular(path):
        raise WeightsError(f"{path}: is no ordinary file")
    if source != "auto" and source not in importers():
        raise WeightsError(f"no importer '{source}'; there are {', '.join(importers())}")
    try:
        spec, state, report = _read(path, source, size_hw)
    except (WeightsError, MissingExtraError, OSError):
        raise
    except (SingleshotError, *MALFORMED) as error:
        raise WeightsError(f"{path}: damaged, or another kind of network: {_reason(error)}") from error
    if class_names is not None:
        spec = with_names(spec, class_names, path)
    return with_pixels(spec, mean, scale), state, report


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:MAX_REASON]


def _read(path: Path, source: str, size_hw: SizeHW | None) -> Imported:
    modules = importers()
    own = [source] if source != "auto" else [name for name in modules if hasattr(modules[name], "recognises")]
    for name in own:
        module = modules[name]
        if hasattr(module, "read") and (source != "auto" or module.recognises(path)):
            if size_hw is not None and not hasattr(module, "TAKES_SIZE"):
                raise WeightsError(f"{path}: {name} says its input size itself; leave size_hw (--size) out")
            result: Imported = module.read(path) if size_hw is None else module.read(path, size_hw)
            return result
    if not _is_checkpoint(path):
        raise WeightsError(f"{path}: not recognised. {_known()}")
    if size_hw is not None:
        raise WeightsError(f"{path}: a state dict, whose system has input sizes of its own; leave size_hw (--size) out")
    return _read_state_dict(path, source)


def _read_state_dict(path: Path, source: str) -> Imported:
    from singleshot.interop.translate import convert

    state = _state_dict(path)
    names = state.keys()
    if source == "auto":
        found = [name for name, module in importers().items() if hasattr(module, "matches") and module.matches(names)]
        if not found:
            shown = ", ".join(list(names)[:4])
            raise WeightsError(f"{path}: a state dict of no known system (it begins with {shown}). {_known()}")
        source = found[0]
    elif not importers()[source].matches(names):
        raise WeightsError(f"{path}: a state dict, but not of {source}; leave out --from to find out. {_known()}")
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    try:
        translation = importers()[source].translate(shapes, str(path))
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{path}: like {source}, but {error} is missing or has another rank") from error
    return convert(translation, state, path, source)


def _state_dict(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        from singleshot.weights.file import SPEC_KEY, read_header, read_state

        if SPEC_KEY in read_header(path)[0]:
            raise WeightsError(f"{path}: already a weights file of singleshot: use singleshot.load")
        return read_state(path)
    from singleshot.weights.torch_file import read_checkpoint

    return read_checkpoint(path)


def _is_checkpoint(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4)
    return path.suffix in CHECKPOINT_SUFFIXES or start.startswith(CHECKPOINT_STARTS)


def _known() -> str:
    listed = "".join(f"\n  {name}: {module.DESCRIPTION}" for name, module in importers().items())
    return f"Known are:{listed}"
