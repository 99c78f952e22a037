"""Small valid files of every reader, damaged at random: a result or an error of ours, never anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mxnet_writer import params_bytes, symbol_json
from safetensors.torch import save_file
from test_caffe import BODY, SHAPES, random_blobs, small_net
from tflite_writer import CONV, Writer
from wire_writer import caffemodel, graphdef

from singleshot.core.registry import Registry
from singleshot.errors import SingleshotError, WeightsError
from singleshot.interop import read as reading
from singleshot.interop.importers import ForeignFile, Importer
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

ROUNDS = 300
STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.zeros(2), "n": torch.tensor(3)}
ARRAYS = {"arg:conv_weight": np.ones((2, 3), np.float32), "aux:bn_moving_mean": np.zeros(3, np.float32)}
HEADS = ("relu4_3", "relu7", *[f"multi_feat_{k}_conv_3x3_relu" for k in (2, 3, 4, 5)])
PIPELINE = """
model { ssd {
  image_resizer { fixed_shape_resizer { height: 300 width: 300 } }
  box_coder { faster_rcnn_box_coder { y_scale: 10.0 x_scale: 10.0 height_scale: 5.0 width_scale: 5.0 } }
  anchor_generator { ssd_anchor_generator { min_scale: 0.2 max_scale: 0.95 aspect_ratios: 1.0 aspect_ratios: 2.0 } }
  post_processing { batch_non_max_suppression { score_threshold: 1e-8 max_detections_per_class: 100 } }
} }
"""


def torch_zip(folder: Path) -> Path:
    torch.save(STATE, folder / "x.pth")
    return folder / "x.pth"


def torch_legacy(folder: Path) -> Path:
    torch.save(STATE, folder / "x.pth", _use_new_zipfile_serialization=False)
    return folder / "x.pth"


def safetensors(folder: Path) -> Path:
    save_file(STATE, folder / "x.safetensors", {"format": "pt"})
    return folder / "x.safetensors"


def own_file(folder: Path) -> Path:
    return save_weights(folder / "x.safetensors", model_spec("ssd300_vgg16", ["a", "b"]), STATE)


def params(folder: Path) -> Path:
    (folder / "x-0001.params").write_bytes(params_bytes(ARRAYS))
    return folder / "x-0001.params"


def symbol(folder: Path) -> Path:
    (folder / "x-symbol.json").write_text(symbol_json(assembled_config("mxnet_ssd_vgg16_reduced_300"), HEADS))
    return folder / "x-symbol.json"


def frozen_graph(folder: Path) -> Path:
    (folder / "x.pb").write_bytes(graphdef({"a/weights": np.ones((2, 3), np.float32), "b": np.zeros(2, np.float32)}))
    return folder / "x.pb"


def pipeline(folder: Path) -> Path:
    (folder / FILE).write_text(PIPELINE)
    return folder / FILE


def web_model(folder: Path) -> Path:
    weights = [{"name": "a", "shape": [2, 3], "dtype": "float32"}, {"name": "b", "shape": [], "dtype": "int32"}]
    document = {"modelTopology": {}, "weightsManifest": [{"paths": ["shard1"], "weights": weights}]}
    (folder / "shard1").write_bytes(bytes(28))
    (folder / "model.json").write_text(json.dumps(document))
    return folder / "model.json"


def tflite(folder: Path) -> Path:
    writer = Writer((1, 32, 32, 3))
    arrays = np.ones((2, 1, 1, 3), np.int8), np.ones(2, np.float16)
    inputs = [writer.constant("x", arrays[0], np.ones(2)), writer.constant("y", arrays[1])]
    writer.operate(CONV, [writer.image, *inputs], writer.tensor("A/Relu6", (1, 32, 32, 2)))
    (folder / "x.tflite").write_bytes(writer.write())
    return folder / "x.tflite"


def caffe(folder: Path, suffix: str) -> Path:
    (folder / "x.prototxt").write_text(small_net(BODY, "c"))
    channels = {"loc": ((16, 4, 1, 1), (16,)), "conf": ((12, 4, 1, 1), (12,))}
    (folder / "x.caffemodel").write_bytes(caffemodel(random_blobs(**SHAPES, **channels)))
    return folder / f"x{suffix}"


def read_ours(path: Path) -> None:
    read_header(path)
    read_spec(path)
    read_state(path)


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "torch zip": (torch_zip, read_checkpoint),
    "torch legacy": (torch_legacy, read_checkpoint),
    "torch import": (torch_zip, read_foreign),
    "safetensors import": (safetensors, read_foreign),
    "our own": (own_file, read_ours),
    "mxnet params": (params, read_params),
    "mxnet import": (params, read_foreign),
    "mxnet symbol": (symbol, read_symbol),
    "graph": (frozen_graph, read_constants),
    "graph import": (frozen_graph, read_foreign),
    "pipeline": (pipeline, lambda path: read_pipeline(path.parent)),
    "web model": (web_model, read_arrays),
    "web import": (web_model, read_foreign),
    "tflite": (tflite, tflite_arrays),
    "tflite import": (tflite, read_foreign),
    "prototxt": (lambda folder: caffe(folder, ".prototxt"), read_prototxt),
    "caffe import by description": (lambda folder: caffe(folder, ".prototxt"), read_foreign),
    "caffe import by numbers": (lambda folder: caffe(folder, ".caffemodel"), read_foreign),
}
WORDS = (b"-1", b"0", b"1e400", b"nan", b"9" * 30, b"null", b"[]", b'""', b"\xff", b"{", b"[/b]")


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """One to three of: a bit flipped, bytes cut out, doubled or replaced, a number replaced, the end cut off."""
    for _ in range(random.integers(1, 4)):
        at = int(random.integers(0, max(len(content), 1)))
        length = int(random.integers(1, 12))
        kind = random.integers(0, 6)
        if kind == 0 and content:
            content = content[:at] + bytes([content[at] ^ 1 << random.integers(0, 8)]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + content[at + length :]
        elif kind == 2:
            content = content[:at] + content[at : at + length] * 2 + content[at + length :]
        elif kind == 3:
            content = content[:at] + random.bytes(length) + content[at + length :]
        elif kind == 4:
            digits = [index for index, byte in enumerate(content) if chr(byte).isdigit()]
            if digits:
                at = digits[int(random.integers(0, len(digits)))]
                content = content[:at] + WORDS[random.integers(0, len(WORDS))] + content[at + 1 :]
        else:
            content = content[:at]
    return content


@pytest.mark.parametrize("name", READERS)
def test_damage_gives_a_result_or_our_error(name: str, tmp_path: Path) -> None:
    write, read = READERS[name]
    path = write(tmp_path)
    content = path.read_bytes()
    if "import" not in name or name.startswith("caffe"):
        read(path)
    random = np.random.default_rng(0)
    messages = []
    for _ in range(ROUNDS):
        path.write_bytes(damaged(content, random))
        try:
            read(path)
        except SingleshotError as error:
            messages.append(str(error))
    assert len(messages) > ROUNDS // 10
    assert [message for message in messages if str(tmp_path) not in message] == []


class _Broken:
    """An importer whose reader has a hole."""

    name = description = "broken"
    takes_size = False

    def __init__(self, error: Exception) -> None:
        self.error = error

    def recognises(self, file: ForeignFile) -> bool:
        return True

    def read(self, file: ForeignFile, size_hw: None) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), IndexError(), OverflowError("large"), RecursionError(), TypeError(), MemoryError(), EOFError()],
)
def test_what_no_reader_had_foreseen_names_the_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    broken: Registry[Importer] = Registry("importer", {})
    broken.register("broken")(_Broken(error))
    monkeypatch.setattr(reading, "IMPORTERS", broken)
    with pytest.raises(WeightsError, match=rf"x\.bin: damaged, or another kind of network: {type(error).__name__}"):
        read_foreign(tmp_path / "x.bin", "broken")
