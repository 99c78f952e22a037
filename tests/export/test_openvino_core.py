"""One OpenVINO runtime per process: Ctrl-C stays a KeyboardInterrupt after backends have come and gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")

TOY = Path(__file__).parents[1] / "runtime"

PROGRAM = """
import gc, os, signal, sys
import toy
from singleshot import load

toy.register()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
detectors = [load(sys.argv[1]) for _ in range(3)]
print([len(each.predict(toy.noise(), backend="openvino")) for each in detectors])
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


def test_interrupts_are_no_crash(toy_weights: Path) -> None:
    """Runtimes that end out of order leave a freed stack for signals: exit code -11 without the one Core."""
    paths = os.pathsep.join(filter(None, [str(TOY), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", PROGRAM, str(toy_weights)]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths}
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1:] == ["interrupted", "interrupted"]


def test_nothing_is_reported() -> None:
    words = "import singleshot.runtime.openvino, openvino.tools.ovc as ovc; print(type(ovc.telemetry).__module__)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


def test_nodes_that_nobody_named_have_the_same_names_each_time() -> None:
    import numpy as np
    import openvino as ov
    from openvino import opset13

    from singleshot.export.openvino_core import name_in_order

    def names() -> list[str]:
        port = opset13.parameter([2], np.float32, name="images")
        model = ov.Model([opset13.add(opset13.relu(port), np.float32([1, 2]))], [port], "m")
        before = [node.get_friendly_name() for node in model.get_ordered_ops()]
        name_in_order(model)
        assert before != [node.get_friendly_name() for node in model.get_ordered_ops()]
        return [node.get_friendly_name() for node in model.get_ordered_ops()]

    first = names()
    assert "images" in first
    assert names() == first
