"""Annotations mean something at run time, and imports stand at the top unless they are heavy."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import singleshot
from singleshot.core.lazy import lazy_module
from singleshot.errors import MissingExtraError


def modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(singleshot.__path__, "singleshot."):
        if not module.name.endswith("__main__"):
            yield module.name


def functions(module: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public functions of a module, and public methods of its public classes."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value
        for key, member in vars(value).items() if inspect.isclass(value) else ():
            accessor = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if inspect.isfunction(accessor) and not key.startswith("_"):
                yield f"{name}.{key}", accessor


@pytest.mark.parametrize("name", list(modules()))
def test_annotations_can_be_resolved(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except (ImportError, MissingExtraError) as error:
        pytest.skip(f"an extra is not installed: {error}")
    for _, function in functions(module):
        try:
            typing.get_type_hints(function)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in {"torch", "PIL", "supervision", "matplotlib", "openvino"}:
                raise


def test_a_lazy_module_is_imported_when_it_is_used() -> None:
    stand_in = lazy_module("fractions")
    assert "Fraction" not in vars(stand_in)
    assert stand_in.Fraction is importlib.import_module("fractions").Fraction
    with pytest.raises(AttributeError, match="nothing"):
        stand_in.nothing  # noqa: B018
