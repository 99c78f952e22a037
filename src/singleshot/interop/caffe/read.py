"""Caffe SSDs: a ``.prototxt`` and its ``.caffemodel``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from singleshot.core.settings import PreprocessConfig
from singleshot.errors import ConfigError, WeightsError
from singleshot.interop.caffe.caffemodel import looks_like_caffemodel, read_caffemodel
from singleshot.interop.caffe.head import Head, read_head
from singleshot.interop.caffe.layers import Piece, Translator
from singleshot.interop.caffe.net import Net, Node, read_net
from singleshot.interop.report import ImportReport
from singleshot.interop.translate import Classes, classes_of
from singleshot.models.config import BackboneConfig, HeadConfig, ModelSpec, NetworkConfig

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTION = "Caffe SSD (.caffemodel with its deploy .prototxt beside it; either file, or the folder)"

MODEL_SUFFIX = ".caffemodel"
DEFAULT_MEAN_BGR = (104.0, 117.0, 123.0)
FACE_MEAN_BGR = (104.0, 177.0, 123.0)
FACE_LAYER = "layer_512_1_conv2_h"
"""Of OpenCV's res10 face detector, which was trained with a mean of its own."""


def recognises(path: Path) -> bool:
    """Whether this is a ``.caffemodel``, a ``.prototxt`` of layers, or a folder with a ``.caffemodel``."""
    if path.is_dir():
        return any(path.glob(f"*{MODEL_SUFFIX}"))
    if path.suffix == MODEL_SUFFIX:
        return looks_like_caffemodel(path)
    return ".prototxt" in path.suffixes


def read(path: str | Path) -> tuple[ModelSpec, dict[str, Tensor], ImportReport]:
    """Convert a Caffe SSD of any backbone.

    Colours stay in the order that the model was trained with (blue first). A description for use does not say what is
    subtracted from the pixels: the usual mean is taken, and the report says so.

    Args:
        path: the ``.caffemodel``, the ``.prototxt``, or their folder.

    Raises:
        WeightsError: one of the two is missing, damaged, of another network, or has layers that are not known.
    """
    description, weights = find_files(Path(path))
    try:
        net = read_net(description)
        head = read_head(net, str(description))
        return _convert(net, head, description, weights)
    except WeightsError:
        raise
    except (ValueError, OverflowError, ValidationError, ConfigError) as error:
        raise WeightsError(f"{description}: a setting that makes no sense: {error}") from error


def find_files(path: Path) -> tuple[Path, Path]:
    """The description and the numbers that belong together.

    Raises:
        WeightsError: one of them is not there, or it is not clear which.
    """
    folder = path if path.is_dir() else path.parent
    weights = path if path.suffix == MODEL_SUFFIX else _only(folder.glob(f"*{MODEL_SUFFIX}"), path, MODEL_SUFFIX)
    if ".prototxt" in path.suffixes:
        return path, weights
    return _only(folder.glob("*.prototxt*"), weights, ".prototxt"), weights


def _only(candidates: Iterable[Path], beside: Path, kind: str) -> Path:
    """The one file, else the one of the same stem, else the one whose name says deploy."""
    found = sorted(candidates)
    for choice in (
        found,
        [one for one in found if one.name.partition(".")[0] == beside.name.partition(".")[0]],
        [one for one in found if "deploy" in one.name],
    ):
        if len(choice) == 1:
            return choice[0]
    names = ", ".join(one.name for one in found) or "none"
    raise WeightsError(f"{beside}: needs one {kind} beside it (there: {names}); put the two into a folder of their own")


def _convert(
    net: Net, head: Head, description: Path, weights: Path
) -> tuple[ModelSpec, dict[str, Tensor], ImportReport]:
    blobs = read_caffemodel(weights)
    sources = [level.source for level in head.levels]
    backbone = Translator(blobs, str(weights), [net.image])
    body = backbone.translate(_between(net, [net.image], sources, str(description)))
    pieces = {"backbone.layers": body}
    for index, level in enumerate(head.levels):
        for kind, last in (("boxes", level.boxes), ("logits", level.logits)):
            chain = _between(net, [level.source], [last], str(description))
            pieces[f"head.{kind}.{index}"] = Translator(blobs, str(weights), [level.source]).translate(chain)
    taps = tuple(backbone.name_of(source) for source in sources)
    spec = _spec(net, head, pieces, taps)
    return _fill(spec, pieces, blobs.keys(), weights)


