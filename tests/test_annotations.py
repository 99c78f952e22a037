"""Annotations mean something at run time, and imports stand at the top unless they are heavy."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

import singleshot
from singleshot.core.lazy import lazy_module
from singleshot.errors import MissingExtraError
from source_trees import module_trees


def modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(singleshot.__path__, "singleshot."):
        if not module.name.endswith("__main__"):
            yield module.name


def functions(module: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public functions of a module, and public methods of its public classes."""
    for name, value in list(vars(module).items()):  # a lazy name is kept when it is looked at
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
            if (error.name or "").split(".")[0] not in HEAVY:
                raise


def test_a_lazy_module_is_imported_when_it_is_used() -> None:
    stand_in = lazy_module("fractions")
    assert "Fraction" not in vars(stand_in)
    assert stand_in.Fraction is importlib.import_module("fractions").Fraction
    with pytest.raises(AttributeError, match="nothing"):
        stand_in.nothing  # noqa: B018


HEAVY = {
    *("torch", "torchvision", "cv2", "openvino", "onnx", "onnxruntime", "nncf", "matplotlib", "jinja2", "markupsafe"),
    *(
        "numba",
        "av",
        "faster_coco_eval",
        "skimage",
        "timm",
        "tensorboard",
        "scipy",
        "PIL",
        "supervision",
        "IPython",
        "pandas",
        "executorch",
        "litert_torch",
        "ai_edge_litert",
        "coremltools",
        "mlflow",
        "wandb",
        "optuna",
        "fsspec",
        "ray",
    ),
}
"""The torch line, and what extras bring."""

REASONS = {
    ("singleshot.demo", "singleshot.demo.detect"): "the stages import what their package shares",
    ("singleshot.demo", "singleshot.demo.learn"): "the stages import what their package shares",
    ("singleshot.demo.detect", "singleshot.kernels"): "compiles",
    ("singleshot.kernels", "*"): "compiles when first asked, not at import",
    ("singleshot.errors", "importlib.metadata"): "read for a message only; `import singleshot` stays quick",
    ("singleshot.weights.file", "safetensors"): "read for the numbers only: listing models needs none",
    ("singleshot.weights.file", "safetensors.torch"): "imports torch",
    ("singleshot.weights.manifest", "rich.console"): "of a download only",
    ("singleshot.weights.manifest", "rich.progress"): "of a download only",
}
TREES = module_trees()


def targets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        inner = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in TREES else f"{node.module}" for name in inner]
    return []


@cache
def reached(module: str) -> frozenset[str]:
    """Names that a module imports at its top, and the packages that it lies in."""
    parent = module.rpartition(".")[0]
    above = {parent} - {"", "singleshot"}
    return frozenset(above.union(*(targets(node) for node in TREES[module].body)))


@cache
def is_heavy(module: str) -> bool:
    """Whether importing a module imports something heavy."""
    seen, waiting = set(), {module}
    while waiting:
        name = waiting.pop()
        if name.split(".")[0] in HEAVY:
            return True
        seen.add(name)
        if name in TREES:
            waiting |= reached(name) - seen
    return False


def test_imports_stand_at_the_top() -> None:
    """Inside functions: only across the torch line, of an extra, in verbs of the command line, or for a reason."""
    late, used = [], set()
    for module, tree in TREES.items():
        if module == "singleshot" or module.startswith("singleshot.cli"):
            continue
        inner = (node for part in ast.walk(tree) if isinstance(part, ast.FunctionDef) for node in ast.walk(part))
        for name in {name for node in inner for name in targets(node)}:
            reason = next((key for key in ((module, name), (module, "*")) if key in REASONS), None)
            if reason:
                used.add(reason)
            elif not is_heavy(name):
                late.append((module, name))
    assert late == []
    assert used == set(REASONS)
