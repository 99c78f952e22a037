"""One OpenVINO runtime per process: Ctrl-C stays a KeyboardInterrupt after backends have come and gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

PROGRAM = """
import gc, os, signal
import numpy as np
from singleshot import load

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
detectors = [load("coco") for _ in range(3)]
print([len(each.predict(np.zeros((64, 64, 3), np.uint8), backend="openvino")) for each in detectors])
while detectors:  # the first goes first
    detectors.pop(0)
    gc.collect()
filler = [bytearray(5_000_000) for _ in range(5)]
for _ in range(2):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_there_is_one_core() -> None:
    from singleshot.export.openvino_core import openvino_core

    assert openvino_core() is openvino_core()


def test_interrupts_are_no_crash() -> None:
    """Runtimes that end out of order leave a freed stack for signals: exit code -11 without the one Core."""
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1:] == ["interrupted", "interrupted"]
