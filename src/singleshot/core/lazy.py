"""Modules that are imported when something of them is first used: so that annotations can name ``torch.Tensor``."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from singleshot.errors import MissingExtraError


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


def has_torch() -> bool:
    """Whether torch is installed. It is not imported."""
    try:
        return "torch" in sys.modules or find_spec("torch") is not None
    except (ImportError, ValueError):
        return False


def missing_torch(purpose: str) -> MissingExtraError | None:
    """The error to raise where torch is not installed; ``None`` where it is.

    Args:
        purpose: what needs it, for the message.
    """
    return None if has_torch() else MissingExtraError("torch", "train", purpose)


def torch_error(error: ModuleNotFoundError, purpose: str = "this") -> MissingExtraError | None:
    """What to raise for a failed import: ``None`` where it was not torch that is missing."""
    is_torch = (error.name or "").split(".")[0] == "torch"
    return missing_torch(purpose) if is_torch else None


def require_torch(purpose: str) -> None:
    """Refuse what needs torch where it is not installed.

    Raises:
        MissingExtraError: it is not.
    """
    if missing := missing_torch(purpose):
        raise missing
