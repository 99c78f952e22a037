"""examples/ssd_demo.ipynb runs from its first cell to its last and shows what it says."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "ssd_demo.ipynb"


def cells() -> dict[str, dict[str, Any]]:
    return {cell["id"]: cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]}


def test_it_is_short_and_stored_without_outputs() -> None:
    code = [cell for cell in cells().values() if cell["cell_type"] == "code"]
    assert 5 <= len(code) < len(cells()) < 15
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the kernel's client is not ours
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    for module in ("ipykernel", "skimage"):
        pytest.importorskip(module)
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    client.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()

    outputs = {cell["id"]: cell["outputs"] for cell in notebook.cells if cell["cell_type"] == "code"}
    (shown,) = outputs["detect"]
    picture = cv2.imdecode(np.frombuffer(b64decode(shown["data"]["image/png"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (400, 600, 3)
    assert "cup\n  0.9" in outputs["classes"][0]["text"]
    lines = outputs["threshold"][0]["text"].splitlines()
    counts = [line.count(",") for line in lines]
    assert counts == sorted(counts, reverse=True)
    assert lines[-1] == "0.90  cup"
    assert "torch.Size([1, 3, 300, 300])" in outputs["network"][0]["data"]["text/plain"]
    assert "star [137, 0, 260, 110]" in outputs["data"][0]["text"]
