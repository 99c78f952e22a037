"""A data set that several formats pack."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_makers import make_list, make_voc_image, voc_object


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images: one without objects, one in two splits."""
    root = tmp_path_factory.mktemp("source")
    make_voc_image(root, "empty.day1")
    for number in range(8):
        make_voc_image(root, f"p{number}", *[voc_object("cat", (1 + number, 2, 30, 20), number % 2)] * (number % 3 > 0))
    make_list(root, "train", *(f"p{number}" for number in range(6)), "empty.day1")
    make_list(root, "val", "p6", "p7", "p0")
    return root
