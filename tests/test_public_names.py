"""What ``import singleshot`` offers: one list, told to people, to type checkers and to the lazy import alike."""

from __future__ import annotations

import ast
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import singleshot
from singleshot import errors

STUBS = next(
    node
    for node in ast.parse(Path(singleshot.__file__).read_text(encoding="utf-8")).body
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
)


def test_one_list_of_names() -> None:
    stubs = {
        (alias.name, f"{node.module}")
        for node in STUBS.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(singleshot.__all__) == singleshot.__all__ == dir(singleshot)
    assert {("data", "singleshot"), *singleshot._HOMES.items()} == stubs
    assert {name for name, _ in stubs} | {"__version__"} == set(singleshot.__all__)


def test_every_error_is_among_them() -> None:
    own = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert own <= set(singleshot.__all__)


@pytest.mark.parametrize("name", singleshot.__all__)
def test_every_name_is_there_and_is_explained(name: str) -> None:
    value = getattr(singleshot, name)
    assert name == "__version__" or value.__doc__
    assert name in ("__version__", "data") or value.__name__ == name


def test_another_name_is_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'detect'"):
        singleshot.detect  # noqa: B018


def test_help_names_what_users_handle() -> None:
    text = pydoc.render_doc(singleshot, renderer=pydoc.plaintext)
    head = text[: text.index("PACKAGE CONTENTS")]
    assert all(name in head for name in singleshot.__all__ if name != "__version__")
    assert "_HOMES" not in text


def test_importing_brings_no_library() -> None:
    code = (
        "import sys, singleshot\n"
        "singleshot.ConfigError, singleshot.MissingExtraError\n"
        "sys.exit(', '.join({'torch', 'numpy', 'cv2', 'pydantic'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
