"""Our networks with the weights of golden files, and how far their raw heads are from the real systems'."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import foreign
import singleshot
from golden_rules import family_weight, i1_image, w1_weight
from singleshot.core.boxes import cxcywh_to_xyxy
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.detector import Detector
from singleshot.images.read import read_image
from singleshot.interop.mxnet.names import mxnet_names
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import ModelSpec
from singleshot.models.network import Network

VGG_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33)
VGG_LAYERS = (
    *(f"conv{stage}_{index}" for stage, count in enumerate((2, 2, 3, 3, 3), 1) for index in range(1, count + 1)),
    "fc6",
    "fc7",
)


class Golden(NamedTuple):
    """A network that holds a golden file's weights, its input, and the file's arrays."""

    spec: ModelSpec
    network: Network
    images: Tensor
    arrays: dict[str, Any]
    names: dict[str, str]
    """Our parameter names to the foreign ones."""


def relative_error(ours: Tensor, theirs: np.ndarray) -> float:
    """Largest difference over the largest value."""
    return float((ours.detach() - torch.from_numpy(theirs)).abs().max()) / float(np.abs(theirs).max())


def read_arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _meta_network(name: str, classes: int) -> tuple[ModelSpec, Network]:
    spec = model_spec(name, [f"class{index}" for index in range(classes)])
    with torch.device("meta"):
        return spec, build_network(spec.network)


def mxnet_golden(name: str, reference: Path) -> Golden:
    """A whole network of mxnet-ssd or mxnet-dssd; weights are a function of MXNet name and shape."""
    arrays = read_arrays(reference / "golden/networks" / f"{name}.npz")
    params = json.loads(str(arrays["params"]))
    spec, network = _meta_network(name, 20)
    state = network.state_dict()
    names = mxnet_names(spec.network, state, params["repo"])
    weights = {key: torch.zeros((), dtype=torch.int64) for key in state if key not in names}
    for key, theirs in names.items():
        shape = tuple(state[key].shape)
        full_shape = (1, *shape, 1, 1) if theirs.endswith("_scale") else shape
        weights[key] = torch.from_numpy(family_weight(theirs, full_shape, params["GAIN"]).reshape(shape))
    network.load_state_dict(weights, assign=True)
    size = params["data_shape"]
    pixels = np.random.RandomState(7).standard_normal((1, 3, size, size)) * params["XS"]
    return Golden(spec, network, torch.from_numpy(pixels.astype(np.float32)), arrays, names)


def mxnet_errors(golden: Golden) -> dict[str, float]:
    """Box codes, logits and anchors against MXNet."""
    with torch.no_grad():
        output = golden.network.eval()(golden.images)
    anchors = cxcywh_to_xyxy(build_anchors(golden.spec, golden.network)) / golden.images.shape[-1]
    return {
        "box codes": relative_error(output.box_codes.flatten(1), golden.arrays["loc_pred"]),
        "logits": relative_error(output.class_logits.transpose(1, 2), golden.arrays["cls_pred"]),
        "anchors": relative_error(anchors, golden.arrays["anchors"][0]),
    }


def _w1_network(
    name: str, classes: int, listing: Path, rename: Callable[[str], str], seed: int, gain: float
) -> tuple[ModelSpec, Network]:
    """A network with weights by rule W1, in evaluation mode."""
    spec, network = _meta_network(name, classes)
    weights = {
        rename(key): torch.from_numpy(np.asarray(w1_weight(key, tuple(shape), seed, gain)))
        for key, shape in json.loads(listing.read_text()).items()
    }
    network.load_state_dict(weights, assign=True)
    return spec, network.eval()


def _input(seed: int, size: int, spec: ModelSpec) -> Tensor:
    pixels = torch.from_numpy(i1_image(seed, size, size)).permute(2, 0, 1)[None].float()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.preprocess.mean, spec.preprocess.std))
    return (pixels * spec.preprocess.scale - mean) / std


def refinedet_name(key: str) -> str:
    """Our name of one of RefineDet.PyTorch's parameters."""
    part, parameter = key.rsplit(".", 1)
    root, _, number = part.partition(".")
    if root.endswith("L2Norm"):
        return f"norms.{0 if root.startswith('conv4_3') else 1}.scale"
    index = int(number)
    owners = {
        "vgg": lambda: f"backbone.{VGG_LAYERS[VGG_INDICES.index(index)]}",
        "extras": lambda: f"extras.0.{('reduce', 'conv')[index]}.conv",
        "arm_loc": lambda: f"objectness_head.boxes.{index}",
        "arm_conf": lambda: f"objectness_head.logits.{index}",
        "odm_loc": lambda: f"head.boxes.{index}",
        "odm_conf": lambda: f"head.logits.{index}",
        "tcb0": lambda: f"{_connection(index // 3)}.before.{('first', '', 'second')[index % 3]}.conv",
        "tcb1": lambda: f"{_connection(index)}.deconvolution",
        "tcb2": lambda: f"{_connection(index // 3)}.after.conv.conv",
    }
    return f"{owners[root]()}.{parameter}"


def _connection(level: int) -> str:
    return "neck.deepest" if level == 3 else f"neck.merges.{level}"


