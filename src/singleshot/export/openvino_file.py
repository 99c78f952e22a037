"""The format ``openvino``: the raw graph of a package between what OpenVINO reads of our ONNX nodes."""

from __future__ import annotations

import tempfile
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
from singleshot.export.memory_limit import check_tensors
from singleshot.export.onnx_nodes import make_model
from singleshot.export.package import Package
from singleshot.export.seal import seal_openvino
from singleshot.export.writers import WRITERS, Origin, Run

if TYPE_CHECKING:
    import openvino as ov
else:
    ov = lazy_module("openvino")


class OpenVinoWriter:
    """OpenVINO's intermediate representation, for its runtimes and servers."""

    name = "openvino"
    title = "OpenVINO"
    suffixes = (".xml", ".bin")
    levels: tuple[Level, ...] = ("end2end", "decoded", "raw")
    precisions: tuple[Precision, ...] = ("fp16", "fp32", "int8")

    def available(self) -> SingleshotError | None:
        """Whether a package is missing."""
        for name, extra in (("openvino", "openvino"), ("onnx", "onnx")):
            if find_spec(name) is None:
                return MissingExtraError(name, extra, "an export to OpenVINO")
        return None

    def refusal(self, info: ExportInfo) -> str | None:
        """What `shell` cannot build."""
        return shell.refusal(info)

    def write(self, origin: Origin, info: ExportInfo, path: Path) -> None:
        """Write graph and numbers."""
        from singleshot.export.openvino_core import save_ir

        int8 = int8_of(origin.weights, "openvino")[0] if info.precision == "int8" else None
        package = origin.package("openvino", int8)
        with tempfile.TemporaryDirectory() as folder:
            save_ir(openvino_model(package, info, Path(folder)), path)
        seal_openvino(path)

    def not_run(self) -> str | None:
        """OpenVINO runs on every CPU."""
        return None

    def open(self, path: Path, info: ExportInfo) -> Run:
        """Open it on the CPU, in float32."""
        from singleshot.export.openvino_core import openvino_core

        model = openvino_core().read_model(path)
        check_tensors(model, fixed=False)
        compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

        def run(batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
            found = compiled([np.ascontiguousarray(batch)])
            return [found[name].copy() for name in info.outputs]

        return run


def openvino_model(package: Package, info: ExportInfo, folder: Path) -> ov.Model:
    """The whole model.

    Args:
        package: the raw network, of kind ``openvino``.
        info: what the file will be.
        folder: for what OpenVINO only does by way of files; must live as long as the model.
    """
    from singleshot.export.openvino_core import openvino_core, save_ir

    core = openvino_core()
    model = core.read_model(package.parts[0], ov.Tensor(np.frombuffer(package.parts[1], dtype=np.uint8)))
    if info.precision == "fp16":  # before anything is added: default boxes and thresholds keep their bits
        save_ir(model, folder / "half.xml", half=True)
        model = core.read_model(folder / "half.xml")
    # Behind an If of pictures, OpenVINO 2026.4 gives no detections the first time that it runs.
    around = shell.build_shell(info, package.anchors_cxcywh, suppresses_at=True, branches=False)
    model.inputs[0].get_tensor().set_names({shell.IMAGES})
    if info.level != "raw":
        model = _between(model, around)
    for key, text in to_metadata(info, package.anchors_cxcywh).items():
        model.set_rt_info(text, [key])
    return model


def _between(raw: ov.Model, around: shell.Shell) -> ov.Model:
    """The raw network between what stands before it and behind it."""
    from singleshot.export.openvino_core import openvino_core

    nodes = [*around.before.nodes, *around.behind.nodes]
    constants = [*around.before.constants, *around.behind.constants]
    has_pictures = bool(around.before.nodes)
    # What only stands before the network, or only behind it, has the network's ends as its own.
    inputs = [*(around.inputs if has_pictures else ()), *around.heads]
    outputs = [*around.outputs, *([around.images] if has_pictures else ())]
    whole = openvino_core().read_model(make_model(nodes, constants, inputs, outputs).SerializeToString())
    for (name, _, _), head in zip(around.heads, raw.outputs, strict=True):
        whole.input(name).replace(head.get_node().input_value(0))
    inputs = raw.get_parameters()
    if has_pictures:
        inputs = [whole.input(shell.PICTURES).get_node()]
        raw.input(0).replace(whole.output(shell.IMAGES).get_node().input_value(0))
    results = [whole.output(name).get_node() for name, _, _ in around.outputs]
    return ov.Model(results, inputs, "singleshot")


WRITERS.register("openvino")(OpenVinoWriter())
