"""The code of docs/data.md runs as it stands there, on the pictures that the page renders, and it names every kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import singleshot.data
from singleshot.demo.scenes import make_scenes

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"
TEXT = PAGE.read_text(encoding="utf-8")
# Where a problem is made: its kind stands before its action, or is the first such word of the call.
KIND = re.compile(r'(?:add_problem|Problem|report|LineError|_leave_out)\([^"]*"([a-z]+(?:-[a-z]+)*)"')


def test_the_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_scenes(tmp_path / "photos", count=12, size_hw=(40, 50))
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) == 1
    assert (len(names["everything"]), names["train"].split, len(names["held_out"])) == (12, "trainval", 2)


def test_every_kind_of_problem_is_in_the_table() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(singleshot.data.__file__).parent.rglob("*.py")]
    kinds = {kind for source in sources for kind in KIND.findall(source)} - {"noted", "skipped"}
    assert {"missing-split", "orphan-label", "outside", "unreadable-annotation"} <= kinds
    listed = {
        kind for row in re.findall(r"^\| (`.*?`) \|", TEXT, flags=re.MULTILINE) for kind in re.findall("`(.*?)`", row)
    }
    assert sorted(kinds - listed) == []