def refinedet_errors(reference: Path) -> dict[str, float]:
    """Both stages of RefineDet320 against RefineDet.PyTorch."""
    listing = reference / "spec/state_dicts/luuuyi_refinedet320.json"
    spec, network = _w1_network("refinedet320_vgg16", 20, listing, refinedet_name, seed=6, gain=1.2)
    arrays = read_arrays(reference / "golden/weights/refinedet320_c21_s6.npz")
    with torch.no_grad():
        output = network(_input(106, 320, spec))
    assert isinstance(output, RefineOutput)
    return {
        "first box codes": relative_error(output.arm_box_codes[0], arrays["arm_loc_full"]),
        "first logits": relative_error(output.arm_logits[0, ::26], arrays["arm_conf"]),
        "box codes": relative_error(output.box_codes[0], arrays["odm_loc_full"]),
        "logits": relative_error(output.class_logits[0, ::26], arrays["odm_conf"]),
    }


def nvidia_name(key: str) -> str:
    """Our name of one of NVIDIA's SSD300 parameters."""
    root, *rest = key.split(".")
    if root == "feature_extractor":
        stages = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}
        return ".".join(["backbone", stages[rest[1]], *rest[2:]])
    if root == "additional_blocks":
        layers = {"0": "reduce.conv", "1": "reduce.bn", "3": "conv.conv", "4": "conv.bn"}
        return ".".join(["extras", rest[0], layers[rest[1]], *rest[2:]])
    return ".".join(["head", {"loc": "boxes", "conf": "logits"}[root], *rest])


def nvidia_errors(reference: Path) -> dict[str, float]:
    """SSD300 on ResNet-50 against NVIDIA's, whose head channels are ordered code by code, ours box by box."""
    listing = reference / "spec/state_dicts/nvidia_ssd300_resnet50.json"
    spec, network = _w1_network("ssd300_resnet50", 80, listing, nvidia_name, seed=7, gain=1.0)
    with torch.no_grad():
        for predictors, columns in ((network.head.boxes, 4), (network.head.logits, 81)):
            for parameter in predictors.parameters():
                by_code = parameter.reshape(columns, -1, *parameter.shape[1:])
                parameter.copy_(by_code.transpose(0, 1).reshape(parameter.shape).clone())
        output = network(_input(107, 300, spec))
    arrays = read_arrays(reference / "golden/weights/nvidia_ssd300_resnet50_s7.npz")
    return {
        "box codes": relative_error(output.box_codes[0], arrays["loc_full"]),
        "logits": relative_error(output.class_logits[0, ::36], arrays["conf"]),
        "anchors": relative_error(build_anchors(spec, network)[::36] / 300, arrays["priors_rows"]),
    }


def imported_errors(file: str, reference: Path) -> dict[str, float]:
    """Raw heads and anchors of an imported checkpoint, made by rule W1, against its system's golden file."""
    golden = next(row for row in foreign.GOLDEN if row.file == file)
    with tempfile.TemporaryDirectory() as folder:
        detector = singleshot.import_weights(foreign.w1_file(reference, golden, Path(folder)))
    arrays = foreign.golden_arrays(reference, golden)
    with torch.no_grad():
        output = detector.network(detector.preprocess(foreign.golden_image(golden))[None])
    return {**head_errors(output, arrays), "anchors": anchor_error(detector, arrays)}


def head_errors(output: HeadOutput | RefineOutput, arrays: dict[str, Any]) -> dict[str, float]:
    """Of every raw head that a golden file has, relative to its largest value."""
    n = foreign.every_nth(arrays)
    boxes, logits = output.box_codes[0], output.class_logits[0]
    heads = {"loc": boxes, "loc_full": boxes, "odm_loc_full": boxes, "cls": logits[::n], "conf": logits[::n]}
    if isinstance(output, RefineOutput):
        heads |= {
            "odm_conf": logits[::n],
            "arm_loc_full": output.arm_box_codes[0],
            "arm_conf": output.arm_logits[0, ::n],
        }
    return {name: relative_error(ours, arrays[name]) for name, ours in heads.items() if name in arrays}


def anchor_error(detector: Detector, arrays: dict[str, Any]) -> float:
    """Of the anchors that a golden file has, in pixels as corners or unit as centres, relative to the largest."""
    anchors, n = detector.anchors(), foreign.every_nth(arrays)
    if "anchors_rows" in arrays:
        return relative_error(cxcywh_to_xyxy(anchors)[::n], arrays["anchors_rows"])
    height, width = detector.spec.preprocess.size_hw
    return relative_error(anchors[::n] / torch.tensor([width, height] * 2), arrays["priors_rows"])


def web_model_errors(reference: Path) -> dict[str, float]:
    """TensorFlow's SSDLite, with its own weights, on three photos against TensorFlow.js."""
    detector = singleshot.import_weights(reference / "weights/ssdlite_mobilenet_v2_coco_tfjs")
    arrays = read_arrays(reference / "golden/weights/tfjs_ssdlite_mobilenet_v2_coco.npz")
    x, y, w, h = (detector.anchors() / 300).T
    corners_yx = torch.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], dim=1)
    errors = {"anchors": relative_error(corners_yx, arrays["anchors"])}
    for index, file in enumerate(arrays["files"]):
        image = read_image(reference / "data/coco_train343/images" / str(file))
        with torch.no_grad():
            output = detector.network(detector.preprocess(image)[None])
        errors[f"box codes {index}"] = relative_error(output.box_codes[0], arrays[f"i{index}_loc"])
        errors[f"logits {index}"] = relative_error(output.class_logits[0], arrays[f"i{index}_cls"])
    return errors
