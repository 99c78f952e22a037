"""The format ``onnx``: the raw graph of a package, with nodes of ours before and behind it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from singleshot.core.lazy import lazy_module
from singleshot.errors import MissingExtraError, SingleshotError
from singleshot.export import shell
from singleshot.export.info import ExportInfo, Level, Precision, to_metadata
from singleshot.export.int8_file import int8_of
from singleshot.export.onnx_nodes import OPSET, make_model
from singleshot.export.package import Package
from singleshot.export.seal import seal_onnx
from singleshot.export.writers import WRITERS, Origin, Run

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy_module("onnx")


class OnnxWriter:
    """ONNX, for ONNX Runtime and whatever else reads it."""

    name = "onnx"
    title = "ONNX"
    suffixes = (".onnx",)
    levels: tuple[Level, ...] = ("end2end", "decoded", "raw")
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")

    def available(self) -> SingleshotError | None:
        """Whether a package is missing."""
        missing = next((name for name in ("onnx", "onnxruntime") if find_spec(name) is None), None)
        return MissingExtraError(missing, "onnx", "an export to ONNX") if missing else None

    def refusal(self, info: ExportInfo) -> str | None:
        """What `shell` cannot build."""
        return shell.refusal(info)

    def write(self, origin: Origin, info: ExportInfo, path: Path) -> None:
        """Write the model, checked and with all shapes inferred."""
        package = origin.package("onnx", int8_of(origin.weights, "onnx")[0] if info.precision == "int8" else None)
        model = onnx_model(package, info)
        path.write_bytes(seal_onnx(model.SerializeToString()))
        onnx.checker.check_model(os.fspath(path), full_check=True)

    def not_run(self) -> str | None:
        """ONNX Runtime runs everywhere."""
        return None

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open it in ONNX Runtime."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of every constant that a caller may replace
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def run(batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
            found: list[NDArray[Any]] = session.run(list(info.outputs), {name: np.ascontiguousarray(batch)})
            return found

        return run


def onnx_model(package: Package, info: ExportInfo) -> onnx.ModelProto:
    """The whole model.

    Args:
        package: the raw network, of kind ``onnx``.
        info: what the file will be.
    """
    raw = onnx.load_from_string(package.parts[0])
    opset = max(entry.version for entry in raw.opset_import if entry.domain in ("", "ai.onnx"))
    if opset != OPSET:
        raw = onnx.version_converter.convert_version(raw, OPSET)
    if info.precision == "fp16":
        _halve(raw.graph)
    around = shell.build_shell(info, package.anchors_cxcywh, suppresses_at=False, branches=True)
    constants = [*raw.graph.initializer, *around.before.constants, *around.behind.constants]
    # A constant that is an input, too, is what a caller gives for it, if he does.
    optional = [constant for constant in around.behind.constants if constant.name in around.thresholds]
    inputs = [
        *around.inputs,
        *((one.name, onnx.helper.tensor_dtype_to_np_dtype(one.data_type).type, tuple(one.dims)) for one in optional),
    ]
    nodes = [*around.before.nodes, *raw.graph.node, *around.behind.nodes]
    model = make_model(nodes, constants, inputs, around.outputs)
    for key, text in to_metadata(info, package.anchors_cxcywh).items():
        model.metadata_props.add(key=key, value=text)
    return model


def _halve(graph: onnx.GraphProto) -> None:
    """Weights of convolutions in 16 bits, cast when the file is loaded: half the size, the same speed."""
    large = [one for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT and len(one.dims) > 1]
    casts = []
    for one in large:
        name = one.name
        half = onnx.numpy_helper.to_array(one).astype(np.float16)
        one.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}/half"))
        casts.append(onnx.helper.make_node("Cast", [one.name], [name], f"{name}/cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


WRITERS.register("onnx")(OnnxWriter())
