"""The code of docs/evaluate.md runs as it stands there, and its options exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer

from singleshot.cli import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evaluate.md"


@pytest.fixture
def _photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    images, annotations = [], []
    for number in range(6):
        cv2.imwrite(f"photos/{number}.png", np.full((60, 90, 3), 40 * number, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "height": 60, "width": 90})
        box = {"bbox": [10, 10, 40, 30], "area": 1200, "iscrowd": 0}
        annotations.append({"id": number, "image_id": number, "category_id": 1, **box})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "dog"}]}
    Path("photos/instances.json").write_text(json.dumps(document))


@pytest.mark.usefixtures("_photos")
def test_python_blocks_run_in_order() -> None:
    pytest.importorskip("matplotlib")
    boxes = np.array([[0.0, 0, 10, 10]])
    names: dict[str, Any] = {"image_index": np.zeros(1, int), "class_ids": np.zeros(1, int), "boxes_xyxy": boxes}
    names |= {"image_count": 1, "scores": np.ones(1)}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for block in blocks:
        # the photos of the page are many, and a detector that finds the same in all has no interval
        lines = [line for line in block.splitlines() if ".intervals[" not in line]
        exec(compile("\n".join(lines), str(PAGE), "exec"), names)
    assert len(blocks) == 2
    assert {path.name for path in Path("eval").iterdir()} == {"eval.json", "curves.csv", "report.html"}
    assert names["metrics"].voc_area == 1


def test_the_options_of_the_page_exist() -> None:
    command = typer.main.get_command(app).get_command(None, "eval")  # type: ignore[attr-defined, arg-type]
    known = {name for parameter in command.params for name in parameter.opts}
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= known
