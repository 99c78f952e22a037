from __future__ import annotations

import pytest

from singleshot.core.wording import counted, from_cell, listed, no_formula, printable


@pytest.mark.parametrize(
    ("count", "thing", "text"),
    [(0, "image", "0 images"), (1, "image", "1 image"), (1, "class", "1 class"), (2, "class", "2 classes"),
     (2000, "object", "2,000 objects")],
)  # fmt: skip
def test_counted(count: int, thing: str, text: str) -> None:
    assert counted(count, thing) == text


@pytest.mark.parametrize(
    ("items", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")]
)
def test_listed(items: list[str], text: str) -> None:
    assert listed(items, most=2) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", ""), ("Straße 猫\n", "Straße 猫\n"), ("caf\udce9.jpg", r"caf\udce9.jpg"), ("\x1b[31mred", r"\x1b[31mred"),
     ("\x00", r"\x00"), ("gpj\u202eexe", r"gpj\u202eexe"), ("\u2066x", r"\u2066x")],
)  # fmt: skip
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


@pytest.mark.parametrize(
    ("name", "cell"), [("", ""), ("cat", "cat"), ("=1+1", "'=1+1"), ("@a", "'@a"), ("-x", "'-x"), ("a=b", "a=b")]
)
def test_names_are_no_formulas(name: str, cell: str) -> None:
    assert no_formula(name) == cell
    assert from_cell(cell) == name
