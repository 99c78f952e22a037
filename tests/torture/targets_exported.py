"""What runtimes are handed: whole graphs without a seal, damaged where the graph is, opened and run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from singleshot.export.info import ExportInfo, Level
from singleshot.export.onnx_contents import GRAPH
from singleshot.export.package import Package, PackageInfo
from singleshot.models.catalogue import model_spec
from torture.damage import Damage
from torture.structures import in_protobuf, in_xml
from torture.target import Files, Target
from torture.targets_images import made

SPEC = model_spec("ssdlite300_mobilenet_v2", ["cat", "dog"])
SIDE = 300
ANCHORS = np.float32([[75, 75, 100, 100], [225, 75, 80, 80], [75, 225, 60, 120], [225, 225, 150, 150]])
LEVELS: tuple[Level, ...] = ("raw", "decoded", "end2end")
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def network() -> bytes:
    """A pooling and a convolution: four cells with a box each."""
    from singleshot.export.onnx_nodes import Nodes, make_model

    columns = SPEC.network.head.logits
    graph, rng = Nodes("net"), np.random.default_rng(0)
    pooled = graph.op("AveragePool", "images", kernel_shape=[SIDE // 2] * 2, strides=[SIDE // 2] * 2)
    ends = []
    for name, width in (("box_codes", 4), ("class_logits", columns)):
        weights = rng.normal(0, 4, (width, 3, 1, 1)).astype(np.float32)
        cells = graph.op("Conv", pooled, weights, np.zeros(width, np.float32))
        rows = graph.op("Transpose", cells, perm=[0, 2, 3, 1])
        graph.op("Reshape", rows, np.int64([0, -1, width]), name=name)
        ends.append((name, np.float32, ("batch", len(ANCHORS), width)))
    inputs = [("images", np.float32, ("batch", 3, SIDE, SIDE))]
    return bytes(make_model(graph.nodes, graph.constants, inputs, ends).SerializeToString())


def described(kind: str, level: Level) -> ExportInfo:
    return ExportInfo(kind=kind, level=level, layout="nhwc", dynamic=level == "end2end", score=0.05, spec=SPEC)


def onnx_files() -> Sequence[Files]:
    from singleshot.export.onnx_file import onnx_model

    package = Package(PackageInfo(kind="onnx", spec=SPEC), ANCHORS, (network(),))
    infos = [described("onnx", level).model_copy(update={"layout": layout}) for level, layout in zip(
        LEVELS, ("nchw", "nchw", "nhwc"), strict=True)]  # fmt: skip
    return [*({"x.onnx": onnx_model(package, info).SerializeToString()} for info in infos), {"x.onnx": foreign()}]


def foreign() -> bytes:
    """As TensorFlow's detection API ends: one box, as bright as the picture."""
    from singleshot.export.foreign_onnx import TF_OUTPUTS
    from singleshot.export.onnx_nodes import Nodes, make_model

    graph = Nodes("net")
    light = graph.op("ReduceMean", graph.cast("image_tensor", np.float32), axes=[1, 2, 3], keepdims=1)
    for name, shape in zip(TF_OUTPUTS, ((1, 1, 4), (1, 1), (1, 1), (1,)), strict=True):
        share = graph.op("Div", graph.op("Reshape", light, [*shape[:-1], 1]), np.float32(255))
        graph.op(
            "Max", share, np.ones(shape, np.float32) / 2 if name == "detection_boxes" else np.float32(1), name=name
        )
    shapes = [(name, np.float32, ("batch",)) for name in TF_OUTPUTS]
    made = make_model(graph.nodes, graph.constants, [("image_tensor", np.uint8, (1, "h", "w", 3))], shapes)
    for value in made.graph.output:
        value.type.tensor_type.ClearField("shape")
    return bytes(made.SerializeToString())


def openvino_files(folder: Path) -> Sequence[Files]:
    import openvino as ov

    from singleshot.export.conversion import as_openvino
    from singleshot.export.openvino_file import openvino_model

    package = as_openvino(Package(PackageInfo(kind="onnx", spec=SPEC), ANCHORS, (network(),)))
    found = []
    for level in LEVELS:
        info = described("openvino", level).model_copy(update={"layout": "nhwc" if level == "end2end" else "nchw"})
        path = folder / "x.xml"
        ov.save_model(openvino_model(package, info, folder), path, compress_to_fp16=False)
        found.append({"x.xml": path.read_bytes(), "x.bin": path.with_suffix(".bin").read_bytes()})
    return found


def in_graph(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """An ONNX file whose graph is damaged, and whose texts are whole."""
    from singleshot.interop.wire.protobuf import fields, write_field, write_number

    out = b""
    for number, _, value in fields(memoryview(content)):
        if isinstance(value, int):
            out += write_number(number, value)
            continue
        part = bytes(value)
        for _ in range(random.choice((1, 1, 2, 3)) if number == GRAPH else 0):
            part = in_protobuf(part, random, words)
        out += write_field(number, part)
    return out


def in_layers(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """An IR whose layers or edges are damaged, and whose texts are whole."""
    at = content.index(b"<rt_info>", content.index(b"</edges>"))
    return in_xml(content[:at], random, words) + content[at:]


def run(folder: Path) -> Any:
    """Opens and runs the file in a folder."""
    import singleshot

    path = next(path for path in sorted(folder.iterdir()) if path.suffix in (".onnx", ".xml"))
    return singleshot.load(path).predict(PICTURE)


GRAPHS: dict[str, Damage] = {".onnx": in_graph, ".xml": in_layers}
WORDS = (
    b"Conv",
    b"Loop",
    b"If",
    b"NonMaxSuppression",
    b"Resize",
    b"Gather",
    b"-1",
    b"0",
    b"2147483647",
    b"i64",
    b"f16",
)
TARGETS = [
    Target(f"graphs for {name}", seeds, run, GRAPHS, spared=(".bin",), words=WORDS, needs=("onnx", needed), slow=8)
    for name, needed, seeds in (
        ("ONNX Runtime", "onnxruntime", onnx_files),
        ("OpenVINO", "openvino", made(openvino_files)),
    )
]
