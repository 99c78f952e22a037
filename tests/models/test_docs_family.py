"""The code of docs/family.md runs, and its table names every model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from singleshot.models.catalogue import model_entry, model_names

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/family.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "detector.yaml").write_text(blocks("yaml")[0])
    scope: dict[str, object] = {}
    for block in blocks("python"):
        exec(block, scope)
    assert scope["anchors"].shape == (6375, 4)  # type: ignore[attr-defined]
    assert scope["spec"].network.neck.kind == "dssd"  # type: ignore[attr-defined]
    scope["build_network"](scope["spec"].network)  # type: ignore[attr-defined, operator]


def test_table_has_the_family_and_nothing_stale() -> None:
    rows = re.findall(r"^\| `(\w+)` \| \d+x", TEXT, re.MULTILINE)
    assert rows == [name for name in model_names() if name in rows]
    assert {name for name in model_names() if not model_entry(name).family.startswith("mxnet")} <= set(rows)
