"""Frozen graphs of the TF Object Detection API (``frozen_inference_graph.pb``)."""

from __future__ import annotations

from pathlib import Path

from singleshot.interop.fill import Imported
from singleshot.interop.tensorflow.graphdef import read_constants
from singleshot.interop.tensorflow.spec import convert_arrays

FROZEN = "frozen_inference_graph.pb"


def read(path: str | Path) -> Imported:
    """Convert a frozen SSD; BatchNorms keep their statistics, so it can be trained on.

    Args:
        path: the ``.pb`` file, or its folder.

    Raises:
        WeightsError: it is damaged, or another network.
    """
    path = Path(path)
    file = path / FROZEN if path.is_dir() else path
    return convert_arrays(read_constants(file), file, "tensorflow")
