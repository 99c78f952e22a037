"""The package's sources as syntax trees, parsed once for all tests that read them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import singleshot

SOURCE = Path(singleshot.__file__).parent


@cache
def source_trees() -> dict[Path, ast.Module]:
    """By path within the package."""
    return {path.relative_to(SOURCE): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")}


@cache
def module_trees() -> dict[str, ast.Module]:
    """By dotted name."""
    return {
        ".".join(("singleshot", *path.with_suffix("").parts)).removesuffix(".__init__"): tree
        for path, tree in source_trees().items()
    }
