"""Modules that are imported when something of them is first used: so that annotations can name ``torch.Tensor``."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """Stands for a module that is heavy, or that imports the one that names it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


def lazy_module(name: str) -> Any:
    """A stand-in for a module; under ``TYPE_CHECKING`` its real import stands in its place.

    if TYPE_CHECKING:
        import torch
    else:
        torch = lazy_module("torch")
    """
    return LazyModule(name)
