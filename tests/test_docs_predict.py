"""The code of docs/predict.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from singleshot.demo.detect import photo_folder
from singleshot.images.read import read_image, write_image

PAGE = Path(__file__).resolve().parents[1] / "docs" / "predict.md"


def test_python_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("supervision")
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    image = read_image(photo_folder() / "coffee.png")
    for name in ("street.jpg", "a.jpg", "b.jpg", "photos/c.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        write_image(name, image)
    names: dict[str, Any] = {"rgb_array": image}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) == 3
    assert len(names["many"]) == 2
    assert Path("street_boxes.jpg").exists()
