"""A small detector, and a cache of its own for each module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import toy

from singleshot.models.registry import BACKBONES


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small detector with random weights and confident scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES._objects, "toy", toy.toy_backbone)
        yield toy.save_toy(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SINGLESHOT_CACHE", str(folder))
        yield folder
