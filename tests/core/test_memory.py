"""Freed memory is kept for the next batch."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from singleshot.core.memory import keep_freed_memory

def work():
    for _ in range(5):
        maps = [np.ones({side}, dtype=np.float32) for _ in range(3)]
        del maps

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

work()
before = faults()
{calls}
work()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize(
    ("side", "calls"),
    [
        (3_000_000, "keep_freed_memory()"),
        (12_000_000, "keep_freed_memory()"),
        (12_000_000, "keep_freed_memory(); keep_freed_memory(2**24)"),
        (12_000_000, "keep_freed_memory(2**24); keep_freed_memory()"),
        (1_000_000, "keep_freed_memory(2**24)"),
    ],
    ids=["12 MB", "48 MB", "less was asked for later", "more was asked for later", "4 MB, 16 MB kept"],
)
def test_freed_memory_is_kept(side: int, calls: str) -> None:
    """Maps that are made and freed again and again want no new pages from the system."""
    before, after = faults(side, calls)
    assert before > 50
    assert after < 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_more_than_was_asked_for_is_given_back() -> None:
    assert faults(12_000_000, "keep_freed_memory(2**24)")[1] > 50


def faults(side: int, calls: str) -> tuple[int, int]:
    """Page faults before and after memory is kept."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    program = PROGRAM.format(side=side, calls=calls)
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=clean)
    before, after = map(int, output.stdout.split())
    return before, after


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from singleshot.core import memory

    monkeypatch.setattr(memory, "_kept", 0)  # another test may have asked for it here already
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("no mallopt elsewhere"))
    memory.keep_freed_memory()
