"""Caffe SSDs: a ``.prototxt`` and its ``.caffemodel``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from singleshot.core.setting_errors import plain_reason
from singleshot.core.settings import PreprocessConfig
from singleshot.errors import ConfigError, WeightsError
from singleshot.interop.caffe.caffemodel import read_caffemodel
from singleshot.interop.caffe.head import Head, read_head
from singleshot.interop.caffe.layers import Piece, Translator
from singleshot.interop.caffe.net import Net, Node, read_net
from singleshot.interop.fill import Imported, fill
from singleshot.interop.translate import Classes, classes_of
from singleshot.models.config import BackboneConfig, HeadConfig, ModelSpec, NetworkConfig

MODEL_SUFFIX = ".caffemodel"
DEFAULT_MEAN_BGR = (104.0, 117.0, 123.0)
FACE_MEAN_BGR = (104.0, 177.0, 123.0)
FACE_LAYER = "layer_512_1_conv2_h"
"""Of OpenCV's res10 face detector, which was trained with a mean of its own."""


def read(path: str | Path) -> Imported:
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
        raise WeightsError(f"{description}: a setting that makes no sense: {plain_reason(error)}") from error


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


def _convert(net: Net, head: Head, description: Path, weights: Path) -> Imported:
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
    parts = {f"{at}.{name}": part for at, piece in pieces.items() for name, part in piece.parts.items()}
    pixels = spec.preprocess
    note = (
        f"pixels are {pixels.channel_order}, times {pixels.scale:g}, minus {pixels.mean}: assumed, as a .prototxt for "
        "use does not say it: set `mean` and `scale` if they were others"
    )
    return fill(spec, parts, blobs, "caffe", weights, (note,), "the .prototxt may be of another network")


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
        settings = (node.message.message("convolution_param") for node in net.nodes)
        if is_mobilenet and any(one.integer("group", 1) > 1 for one in settings):
            mean, scale = (127.5,) * 3, 0.007843
        else:
            mean = FACE_MEAN_BGR if is_face else DEFAULT_MEAN_BGR
    if net.channels != 3 or len(mean) not in (1, 3):
        raise ValueError(f"images of {net.channels} channels, less {len(mean)} means; photos have 3")
    blue, green, red = (value * scale for value in (mean * 3 if len(mean) == 1 else mean))
    return PreprocessConfig(size_hw=net.size_hw, channel_order="bgr", scale=scale, mean=(blue, green, red))
