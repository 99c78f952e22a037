"""The oldest versions that are tested are the lower bounds that users are promised."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def versions() -> ModuleType:
    spec = importlib.util.spec_from_file_location("versions", ROOT / "scripts" / "versions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def normal(version: str) -> str:
    """``2.6`` and ``2.6.0`` are one version; so are ``2.6.0`` and ``2.6.0+cpu``."""
    release = version.partition("+")[0]
    while release.endswith(".0"):
        release = release.removesuffix(".0")
    return release


def test_the_oldest_are_the_bounds(versions: ModuleType) -> None:
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pinned = {name.lower(): version for name, _, version in (line.partition("==") for line in lines if "==" in line)}
    bounds = versions.lower_bounds()
    assert {"torch", "numpy", "opencv-python-headless", "pydantic", "typer", "openvino", "onnxruntime"} <= set(bounds)
    assert {name: normal(pinned[name.lower()]) for name in bounds} == {n: normal(bound) for n, bound in bounds.items()}


def test_a_requirement_without_a_bound_is_refused(
    versions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "pyproject.toml").read_text().replace('"numpy>=1.26"', '"numpy"')
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="'numpy' has no lower bound"):
        versions.lower_bounds()


@pytest.mark.parametrize(
    ("words", "torch", "pytest_words"),
    [
        ("oldest", None, "-n auto"),
        ("newest --", None, "-n auto"),
        ("oldest -- -n auto tests/core", None, "-n auto tests/core"),
        ("oldest --torch 2.13.0 -- -n auto tests/core", "2.13.0", "-n auto tests/core"),
    ],
)
def test_what_stands_behind_two_dashes_is_for_pytest(
    words: str, torch: str | None, pytest_words: str, versions: ModuleType
) -> None:
    options = versions.parse(words.split())
    assert (options.torch, options.pytest) == (torch, pytest_words.split())
