"""Weights of other systems. An importer is one module here with three names.

``DESCRIPTION`` says in a few words what it reads. ``recognises(path) -> bool`` looks at a file or folder without
reading it all and never raises for a readable path. ``read(path) -> (ModelSpec, state, ImportReport)`` converts it.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from singleshot.errors import WeightsError
from singleshot.models.config import ModelSpec
from singleshot.weights.importers.report import ImportReport

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ImportReport", "importers", "read_foreign"]


@cache
def importers() -> dict[str, ModuleType]:
    """All importers by source name."""
    modules = {info.name: import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)}
    return {name: module for name, module in sorted(modules.items()) if hasattr(module, "recognises")}


def read_foreign(path: str | Path, source: str = "auto") -> tuple[ModelSpec, dict[str, Tensor], ImportReport]:
    """Convert weights of another system.

    Args:
        path: a file or folder of that system.
        source: a key of ``importers()``, or ``auto`` to find out.

    Returns:
        The detector's spec, the numbers by our parameter names, and what was done.

    Raises:
        WeightsError: the path is missing, no importer knows it, or it is damaged.
    """
    path = Path(path)
    known = importers()
    if not path.exists():
        raise WeightsError(f"{path}: no such file or folder")
    if source == "auto":
        source = next((name for name, module in known.items() if module.recognises(path)), "")
        if not source:
            listed = "; ".join(f"{name}: {module.DESCRIPTION}" for name, module in known.items())
            raise WeightsError(f"{path}: not recognised. Importers are: {listed}. Name one with --from")
    if source not in known:
        raise WeightsError(f"no importer '{source}'; there are {', '.join(known)}")
    result: tuple[ModelSpec, dict[str, Tensor], ImportReport] = known[source].read(path)
    return result