def _between(net: Net, starts: list[Node], ends: list[Node], origin: str) -> list[Node]:
    """All layers that lead from some nodes to others, in order."""
    wanted, stop, pending = set(), {id(node) for node in starts}, list(ends)
    while pending:
        node = pending.pop()
        if id(node) in stop or id(node) in wanted:
            continue
        if not node.inputs:
            raise WeightsError(f"{origin}: '{ends[0].name}' does not come from '{starts[0].name}' alone")
        wanted.add(id(node))
        pending += node.inputs
    return [node for node in net.nodes if id(node) in wanted]


def _spec(net: Net, head: Head, pieces: dict[str, Piece], taps: tuple[str, ...]) -> ModelSpec:
    is_face = any(node.name == FACE_LAYER for node in net.nodes)
    classes = Classes(("face",)) if is_face and head.columns == 2 else classes_of(head.columns)
    levels = range(len(head.levels))
    network = NetworkConfig(
        backbone=BackboneConfig(
            name="graph", taps=taps, in_channels=net.channels, layers=pieces["backbone.layers"].layers
        ),
        head=HeadConfig(
            kind="graph",
            logits=head.columns,
            boxes_per_cell=head.anchors.boxes_per_cell,
            box_layers=tuple(pieces[f"head.boxes.{level}"].layers for level in levels),
            logit_layers=tuple(pieces[f"head.logits.{level}"].layers for level in levels),
        ),
    )
    return ModelSpec(
        name="caffe_face_res10" if is_face else "caffe_ssd",
        network=network,
        anchors=head.anchors,
        coder=head.coder,
        preprocess=_preprocess(net, is_face),
        postprocess=head.postprocess.model_copy(update={"class_columns": classes.columns}),
        class_names=classes.names,
        class_ids=classes.ids,
    )


def _preprocess(net: Net, is_face: bool) -> PreprocessConfig:
    """What a data layer says, else the mean of Caffe's SSD; MobileNet-SSD takes (x - 127.5) / 127.5."""
    mean, scale = tuple(net.transform.numbers("mean_value")), net.transform.number("scale", 1.0)
    if not mean:
        is_mobilenet = any(node.name in ("conv0", "conv0/bn") for node in net.nodes)
        if is_mobilenet and any(int(_groups(node)) > 1 for node in net.nodes):
            mean, scale = (127.5,) * 3, 0.007843
        else:
            mean = FACE_MEAN_BGR if is_face else DEFAULT_MEAN_BGR
    if net.channels != 3 or len(mean) not in (1, 3):
        raise ValueError(f"images of {net.channels} channels, less {len(mean)} means; photos have 3")
    blue, green, red = (value * scale for value in (mean * 3 if len(mean) == 1 else mean))
    return PreprocessConfig(size_hw=net.size_hw, channel_order="bgr", scale=scale, mean=(blue, green, red))


def _groups(node: Node) -> float:
    return node.message.message("convolution_param").number("group", 1)


def _fill(
    spec: ModelSpec, pieces: dict[str, Piece], layers: Iterable[str], weights: Path
) -> tuple[ModelSpec, dict[str, Tensor], ImportReport]:
    import torch

    from singleshot.models.build import build_network

    with torch.device("meta"):
        own = build_network(spec.network).state_dict()
    state, mapped, problems = {}, [], []
    for prefix, piece in pieces.items():
        for name, (layer, blob) in piece.blobs.items():
            needed = own[f"{prefix}.{name}"]
            value = _shaped(blob, tuple(needed.shape))
            if value is None:
                problems.append(f"'{layer}' has a blob of {blob.shape}, needed {tuple(needed.shape)}")
            elif not np.isfinite(value).all():
                problems.append(f"'{layer}' holds numbers that are not finite")
            else:
                state[f"{prefix}.{name}"] = torch.from_numpy(value.copy())
                mapped.append((f"{prefix}.{name}", layer))
    if problems:
        raise WeightsError(f"{weights}: does not fit its .prototxt: {'; '.join(problems[:4])}")
    used = {layer for _, layer in mapped}
    left = tuple(layer for layer in layers if layer not in used)
    order, mean = spec.preprocess.channel_order, spec.preprocess.mean
    note = (
        f"pixels are {order}, times {spec.preprocess.scale:g}, minus {mean}: assumed, as a .prototxt for use "
        "does not say it (--mean, --scale)"
    )
    return spec, state, ImportReport("caffe", spec.name, tuple(mapped), left, (), (note,))


def _shaped(blob: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """A blob in our shape: old ones have four sides, and one number may stand for all channels."""
    if blob.size == 1 and len(shape) == 1:
        return np.full(shape, blob.item(), dtype=np.float32)
    if tuple(side for side in blob.shape if side != 1) != tuple(side for side in shape if side != 1):
        return None
    return blob.reshape(shape)
