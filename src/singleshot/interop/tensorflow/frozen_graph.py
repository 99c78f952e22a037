"""Frozen graphs of the TF Object Detection API (``frozen_inference_graph.pb``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from singleshot.interop.report import ImportReport
from singleshot.interop.tensorflow.graphdef import looks_like_graphdef, read_constants
from singleshot.interop.tensorflow.spec import convert_arrays
from singleshot.models.config import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTION = "TensorFlow frozen_inference_graph.pb, or the folder that holds it (SSD and SSDLite, MobileNet v1 and v2)"

FROZEN = "frozen_inference_graph.pb"


def recognises(path: Path) -> bool:
    """Whether this is a frozen graph, or a folder of the model zoo that holds one."""
    if path.is_dir():
        return (path / FROZEN).is_file()
    return path.suffix == ".pb" and looks_like_graphdef(path)


def read(path: str | Path) -> tuple[ModelSpec, dict[str, Tensor], ImportReport]:
    """Convert a frozen SSD; BatchNorms keep their statistics, so it can be trained on.

    Args:
        path: the ``.pb`` file, or its folder.

    Raises:
        WeightsError: it is damaged, or another network.
    """
    path = Path(path)
    file = path / FROZEN if path.is_dir() else path
    return convert_arrays(read_constants(file), file, "tensorflow")
