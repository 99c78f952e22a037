from __future__ import annotations

import importlib.metadata
from importlib.metadata import PackageNotFoundError

import pytest

from singleshot.errors import MissingExtraError, extra_requirements

LINES = [
    "torch>=2.6",
    "matplotlib>=3.8; extra == 'report'",
    'jinja2>=3.1 ; extra == "report"',
    "singleshot[report,onnx]; extra == 'demo'",
    "scikit-image>=0.25; extra == 'demo'",
    "onnx>=1.16; extra == 'onnx'",
]


@pytest.mark.parametrize(
    ("extra", "wanted"),
    [
        ("nothing", []),
        ("onnx", ["onnx>=1.16"]),
        ("report", ["matplotlib>=3.8", "jinja2>=3.1"]),
        ("demo", ["matplotlib>=3.8", "jinja2>=3.1", "onnx>=1.16", "scikit-image>=0.25"]),
    ],
)
def test_what_an_extra_installs(extra: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: LINES)
    assert extra_requirements(extra) == wanted


def test_the_remedy_names_packages_that_an_index_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: LINES)
    message = str(MissingExtraError("matplotlib", "report", "The page"))
    assert message.startswith("The page needs the package 'matplotlib': pip install 'matplotlib>=3.8' 'jinja2>=3.1'")
    assert message.endswith("(singleshot's extra 'report')")


def test_without_metadata_the_package_itself_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert "pip install 'matplotlib'" in str(MissingExtraError("matplotlib", "report", "The page"))


def test_the_real_extras_are_found() -> None:
    for extra in ("report", "tensorboard", "openvino", "onnx", "backbones", "demo"):
        assert extra_requirements(extra), extra
