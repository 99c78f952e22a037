"""`examples/onnx_node` finds in JavaScript what the detector finds; it has nothing of ours but the file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from singleshot.detector import load
from singleshot.images.read import write_image
from singleshot.images.samples import sample_pictures

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_node"
SCORE = 0.3


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    if not (EXAMPLE / "node_modules" / "onnxruntime-node").is_dir():
        pytest.skip(f"its packages are missing: cd {EXAMPLE}; npm install --ignore-scripts")
    return found


def test_the_same_boxes(node: str, toy_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    detector = load(toy_weights)
    picture = sample_pictures(1)[0][0]
    write_image(tmp_path / "photo.png", picture)
    file = detector.export(tmp_path / "model.onnx", dynamic=True, score=SCORE, verify=False, note=str).path
    command = [node, "detect.js", str(file), str(tmp_path / "photo.png")]
    done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, check=True, timeout=120)
    found = detector.predict(picture, SCORE, backend="torch")
    lines = done.stdout.splitlines()
    assert len(lines) == len(found) > 0
    numbers = np.array([[float(word) for word in line.split()[-5:]] for line in lines])
    assert [line.rsplit(maxsplit=5)[0] for line in lines] == found.names
    np.testing.assert_allclose(numbers[:, 0], found.scores, atol=2e-4)
    np.testing.assert_allclose(numbers[:, 1:], found.boxes_xyxy, atol=0.02)
