"""What the library says of arguments, in the words of a command line."""

from __future__ import annotations

import pytest

from singleshot.cli.console import in_flags

OPTIONS = {
    "device": ("--device",),
    "compile": ("--compile", ""),
    "overwrite": ("--overwrite", ""),
    "size_hw": ("--size",),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("nothing to say", "nothing to say"),
        ("device='cuda:1' goes with backend='torch'", "--device cuda:1 goes with backend='torch'"),
        ("leave compile=True out", "leave --compile out"),
        ("or allow it to be replaced (overwrite)", "or allow it to be replaced (--overwrite)"),
        ("leave size_hw='300' out", "leave --size 300 out"),
        ("mydevice='x' (outside) compile=Truely", "mydevice='x' (outside) compile=Truely"),
    ],
)
def test_arguments_become_options(text: str, expected: str) -> None:
    assert in_flags(text, OPTIONS) == expected
