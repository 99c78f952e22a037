"""The small detector of ``tests/runtime``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from singleshot.models.registry import BACKBONES

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))


@pytest.fixture(scope="session")
def toy_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights with confident scores."""
    import toy

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES._objects, "toy", toy.toy_backbone)
        yield toy.save_toy(tmp_path_factory.mktemp("weights") / "small.safetensors")
