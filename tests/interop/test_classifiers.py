"""Base weights of other systems: files with their names and shapes, against what the source network computes."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mxnet_writer import params_bytes
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from wire_writer import caffemodel

from singleshot.core.settings import PreprocessConfig
from singleshot.errors import WeightsError
from singleshot.images.preprocess import preprocess_image
from singleshot.interop.classifiers import read_classifier
from singleshot.interop.mxnet.names import backbone_parameter
from singleshot.models.build import assemble_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import BackboneConfig, HeadConfig, ModelSpec, NetworkConfig
from singleshot.models.network import Network
from singleshot.weights.imagenet import CAFFE, TORCHVISION, load_imagenet

BGR = PreprocessConfig(size_hw=(48, 64), channel_order="bgr", mean=(104.0, 117.0, 123.0))
ROUND = PreprocessConfig(size_hw=(48, 64), scale=2 / 255, mean=(1.0, 1.0, 1.0))
PREPROCESSINGS = [CAFFE, TORCHVISION, BGR, ROUND]
LIST_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33)
"""Of the layers with numbers in ``vgg16_reducedfc.pth``."""


def detector(name: str, preprocess: PreprocessConfig, *taps: str) -> tuple[ModelSpec, Network]:
    """A backbone with one head, whatever the backbone."""
    spec = model_spec("ssd300_vgg16", ("a",))
    levels = max(len(taps), 1)
    network = NetworkConfig(
        backbone=BackboneConfig(name=name, taps=taps), head=HeadConfig(logits=2, boxes_per_cell=(4,) * levels)
    )
    anchors = spec.anchors.model_copy(update={"levels": spec.anchors.levels[:1] * levels})
    spec = spec.model_copy(update={"network": network, "preprocess": preprocess, "anchors": anchors})
    with torch.device("meta"):
        empty = assemble_network(network).to_empty(device="cpu").eval()
    for value in empty.state_dict().values():
        value.zero_()
    generator = torch.Generator().manual_seed(0)
    for value in empty.backbone.state_dict().values():
        if value.ndim > 1 and value.numel() < 1e6:
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
        else:
            value.fill_(0 if value.ndim > 1 or value.ndim == 0 else 1)
    return spec, empty


def photo() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def features(spec: ModelSpec, network: Network) -> list[Tensor]:
    image = preprocess_image(photo(), spec.preprocess.model_copy(update={"size_hw": (48, 64)}))
    with torch.no_grad():
        maps: list[Tensor] = network.backbone(torch.from_numpy(image)[None])
    return maps


def by_layer(state: dict[str, Tensor]) -> dict[str, list[np.ndarray]]:
    layers: dict[str, list[np.ndarray]] = {}
    for name, value in state.items():
        layers.setdefault(name.rpartition(".")[0], []).append(value.numpy())
    return layers


def write_list(path: Path, state: dict[str, Tensor]) -> None:
    """``vgg16_reducedfc.pth``: 0.weight ... 33.bias."""
    layers = list(by_layer(state))
    listed = OrderedDict(
        (f"{LIST_NUMBERS[layers.index(layer)]}.{kind}", state[f"{layer}.{kind}"])
        for layer in layers
        for kind in ("weight", "bias")
    )
    torch.save(listed, path, _use_new_zipfile_serialization=False)  # as old as the published file


def write_params(path: Path, state: dict[str, Tensor]) -> None:
    path.write_bytes(params_bytes({f"arg:{name.replace('.', '_')}": value.numpy() for name, value in state.items()}))


def write_caffemodel(path: Path, state: dict[str, Tensor]) -> None:
    path.write_bytes(caffemodel({**by_layer(state), "fc8": [np.zeros((1000, 1024, 1, 1), np.float32)]}))


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("base.pth", write_list, "ssd.pytorch's list of layers; reads RGB 0..255 minus (123, 117, 104), as this"),
        ("vgg16_reduced-0001.params", write_params, "MXNet's parameters; reads RGB 0..255 minus (123, 117, 104)"),
        ("VGG_fc_reduced.caffemodel", write_caffemodel, "Caffe's VGG16; reads BGR 0..255 minus (104, 117, 123); its"),
    ],
)
def test_vgg16_reduced_whole(name: str, write: object, words: str, tmp_path: Path) -> None:
    spec, network = detector("vgg16_reduced", CAFFE, "relu4_3", "relu7")
    own = network.backbone.state_dict()
    state = {layer: torch.full(value.shape, float(index)) for index, (layer, value) in enumerate(own.items())}
    state["conv1_1.weight"] = torch.randn(64, 3, 3, 3)
    write(tmp_path / name, state)  # type: ignore[operator]
    report = load_imagenet(network, spec, tmp_path / name, read_classifier)
    assert report.loaded == [f"backbone.{one}" for one in state]
    assert len(report.notes) == 1
    assert report.notes[0].startswith(words)
    for layer, value in network.backbone.state_dict().items():
        flipped = name.endswith("caffemodel") and layer == "conv1_1.weight"
        torch.testing.assert_close(value, state[layer].flip(1) if flipped else state[layer])


@pytest.mark.parametrize("preprocess", PREPROCESSINGS)
def test_a_caffemodel_computes_what_caffe_computes(preprocess: PreprocessConfig, tmp_path: Path) -> None:
    """Caffe sees blue first, less the mean; here by the plain formula (OpenCV 5 reads no Caffe)."""
    _, source = detector("vgg16_reduced", CAFFE, "relu1_2")
    state = source.backbone.state_dict()
    write_caffemodel(tmp_path / "net.caffemodel", state)
    blob = torch.from_numpy(photo()[..., ::-1] - np.float32([104, 117, 123])).permute(2, 0, 1)[None]
    expected = F.relu(F.conv2d(blob, state["conv1_1.weight"], state["conv1_1.bias"], padding=1))
    expected = F.relu(F.conv2d(expected, state["conv1_2.weight"], state["conv1_2.bias"], padding=1))
    spec, network = detector("vgg16_reduced", preprocess, "relu1_2")
    load_imagenet(network, spec, tmp_path / "net.caffemodel", read_classifier)
    (found,) = features(spec, network)
    if preprocess in (CAFFE, BGR):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    # Zeros beyond the border stand for other colours where the means differ.
    torch.testing.assert_close(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-4, atol=5e-3)


def randomised(network: Network) -> Network:
    """BatchNorms with statistics, as if trained."""
    generator = torch.Generator().manual_seed(1)
    for name, value in network.backbone.state_dict().items():
        if name.startswith("bn_data.running"):
            value.copy_(torch.tensor([120.0, 110.0, 100.0] if name.endswith("mean") else [3600.0, 3400.0, 3300.0]))
        elif name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif name.endswith(("running_mean", "bias")):
            value.copy_(torch.rand(value.shape, generator=generator) * 0.1)
    return network


MXNET = [
    ("resnet18_mxnet", "stage2_unit1", True),
    ("resnet18_mxnet", "stage1_unit1", False),
    ("resnet50_mxnet", "stage1_unit2", True),
    ("mobilenet_v1_mxnet", "conv_4", False),
    ("inception_v3_mxnet", "mixed", False),
    ("densenet121", "DBstage1_unit6", True),
]


@pytest.mark.parametrize(("backbone", "tap", "saw_pixels"), MXNET)
@pytest.mark.parametrize("preprocess", [CAFFE, TORCHVISION, BGR])
def test_mxnet_classifiers(
    backbone: str, tap: str, saw_pixels: bool, preprocess: PreprocessConfig, tmp_path: Path
) -> None:
    """A first BatchNorm tells whether it saw pixels; without one they are taken to be less their mean."""
    spec, source = detector(backbone, CAFFE, tap)
    state = randomised(source).backbone.state_dict()
    if saw_pixels:
        spec = spec.model_copy(update={"preprocess": CAFFE.model_copy(update={"mean": (0.0, 0.0, 0.0)})})
    elif "bn_data.running_mean" in state:
        state["bn_data.running_mean"].copy_(torch.tensor([1.0, -3.0, 2.0]))
    arrays = {
        f"{'aux' if 'running' in name else 'arg'}:{backbone_parameter(backbone, name)}": value.numpy()
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    arrays |= {"arg:fc1_weight": np.zeros((1000, 8), np.float32), "arg:fc1_bias": np.zeros(1000, np.float32)}
    (tmp_path / "net-0000.params").write_bytes(params_bytes(arrays))
    (expected,) = features(spec, source)
    spec, network = detector(backbone, preprocess, tap)
    report = load_imagenet(network, spec, tmp_path / "net-0000.params", read_classifier)
    assert len(report.loaded) == len(arrays) - 2
    pixels = "RGB 0..255" if saw_pixels else "RGB 0..255 minus (123, 117, 104)"
    assert report.notes[0].startswith(f"MXNet's parameters; reads {pixels}")
    (found,) = features(spec, network)
    has_borders = "bn_data.weight" not in state and preprocess is TORCHVISION
    inside = (..., slice(3, -3), slice(3, -3)) if has_borders else ...
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-3, atol=1e-3)


def torchvision_densenet(state: dict[str, Tensor], images: Tensor, units: tuple[int, ...]) -> Tensor:
    """The features of torchvision's DenseNet before its last BatchNorm, by its names and its eps."""

    def norm(x: Tensor, name: str) -> Tensor:
        numbers = [state[f"{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, *numbers, eps=1e-5))

    x = F.conv2d(images, state["features.conv0.weight"], stride=2, padding=3)
    x = F.max_pool2d(norm(x, "features.norm0"), 3, 2, 1)
    for block, count in enumerate(units, 1):
        for unit in range(1, count + 1):
            at = f"features.denseblock{block}.denselayer{unit}"
            new = F.conv2d(norm(x, f"{at}.norm1"), state[f"{at}.conv1.weight"])
            x = torch.cat([x, F.conv2d(norm(new, f"{at}.norm2"), state[f"{at}.conv2.weight"], padding=1)], 1)
        if block < len(units):
            at = f"features.transition{block}"
            x = F.avg_pool2d(F.conv2d(norm(x, f"{at}.norm"), state[f"{at}.conv.weight"]), 2)
    return x


def densenet_state(units: tuple[int, ...]) -> dict[str, Tensor]:
    """Numbers by torchvision's names."""
    generator, state = torch.Generator().manual_seed(2), {}

    def conv(name: str, out: int, channels: int, side: int) -> None:
        scale = (2 / (channels * side * side)) ** 0.5
        state[f"{name}.weight"] = torch.randn(out, channels, side, side, generator=generator) * scale

    def norm(name: str, channels: int) -> None:
        for kind, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 1e-3)):
            state[f"{name}.{kind}"] = torch.rand(channels, generator=generator) + low
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("features.conv0", 64, 3, 7)
    norm("features.norm0", 64)
    channels = 64
    for block, count in enumerate(units, 1):
        for unit in range(1, count + 1):
            at = f"features.denseblock{block}.denselayer{unit}"
            norm(f"{at}.norm1", channels)
            conv(f"{at}.conv1", 128, channels, 1)
            norm(f"{at}.norm2", 128)
            conv(f"{at}.conv2", 32, 128, 3)
            channels += 32
        if block < len(units):
            norm(f"features.transition{block}.norm", channels)
            conv(f"features.transition{block}.conv", channels // 2, channels, 1)
            channels //= 2
    norm("features.norm5", channels)
    return state


@pytest.mark.parametrize("is_published", [False, True])
def test_torchvisions_densenet(is_published: bool, tmp_path: Path) -> None:
    state = densenet_state((6, 12, 24, 16))
    spec, network = detector("densenet121", CAFFE, "DBstage2_unit12")
    seen = (torch.from_numpy(photo()).permute(2, 0, 1) / 255 - torch.tensor(TORCHVISION.mean)[:, None, None])[None]
    expected = torchvision_densenet(state, seen / torch.tensor(TORCHVISION.std)[:, None, None], (6, 12))
    if is_published:  # norm.1 and conv.1, as in the file that is downloaded
        state = {re_dotted(name): value for name, value in state.items()}
    save_file(state, tmp_path / "densenet121.safetensors")
    load_imagenet(network, spec, tmp_path / "densenet121.safetensors", read_classifier)
    found = features(spec, network)[0]
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 1e-4


def re_dotted(name: str) -> str:
    if "denselayer" not in name:
        return name
    for part in ("norm1", "norm2", "conv1", "conv2"):
        name = name.replace(part, f"{part[:-1]}.{part[-1]}")
    return name


def torchvision_vgg16_bn() -> nn.Sequential:
    """``features`` of torchvision's vgg16_bn."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width == 0:
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers).eval()


def test_torchvisions_vgg16_bn(tmp_path: Path) -> None:
    theirs = torchvision_vgg16_bn()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    save_file({f"features.{name}": value for name, value in theirs.state_dict().items()}, tmp_path / "bn.safetensors")
    spec, network = detector("vgg16_bn", TORCHVISION, "relu4_3", "relu7")
    report = load_imagenet(network, spec, tmp_path / "bn.safetensors", read_classifier)
    assert report.notes[0] == "fc6 and fc7 start at random: the file has no numbers for them that fit"
    image = torch.from_numpy(preprocess_image(photo(), TORCHVISION.model_copy(update={"size_hw": (48, 64)})))
    with torch.no_grad():
        torch.testing.assert_close(features(spec, network)[0], theirs[:33](image[None]), rtol=1e-4, atol=1e-5)


def test_files_of_other_networks(tmp_path: Path) -> None:
    spec, network = detector("vgg16_reduced", CAFFE, "relu1_2")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    params = tmp_path / "resnet.params"
    params.write_bytes(params_bytes({"arg:bn_data_gamma": np.ones(3, np.float32)}))
    with pytest.raises(WeightsError, match=r"resnet\.params: not ImageNet weights of the backbone 'vgg16_reduced'"):
        load_imagenet(network, spec, params, read_classifier)
    (tmp_path / "damaged.caffemodel").write_bytes(b"\x0a\x05net")
    with pytest.raises(WeightsError, match=r"damaged\.caffemodel: no caffemodel, or damaged"):
        load_imagenet(network, spec, tmp_path / "damaged.caffemodel", read_classifier)
    for path in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(WeightsError, match=r"name a classifier's file"):
            load_imagenet(network, spec, path, read_classifier)
    torch.testing.assert_close(network.state_dict(), before)
    spec, network = detector("resnet18", CAFFE, "layer1")
    with pytest.raises(WeightsError, match=r"MXNet's parameters, whose networks differ from the backbone 'resnet18'"):
        load_imagenet(network, spec, params, read_classifier)
    write_caffemodel(tmp_path / "vgg.caffemodel", {"conv1_1.weight": torch.zeros(64, 3, 3, 3)})
    with pytest.raises(WeightsError, match="of Caffe's classifiers VGG16 is read"):
        load_imagenet(network, spec, tmp_path / "vgg.caffemodel", read_classifier)
    spec, network = detector("resnet18_mxnet", CAFFE, "stage1_unit1")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match="a PyTorch checkpoint, whose networks differ"):
        load_imagenet(network, spec, tmp_path / "resnet18.pth", read_classifier)
