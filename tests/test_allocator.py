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
from singleshot.allocator import keep_freed_memory

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
keep_freed_memory()
work()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize("side", [3_000_000, 12_000_000], ids=["12 MB", "48 MB"])
def test_freed_memory_is_kept(side: int) -> None:
    """Maps that are made and freed again and again want no new pages from the system."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    program = PROGRAM.format(side=side)
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=clean)
    before, after = map(int, output.stdout.split())
    assert before > 50
    assert after < 20


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from singleshot import allocator

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("no mallopt elsewhere"))
    allocator.keep_freed_memory()
