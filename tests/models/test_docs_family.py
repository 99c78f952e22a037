"""The code of docs/family.md runs, and its table names every model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from singleshot.models.catalogue import model_entry, model_names
from singleshot.models.description import describe, read_description

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/family.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    described, lists = blocks("yaml")
    (tmp_path / "detector.yaml").write_text(described)
    scope: dict[str, object] = {}
    for block in blocks("python"):
        exec(block, scope)
    assert scope["anchors"].shape == (6375, 4)  # type: ignore[attr-defined]
    assert scope["spec"].network.neck.kind == "dssd"  # type: ignore[attr-defined]
    scope["build_network"](scope["spec"].network)  # type: ignore[attr-defined, operator]
    (tmp_path / "lists.yaml").write_text(lists)
    assert describe(read_description("lists.yaml"), ["car"]).network.backbone.name == "resnet50"


def test_table_has_the_family_and_nothing_stale() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \| \d+x", TEXT, re.MULTILINE))
    assert rows <= set(model_names())
    family = {name for name in model_names() if "presets" in model_entry(name).build.__module__}
    assert family <= rows
