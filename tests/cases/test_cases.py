"""Every folder of the reference's three case sets against what its EXPECTED.md says.

A check lives in ``tests/cases/cases_<area>.py``: a function from a writable copy of the folder to nothing, listed in
that module's ``CASES`` under ``set/folder``. A folder without a check fails here.
"""

from __future__ import annotations

import os
import pkgutil
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from reference_data import reference_folder

SETS = ("cases", "cases-predict", "cases-trust")

# The scripts of the folders are of version 0.1: what they name, and what it is called today.
NAMES_OF_0_1 = {
    "from singleshot.predict.runner import Failure": "from singleshot import Failure",
    "from singleshot.images import": "from singleshot.images.read import",
    "from singleshot.engine.train import": "from singleshot.training.train import",
    "from singleshot.backends.cache import": "from singleshot.export.cache import",
    "score_threshold=": "score=",
}

Check = Callable[[Path], None]


def _checks() -> dict[str, Check]:
    checks: dict[str, Check] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("cases_"):
            checks |= import_module(module.name).CASES
    return checks


def _folders() -> list[str]:
    root = reference_folder()
    return [f"{name}/{entry.name}" for name in SETS for entry in sorted((root / name).glob("*")) if entry.is_dir()]


CHECKS = _checks()


@pytest.mark.parametrize("case", _folders() or ["none"])
def test_case(case: str, reference: Path, tmp_path: Path) -> None:
    assert case in CHECKS, f"nothing checks {case}"
    copy = tmp_path / "case"
    shutil.copytree(reference / case, copy, symlinks=True)
    for folder, _, files in os.walk(copy):
        os.chmod(folder, 0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o644)
    for script in copy.glob("*.py"):
        text = script.read_text(encoding="utf-8")
        for old, new in NAMES_OF_0_1.items():
            text = text.replace(old, new)
        script.write_text(text, encoding="utf-8")
    CHECKS[case](copy)


def test_no_check_without_a_folder(reference: Path) -> None:
    assert set(CHECKS) <= set(_folders())
