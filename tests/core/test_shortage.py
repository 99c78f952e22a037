"""A shortage of memory is told by many libraries, each in its own words."""

from __future__ import annotations

import pytest

from singleshot.core.shortage import is_shortage, shortage
from singleshot.errors import ImageError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory"),
        (MemoryError("Unable to allocate 8.00 GiB for an array"), "not enough memory (Unable to allocate 8.00 GiB"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory\nmore"), "124"),
        (RuntimeError("std::bad_alloc"), "bad_alloc"),
        (RuntimeError("can't start new thread"), "thread"),
        (RuntimeError("could not create a primitive"), "primitive"),
        (ImportError("libx.so: failed to map segment from shared object"), "libx.so"),
    ],
)
def test_a_shortage_is_known_and_said_in_one_line(error: Exception, said: str) -> None:
    assert is_shortage(error)
    assert said in shortage(error)
    assert "\n" not in shortage(error)


@pytest.mark.parametrize("error", [ValueError("no"), KeyError(), ImageError("a.jpg: not enough memory to decode it")])
def test_other_errors_are_none(error: Exception) -> None:
    assert not is_shortage(error)
