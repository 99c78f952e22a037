"""Weights of our own and of other systems, and exported and compiled networks."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from singleshot.export.info import ExportInfo, to_metadata
from singleshot.export.package import Package, PackageInfo, read_info, read_package
from singleshot.export.readers import read_exported
from singleshot.export.seal import seal_onnx, seal_openvino
from singleshot.interop.mxnet.params import read_params
from singleshot.interop.mxnet.symbol import read_symbol
from singleshot.interop.read import read_foreign
from singleshot.interop.tensorflow.graphdef import read_constants
from singleshot.interop.tensorflow.pipeline import FILE, read_pipeline
from singleshot.interop.tensorflow.tfjs import read_arrays
from singleshot.interop.tensorflow.tflite import read_arrays as tflite_arrays
from singleshot.interop.wire.prototxt import read_prototxt
from singleshot.models.catalogue import model_spec
from singleshot.models.zoo.mxnet import assembled_config
from singleshot.weights.file import read_header, read_spec, read_state, save_weights
from singleshot.weights.torch_file import read_checkpoint
from torture.damage import Damage
from torture.structures import in_json, in_protobuf, in_rows, in_safetensors, in_xml, in_zip
from torture.target import Files, Target
from torture.targets_images import made
from torture.writers import (
    BODY,
    CONV,
    SHAPES,
    Writer,
    caffemodel,
    graphdef,
    params_bytes,
    random_blobs,
    small_net,
    symbol_json,
)

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.zeros(2), "n": torch.tensor(3)}
ARRAYS = {"arg:conv_weight": np.ones((2, 3), np.float32), "aux:bn_moving_mean": np.zeros(3, np.float32)}
HEADS = ("relu4_3", "relu7", *[f"multi_feat_{k}_conv_3x3_relu" for k in (2, 3, 4, 5)])
PIPELINE = b"""
model { ssd {
  image_resizer { fixed_shape_resizer { height: 300 width: 300 } }
  box_coder { faster_rcnn_box_coder { y_scale: 10.0 x_scale: 10.0 height_scale: 5.0 width_scale: 5.0 } }
  anchor_generator { ssd_anchor_generator { min_scale: 0.2 max_scale: 0.95 aspect_ratios: 1.0 aspect_ratios: 2.0 } }
  post_processing { batch_non_max_suppression { score_threshold: 1e-8 max_detections_per_class: 100 } }
} }
"""
OPCODES = (
    b"r\xff\xff\xff\x7f", b"r\0\0\0\x10", b"j\xff\xff\xff\x7f", b"q\xff", b"h\xff", b"cposix\nsystem\n",
    b"c__builtin__\neval\n", b"\x8d\xff\xff\xff\xff\0\0\0\0", b"\x8e" + b"\xff" * 8, b"X\xff\xff\xff\x7f", b"\x8a\xff",
    b"\x8b\xff\xff\xff\x7f", b"(", b")", b"t", b"l", b"d", b"}", b"]", b"R", b"b", b"o", b"i", b"Q", b"P0\n", b".",
    b"\x80\x05", b"\x95" + b"\xff" * 8, b"\x93", b"0", b"2", b"e", b"u", b"s", b"\x85", b"\x86", b"\x87", b"\x94", b"N",
    b"K\0", b"M\xff\xff", b"ctorch\nSize\n", b"Fnan\n", b"L9\n",
)  # fmt: skip


def torch_files() -> tuple[bytes, bytes]:
    """In a zip, and in the format before it."""
    found = []
    for is_zip in (True, False):
        buffer = io.BytesIO()
        torch.save({"model": STATE, "epoch": 3}, buffer, _use_new_zipfile_serialization=is_zip)
        found.append(buffer.getvalue())
    return found[0], found[1]


def own_file(folder: Path) -> Sequence[Files]:
    spec = model_spec("ssd300_vgg16", ["a", "b"])
    return [{"x.safetensors": save_weights(folder / "x.safetensors", spec, STATE).read_bytes()}]


def read_own(folder: Path) -> None:
    path = folder / "x.safetensors"
    read_header(path)
    read_spec(path)
    read_state(path)


def foreign_safetensors() -> Sequence[Files]:
    return [{"x.safetensors": save(STATE, {"format": "pt"})}]


def web_model() -> Sequence[Files]:
    weights = [
        {"name": "a", "shape": [2, 3], "dtype": "float32"},
        {"name": "b", "shape": [], "dtype": "int32"},
        {"name": "c", "shape": [4], "dtype": "float32", "quantization": {"dtype": "uint8", "min": -1.0, "scale": 0.5}},
    ]
    document = {"modelTopology": {}, "weightsManifest": [{"paths": ["shard1"], "weights": weights}]}
    return [{"model.json": json.dumps(document).encode(), "shard1": bytes(32)}]


def tflite() -> Sequence[Files]:
    writer = Writer((1, 32, 32, 3))
    arrays = np.ones((2, 1, 1, 3), np.int8), np.ones(2, np.float16)
    inputs = [writer.constant("x", arrays[0], np.ones(2)), writer.constant("y", arrays[1])]
    writer.operate(CONV, [writer.image, *inputs], writer.tensor("A/Relu6", (1, 32, 32, 2)))
    return [{"x.tflite": writer.write()}]


def caffe() -> Sequence[Files]:
    channels = {"loc": ((16, 4, 1, 1), (16,)), "conf": ((12, 4, 1, 1), (12,))}
    blobs = random_blobs(**SHAPES, **channels)
    forms = [caffemodel(blobs, form) for form in ("packed", "half", "legacy")]
    return [{"x.prototxt": small_net(BODY, "c").encode(), "x.caffemodel": content} for content in forms]


def graph() -> Sequence[Files]:
    constants = {"a/weights": np.ones((2, 3), np.float32), "b": np.zeros(2, np.float32), "c": np.int32([1, 2])}
    return [{"x.pb": graphdef(constants, {"image_tensor": (1, 300, 300, 3)})}]


def described(kind: str) -> dict[str, str]:
    info = ExportInfo(kind=kind, level="raw", spec=model_spec("ssdlite300_mobilenet_v2", ["cat", "dog"]))
    return to_metadata(info, np.ones((4, 4), np.float32))


def onnx_files() -> Sequence[Files]:
    """Without and with a seal, and a foreign one that brings its own NMS."""
    import onnx

    info, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    inputs = [info("images", float32, ["batch", 3, 300, 300])]
    outputs = [info(name, float32, None) for name in ("box_codes", "class_logits")]
    weights = [onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", inputs, outputs, weights))
    for key, text in described("onnx").items():
        model.metadata_props.add(key=key, value=text)
    plain = model.SerializeToString()
    return [{"x.onnx": plain}, {"x.onnx": seal_onnx(plain)}]


IR = """<?xml version="1.0"?>
<net name="m" version="11"><layers>
<layer id="0" name="c" type="Const"><data element_type="f32" shape="2, 3" offset="0" size="24"/></layer>
<layer id="1" name="r" type="Result" output_names="box_codes"/>
<layer id="2" name="s" type="Result" output_names="class_logits"/>
</layers><edges/><rt_info>{texts}</rt_info></net>
"""


def openvino(folder: Path) -> Sequence[Files]:
    from xml.sax.saxutils import quoteattr

    texts = "".join(f"<{key} value={quoteattr(text)}/>" for key, text in described("openvino").items())
    (folder / "x.bin").write_bytes(bytes(24))
    (folder / "x.xml").write_text(IR.format(texts=texts))
    plain = (folder / "x.xml").read_bytes()
    seal_openvino(folder / "x.xml")
    return [{"x.xml": xml, "x.bin": bytes(24)} for xml in (plain, (folder / "x.xml").read_bytes())]


def zipped_export() -> Sequence[Files]:
    """As TorchScript and `torch.export` write: a zip, with our texts in it."""
    buffer, program = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("version", "data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"x/{name}", b"\x80\x02).")
        for key, text in described("torchscript").items():
            archive.writestr(f"x/extra/{key}", text)
    with zipfile.ZipFile(program, "w") as archive:
        for name in ("archive_format", "models/model.json"):
            archive.writestr(f"x/{name}", b"pt2")
    return [{"x.torchscript": buffer.getvalue()}, {"x.pt2": program.getvalue()}]


def appended(folder: Path) -> Sequence[Files]:
    from singleshot.export.appended import append_texts

    found = []
    for kind, mark, name in (("executorch", b"ET12", "x.pte"), ("litert", b"TFL3", "x.tflite")):
        path = folder / name
        path.write_bytes(b"\x1c\0\0\0" + mark + bytes(40))
        append_texts(path, described(kind))
        found.append({name: path.read_bytes()})
    return found


def package(folder: Path) -> Sequence[Files]:
    anchors = np.arange(40, dtype=np.float32).reshape(10, 4)
    found = []
    for kind, parts in (("openvino", (b"<net>" + b"layer " * 30 + b"</net>", bytes(2000))), ("onnx", (bytes(500),))):
        info = PackageInfo(kind=kind, spec=model_spec("ssd300_vgg16", ("a", "b")), quantized=True)
        found.append({"x.compiled": Package(info, anchors, parts).save(folder / "p").read_bytes()})
    return found


def resigned(parts: dict[str, bytes]) -> None:
    info = json.loads(parts["info.json"])
    digests = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items() if name != "info.json"}
    parts["info.json"] = json.dumps(info | {"parts_sha256": digests}).encode()


def read_compiled(folder: Path) -> None:
    read_info(folder / "x.compiled")
    read_package(folder / "x.compiled")


def any_file(read: Callable[[Path], Any], suffix: str = "") -> Callable[[Path], Any]:
    """Reads the first file whose name has this end."""

    def of_folder(folder: Path) -> Any:
        return read(
            next((path for path in sorted(folder.iterdir()) if path.name.endswith(suffix)), folder / f"x{suffix}")
        )

    return of_folder


@cache
def symbol() -> bytes:
    return symbol_json(assembled_config("mxnet_ssd_vgg16_reduced_300"), HEADS).encode()


def everything() -> list[Files]:
    zipped, legacy = torch_files()
    found = [{"x.pth": zipped}, {"x.pth": legacy}, *foreign_safetensors(), *web_model(), *tflite(), *graph()]
    return [*found, {"x-0001.params": params_bytes(ARRAYS), "x-symbol.json": symbol()}]


PICKLED = in_zip()
FOREIGN: dict[str, Damage] = {
    ".pth": PICKLED, ".safetensors": in_safetensors, ".json": in_json, ".pb": in_protobuf, ".caffemodel": in_protobuf,
    ".prototxt": in_rows, ".config": in_rows, ".onnx": in_protobuf, ".xml": in_xml,
}  # fmt: skip
BRACES = (b"{", b"}", b'"', b"layer {", b"[", b"]", b":", b"#", b"<", b">", b"1e999", b"-", b"0x1", b"\\x")
TARGETS = [
    Target("our weights files", made(own_file), read_own, {".safetensors": in_safetensors}, slow=2),
    Target("torch zip", lambda: [{"x.pth": torch_files()[0]}], any_file(read_checkpoint), FOREIGN, words=OPCODES),
    Target("torch legacy", lambda: [{"x.pth": torch_files()[1]}], any_file(read_checkpoint), words=OPCODES),
    Target("safetensors of others", foreign_safetensors, any_file(read_foreign), FOREIGN),
    Target("caffemodel and prototxt", caffe, any_file(read_foreign, ".prototxt"), FOREIGN, words=BRACES, slow=10),
    Target(
        "prototxt",
        lambda: [{"x.prototxt": small_net(BODY, "c").encode()}],
        any_file(read_prototxt),
        FOREIGN,
        (),
        BRACES,
        slow=4,
    ),
    Target(
        "MXNet params",
        lambda: [{"x.params": params_bytes(ARRAYS, v)} for v in (0, 0xF993FAC8, 0xF993FAC9)],
        any_file(read_params),
    ),
    Target("MXNet symbol", lambda: [{"x-symbol.json": symbol()}], any_file(read_symbol), FOREIGN),
    Target("GraphDef", graph, any_file(read_constants), FOREIGN),
    Target("pipeline.config", lambda: [{FILE: PIPELINE}], read_pipeline, FOREIGN, (), BRACES, slow=2),
    Target("TF.js", web_model, lambda folder: read_arrays(folder / "model.json"), FOREIGN),
    Target("TFLite", tflite, any_file(tflite_arrays)),
    Target("any weights, recognised", everything, any_file(read_foreign), FOREIGN, words=OPCODES, slow=2),
    Target("ONNX", onnx_files, any_file(read_exported), FOREIGN, needs=("onnx",)),
    Target("OpenVINO IR", made(openvino), any_file(read_exported, ".xml"), FOREIGN, slow=2),
    Target("torch.export, TorchScript", zipped_export, any_file(read_exported), {"": in_zip()}),
    Target("ExecuTorch, LiteRT", made(appended), any_file(read_exported)),
    Target(
        "compiled packages, int8 files",
        made(package),
        read_compiled,
        {"": in_zip({".json": in_json}, resigned)},
        slow=2,
    ),
]
