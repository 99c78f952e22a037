"""``make audit`` is good only where everything was looked up."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FINE = {"name": "rich", "version": "13.0", "vulns": []}
FAULTS = [{"id": "CVE-1", "fix_versions": ["1.1"]}, {"id": "CVE-2", "fix_versions": []}]
WEAK = {"name": "old", "version": "1.0", "vulns": FAULTS}
OURS = {"name": "singleshot", "skip_reason": "distribution marked as editable"}
UNKNOWN = {"name": "typer", "skip_reason": "Dependency not found on PyPI and could not be audited: typer (1.0)"}


def script() -> Any:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "scripts" / "audit.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "is_good", "lines"),
    [
        ([FINE, OURS], True, ["1 of 1 packages looked up, 0 weaknesses known"]),
        (
            [FINE, WEAK],
            False,
            [
                "old 1.0: CVE-1, mended in 1.1",
                "old 1.0: CVE-2, mended in no version",
                "2 of 2 packages looked up, 2 weaknesses known",
            ],
        ),
        (
            [FINE, UNKNOWN],
            False,
            [
                "1 of 2 packages looked up, 0 weaknesses known",
                "not looked up (is pypi.org within reach?): typer",
            ],
        ),
    ],
)
def test_what_was_not_looked_up_is_not_good(packages: list[dict[str, Any]], is_good: bool, lines: list[str]) -> None:
    assert script().tell(packages) == (lines, is_good)
