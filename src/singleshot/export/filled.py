"""A weights file's network as ONNX, without torch: from a graph without numbers that lies beside the file.

The graph names its numbers as the network's state does, BatchNorms included, so that they are put in as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import WeightsError
from singleshot.export.cache import weights_sha256
from singleshot.export.package import Package, read_package
from singleshot.interop.wire.protobuf import write_field, write_number
from singleshot.weights.file import read_numbers

FLOAT = 1
"""ONNX's number for float32."""

# Fields of onnx.proto: a model's graph, a graph's initialisers, and what a tensor says.
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9


def graph_path(weights: Path) -> Path:
    """Where the graph of a weights file belongs."""
    return weights.with_suffix(".graph")


def filled_package(weights: Path) -> Package | None:
    """The network of a weights file, of kind ``onnx``; ``None`` where no graph lies beside it.

    Raises:
        WeightsError: the weights or the graph are damaged, or the graph is of other weights.
    """
    path = graph_path(weights)
    if not path.exists():
        return None
    package = read_package(path)
    if package.info.weights_sha256 != weights_sha256(weights):
        raise WeightsError(f"{path}: is the graph of other weights than {weights}: reinstall singleshot")
    return Package(package.info, package.anchors_cxcywh, (fill_graph(package.parts[0], read_numbers(weights)),))


def fill_graph(graph: bytes, numbers: Mapping[str, NDArray[np.float32]]) -> bytes:
    """A serialised ONNX model with more initialisers.

    Protocol buffers that follow one another are one: fields are added to the first's. So nothing is parsed.

    Args:
        graph: the model; it names what it does not hold.
        numbers: by name.
    """
    tensors = b"".join(write_field(_INITIALIZER, _tensor(name, values)) for name, values in numbers.items())
    return graph + write_field(_GRAPH, tensors)


def _tensor(name: str, values: NDArray[np.float32]) -> bytes:
    sides = b"".join(write_number(_DIMS, side) for side in values.shape)
    kind = write_number(_DATA_TYPE, FLOAT)
    data = np.ascontiguousarray(values, dtype="<f4").tobytes()
    return sides + kind + write_field(_NAME, name.encode()) + write_field(_RAW_DATA, data)
