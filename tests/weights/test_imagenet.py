from __future__ import annotations

import hashlib
import pickle
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from golden_rules import i1_image, w1_weight
from singleshot.core.redirects import HttpsRedirects
from singleshot.core.settings import PreprocessConfig
from singleshot.errors import WeightsError
from singleshot.images.preprocess import preprocess_image
from singleshot.models.backbone import build_backbone
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import BackboneConfig, HeadConfig, ModelSpec, NetworkConfig
from singleshot.models.network import Network
from singleshot.weights import manifest
from singleshot.weights.classifier_names import translate
from singleshot.weights.first_layer import adapt_input
from singleshot.weights.imagenet import (
    CAFFE,
    EFFICIENTNET_LITE,
    TORCHVISION,
    load_imagenet,
    read_checkpoint_classifier,
    thin_dense_layers,
)
from singleshot.weights.manifest import IMAGENET, Download, architecture_of, fetch
from singleshot.weights.torch_file import read_tensors


@pytest.mark.parametrize(
    ("backbone", "architecture"),
    [
        ("vgg16_reduced", "vgg16"),
        ("vgg16_refinedet", "vgg16"),
        ("mobilenet_v2_tf", "mobilenet_v2"),
        ("mobilenet_v3_large", "mobilenet_v3_large"),
        ("mobilenet_v3_large_reduced", None),
        ("resnet101_dssd", "resnet101"),
        ("resnet101_mxnet", None),
        ("resnet152_nvidia", "resnet152"),
        ("vgg16_bn", "vgg16_bn"),
        ("densenet121", "densenet121"),
        ("densenet169", None),
        ("efficientnet_lite0", None),
    ],
)
def test_which_weights_fit_which_backbone(backbone: str, architecture: str | None) -> None:
    assert architecture_of(backbone) == architecture


def backbone_only(name: str, preprocess: PreprocessConfig, tap: str) -> tuple[ModelSpec, Network]:
    spec = model_spec("ssd300_vgg16", ("a",))
    anchors = spec.anchors.model_copy(update={"levels": spec.anchors.levels[:1]})
    network = NetworkConfig(
        backbone=BackboneConfig(name=name, taps=(tap,)), head=HeadConfig(logits=2, boxes_per_cell=(4,))
    )
    spec = spec.model_copy(update={"network": network, "preprocess": preprocess, "anchors": anchors})
    return spec, build_network(network).eval()


PREPROCESSINGS = [
    TORCHVISION,
    PreprocessConfig(size_hw=(64, 64), scale=2 / 255, mean=(1.0, 1.0, 1.0)),
    PreprocessConfig(size_hw=(64, 64), mean=(104.0, 117.0, 123.0), channel_order="bgr"),
]


def seen_by(preprocess: PreprocessConfig, pixels: Tensor) -> Tensor:
    """RGB pixels ``[B, 3, H, W]`` as a detector's preprocessing gives them, written from its definition."""
    ordered = pixels if preprocess.channel_order == "rgb" else pixels.flip(1)
    mean, std = (torch.tensor(value)[:, None, None] for value in (preprocess.mean, preprocess.std))
    return (ordered * preprocess.scale - mean) / std


@pytest.mark.parametrize("preprocess", PREPROCESSINGS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_first_layer_sees_what_it_was_trained_on(preprocess: PreprocessConfig, with_bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(3, 4, 3, bias=with_bias), nn.BatchNorm2d(4)).eval()
    pixels = torch.randint(0, 256, (2, 3, 9, 9)).float()
    expected = layer(seen_by(TORCHVISION, pixels))
    state = {"stem.conv.weight": layer[0].weight.detach(), "stem.bn.running_mean": layer[1].running_mean}
    if with_bias:
        state["stem.conv.bias"] = layer[0].bias.detach()
    adapt_input(state, "stem.conv.weight", TORCHVISION, preprocess)
    renamed = {"0.weight": state["stem.conv.weight"], "1.running_mean": state["stem.bn.running_mean"]}
    if with_bias:
        renamed["0.bias"] = state["stem.conv.bias"]
    layer.load_state_dict(renamed, strict=False)
    torch.testing.assert_close(layer(seen_by(preprocess, pixels)), expected, rtol=1e-3, atol=1e-3)


LITE0 = ((1, 16, 1, 3), (6, 24, 2, 3), (6, 40, 2, 5), (6, 80, 3, 3), (6, 112, 3, 5), (6, 192, 4, 5), (6, 320, 1, 3))
"""(expansion, channels, blocks, kernel) of EfficientNet-Lite0's stages."""
LITE0_FEATURES = (0.0, 3.99764, 0.0, 4.94065, 1.37167, 3.9104, 0.0, 5.83267)
"""Every 160th channel of cell (3, 4) by efficientnet-lite-pytorch 0.1.0, weights by rule W1 (seed 3, gain 1.7)."""


def lite0_state() -> dict[str, Tensor]:
    """A classifier by EfficientNet-PyTorch's names and shapes, numbers by the rule."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(conv: str, norm: str, *shape: int) -> None:
        shapes[f"{conv}.weight"] = shape
        shapes.update({f"{norm}.{kind}": shape[:1] for kind in ("weight", "bias", "running_mean", "running_var")})

    add("_conv_stem", "_bn0", 32, 3, 3, 3)
    channels, block = 32, 0
    for expansion, out, count, kernel in LITE0:
        for _ in range(count):
            at, mid = f"_blocks.{block}.", channels * expansion
            if expansion > 1:
                add(f"{at}_expand_conv", f"{at}_bn0", mid, channels, 1, 1)
            add(f"{at}_depthwise_conv", f"{at}_bn1", mid, 1, kernel, kernel)
            add(f"{at}_project_conv", f"{at}_bn2", out, mid, 1, 1)
            channels, block = out, block + 1
    add("_conv_head", "_bn1", 1280, 320, 1, 1)
    shapes |= {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    return {name: torch.from_numpy(w1_weight(name, shape, 3, 1.7)) for name, shape in shapes.items()}


def test_efficientnet_lite0_equals_its_own_package(tmp_path: Path) -> None:
    torch.save(lite0_state(), tmp_path / "x.pth")
    spec, network = backbone_only("efficientnet_lite0", EFFICIENTNET_LITE, "last")
    report = load_imagenet(network, spec, tmp_path / "x.pth")
    counters = {name for name in network.state_dict() if name.endswith("num_batches_tracked")}
    backbone = {name for name in network.state_dict() if name.startswith("backbone.")}
    assert set(report.loaded) == backbone - counters
    pixels = torch.from_numpy(preprocess_image(i1_image(5, 224, 224), TORCHVISION))[None]
    with torch.no_grad():
        features = network.backbone(pixels)[0]
    assert features.shape == (1, 1280, 7, 7)
    torch.testing.assert_close(features[0, ::160, 3, 4], torch.tensor(LITE0_FEATURES), rtol=1e-4, atol=1e-4)
    assert float(features.sum()) == pytest.approx(82844.19, rel=1e-4)


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        (
            "mobilenet_v2",
            {
                "conv_stem.weight": "stem.conv.weight", "bn1.bias": "stem.bn.bias",
                "blocks.0.0.conv_dw.weight": "block0.depthwise.conv.weight",
                "blocks.0.0.conv_pw.weight": "block0.project.conv.weight",
                "blocks.0.0.bn2.running_var": "block0.project.bn.running_var",
                "blocks.1.0.conv_pw.weight": "block1_expand.conv.weight",
                "blocks.1.0.bn2.weight": "block1.depthwise.bn.weight",
                "blocks.1.0.conv_pwl.weight": "block1.project.conv.weight",
                "blocks.1.1.conv_pw.weight": "block2.expand.conv.weight",
                "blocks.1.1.conv_pwl.weight": "block2.project.conv.weight",
                "conv_head.weight": "last.conv.weight", "bn2.weight": "last.bn.weight",
            },
        ),
        (
            "mobilenet_v3_large",
            {
                "conv_stem.weight": "stem.conv.weight", "blocks.0.0.conv_dw.weight": "block1.depthwise.conv.weight",
                "blocks.1.0.conv_pw.weight": "block2_expand.conv.weight",
                "blocks.1.0.conv_pwl.weight": "block2.project.conv.weight",
                "blocks.6.0.conv.weight": "last.conv.weight", "blocks.6.0.bn1.bias": "last.bn.bias",
            },
        ),
    ],
)  # fmt: skip
def test_timms_names(architecture: str, names: dict[str, str]) -> None:
    """Blocks are numbered by stage there, and a separable block's layers are called otherwise."""
    own = backbone_only(architecture, TORCHVISION, "last")[1].backbone.state_dict()
    state = {name: torch.tensor(float(index)) for index, name in enumerate(names)}
    given = state | {"classifier.weight": torch.zeros(2)}
    if architecture == "mobilenet_v3_large":
        given["conv_head.weight"] = torch.zeros(2)  # of the classifier
    assert translate(architecture, given, own) == {ours: state[theirs] for theirs, ours in names.items()}
    assert set(names.values()) <= set(own)


def test_timms_networks(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model = timm.create_model("mobilenetv2_100").eval()
    torch.save(model.state_dict(), tmp_path / "x.pth")
    spec, network = backbone_only("mobilenet_v2", TORCHVISION, "last")
    load_imagenet(network, spec, tmp_path / "x.pth")
    image = torch.rand(1, 3, 97, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.backbone(image)[0], model.forward_features(image))


@pytest.mark.parametrize(
    ("sign", "shape", "guess"),
    [
        ("layer3.5.conv2.weight", (256, 256, 3, 3), "resnet34"),
        ("features.18.0.weight", (1280, 320, 1, 1), "mobilenet_v2"),
        ("blocks.5.0.conv_dw.weight", (672, 1, 5, 5), "efficientnet_lite0"),
        ("Mixed_7c.branch_pool.conv.weight", (192, 2048, 1, 1), "inception_v3 .of which singleshot reads MXNet's"),
    ],
)
def test_a_file_of_another_network_says_which(sign: str, shape: tuple[int, ...], guess: str, tmp_path: Path) -> None:
    torch.save({sign: torch.zeros(shape)}, tmp_path / "x.pth")
    spec, network = backbone_only("densenet121", TORCHVISION, "DBstage1_unit6")
    with pytest.raises(WeightsError, match=f"It looks like a classifier of {guess}"):
        load_imagenet(network, spec, tmp_path / "x.pth")


def test_mobilenet_v2_classifies_photos(reference: Path) -> None:
    """The public file with its own classifier on top of our layers knows broccoli (class 937)."""
    from singleshot.images.read import read_image

    path = reference / "weights/mobilenet_v2-b0353104.pth"
    classifier = torch.load(path, weights_only=True)
    images = reference / "data/coco_train343/images"
    for preprocess in PREPROCESSINGS:
        preprocess = preprocess.model_copy(update={"size_hw": (224, 224)})
        spec, network = backbone_only("mobilenet_v2", preprocess, "last")
        loaded = load_imagenet(network, spec, path).loaded
        assert set(loaded) == {name for name in network.state_dict() if name.startswith("backbone.")}
        image = torch.from_numpy(preprocess_image(read_image(images / "000000000009.jpg"), preprocess))
        with torch.no_grad():
            features = network.backbone(image[None])[0].mean(dim=(2, 3))
            logits = features @ classifier["classifier.1.weight"].T + classifier["classifier.1.bias"]
        assert logits.argmax().item() == 937


def test_mobilenet_v2_fits_the_bundled_architecture(reference: Path) -> None:
    spec = model_spec("ssdlite300_mobilenet_v2", ("a",))
    network = build_network(spec.network)
    loaded = load_imagenet(network, spec, reference / "weights/mobilenet_v2-b0353104.pth").loaded
    assert len(loaded) == len(network.backbone.state_dict())
    assert load_imagenet(network, spec, reference / "weights/mobilenet_v2-b0353104.pth").loaded == loaded


def test_vgg16_convolutions(reference: Path) -> None:
    path = reference / "weights/vgg16_imagenet_features_fp16.safetensors"
    spec = model_spec("ssd300_vgg16", ("a",))
    network = build_network(spec.network)
    before = network.backbone.fc6.weight.clone()
    report = load_imagenet(network, spec, path)
    assert len(report.loaded) == 26
    assert report.notes[0] == "fc6 and fc7 start at random: the file has no numbers for them that fit"
    assert torch.equal(network.backbone.fc6.weight, before)
    theirs = read_tensors(path)
    assert torch.equal(network.backbone.conv5_3.weight, theirs["features.28.weight"])
    assert torch.equal(network.backbone.conv1_2.bias, theirs["features.2.bias"])


def dense_layers() -> dict[str, Tensor]:
    """torchvision's, whose numbers are 1000 times the unit plus the tap, without memory for them."""
    units, taps = torch.arange(4096.0)[:, None, None], torch.arange(49.0)
    return {
        "classifier.0.weight": (1000 * units + taps).expand(4096, 512, 49),
        "classifier.0.bias": torch.arange(4096.0),
        "classifier.3.weight": torch.arange(4096.0).expand(4096, 4096),
        "classifier.3.bias": torch.arange(4096.0),
        "classifier.6.bias": torch.zeros(1000),
    }


@pytest.mark.parametrize("architecture", ["vgg16", "vgg16_bn"])
def test_vgg16_dense_layers_become_convolutions(architecture: str) -> None:
    ours, notes = thin_dense_layers(translate(architecture, dense_layers(), []))
    assert {name: tuple(value.shape) for name, value in ours.items()} == {
        "fc6.weight": (1024, 512, 3, 3),
        "fc6.bias": (1024,),
        "fc7.weight": (1024, 1024, 1, 1),
        "fc7.bias": (1024,),
    }
    assert ours["fc6.weight"][1, 2, 1, 2] == 4 * 1000 + 3 * 7 + 6
    assert ours["fc6.bias"][3] == 12
    assert ours["fc7.weight"][5, 7, 0, 0] == 28
    assert len(notes) == 1


def test_dense_layers_that_are_no_numbers_stay_out() -> None:
    """As in the file that torchvision publishes."""
    state = dense_layers() | {"classifier.3.weight": torch.tensor(float("nan")).expand(4096, 4096)}
    assert thin_dense_layers(translate("vgg16", state, []))[1] == []


def test_dense_layers_of_the_reduced_form_stay_as_they_are() -> None:
    state = {"fc6.weight": torch.ones(1024, 512, 3, 3), "fc7.weight": torch.ones(1024, 1024, 1, 1)}
    assert thin_dense_layers(state) == (state, [])


@pytest.mark.parametrize(
    ("name", "number", "theirs"),
    [
        ("vgg16-397923af.pth", 0.0, TORCHVISION),
        ("features.pth", float("nan"), CAFFE),
        ("vgg16_features-amdegroot.pth", 0.0, CAFFE),
    ],
)
def test_which_pixels_a_vgg16_was_trained_on(tmp_path: Path, name: str, number: float, theirs: object) -> None:
    """torchvision publishes ssd.pytorch's convolutions with a classifier of NaN."""
    torch.save(
        {"features.0.weight": torch.zeros(64, 3, 3, 3), "classifier.0.weight": torch.full((8, 8), number)},
        tmp_path / name,
    )
    classifier = read_checkpoint_classifier(tmp_path / name, "vgg16_reduced", ("conv1_1.weight", "fc6.weight"))
    assert set(classifier.state) == {"fc6.weight", "conv1_1.weight"}
    assert classifier.preprocess == theirs


def test_squeezenet_by_its_names() -> None:
    """torchvision's modules list squeeze, expand1x1 and expand3x3, whose names sort otherwise."""
    own = build_backbone(BackboneConfig(name="squeezenet1_1")).state_dict()
    numbers = {"conv1": 0, "fire2": 3, "fire3": 4, "fire4": 6, "fire5": 7, "fire6": 9, "fire7": 10, "fire8": 11}
    state = {f"features.{numbers[name.partition('.')[0]]}.{name.partition('.')[2]}": own[name] for name in sorted(own)}
    state |= {"features.12.squeeze.weight": torch.zeros(64, 512, 1, 1), "classifier.1.weight": torch.zeros(1)}
    found = translate("squeezenet1_1", state, own)
    assert all(found[name] is own[name] for name in own)


def torchvision_names(network: Network) -> dict[str, Tensor]:
    """Our MobileNetV3 under torchvision's names: features.K.block.J.{0,1}, squeeze as fc1 and fc2."""
    named: dict[str, Tensor] = {}
    for name, value in network.backbone.state_dict().items():
        layer, *middle, part, parameter = name.split(".")
        number = {"stem": "0", "last": "16"}.get(layer, layer.removeprefix("block").removesuffix("_expand"))
        if layer in ("stem", "last"):
            named[f"features.{number}.{'0' if part == 'conv' else '1'}.{parameter}"] = value
            continue
        kind = "expand" if layer.endswith("_expand") else middle[0] if middle else "squeeze"
        has_squeeze = any(key.startswith(f"block{number}.squeeze") for key in network.backbone.state_dict())
        order = (
            (["expand"] if number != "1" else []) + ["depthwise"] + (["squeeze"] if has_squeeze else []) + ["project"]
        )
        inner = part if kind == "squeeze" else "0" if part == "conv" else "1"
        named[f"features.{number}.block.{order.index(kind)}.{inner}.{parameter}"] = value
    return named


def test_mobilenet_v3_by_its_names(tmp_path: Path) -> None:
    spec, source = backbone_only("mobilenet_v3_large", TORCHVISION, "last")
    _, target = backbone_only("mobilenet_v3_large", TORCHVISION, "last")
    save_file(torchvision_names(source), tmp_path / "v3.safetensors")
    load_imagenet(target, spec, tmp_path / "v3.safetensors")
    for name, value in source.backbone.state_dict().items():
        torch.testing.assert_close(target.backbone.state_dict()[name], value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps(Evil()), b"PK\x03\x04" + b"\0" * 64])
def test_bad_checkpoints(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read_tensors(path)


def test_other_mistakes(tmp_path: Path) -> None:
    spec, network = backbone_only("vgg16_reduced", TORCHVISION, "relu1_2")
    with pytest.raises(WeightsError, match="no such checkpoint"):
        load_imagenet(network, spec, tmp_path / "none.pth")
    save_file({"features.0.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="not ImageNet weights of the backbone 'vgg16_reduced': 0 of 4"):
        load_imagenet(network, spec, tmp_path / "other.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"list\.pth"):
        read_tensors(tmp_path / "list.pth")
    densenet = spec.network.model_copy(update={"backbone": BackboneConfig(name="densenet169")})
    with pytest.raises(WeightsError, match="no ImageNet weights are known"):
        load_imagenet(network, spec.model_copy(update={"network": densenet}))


# ---- downloads, from an address that is not the network ----

CONTENT = b"weights" * 1000
GOOD = Download("a.pth", hashlib.sha256(CONTENT).hexdigest()[:8], "https://example.invalid/a.pth")


class Response(BytesIO):
    headers: dict[str, str] = {}  # noqa: RUF012


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> Response:
        asked.append(url)
        return Response(CONTENT)

    monkeypatch.setattr(manifest, "_opener", lambda: SimpleNamespace(open=urlopen))
    return asked


def test_download_once(tmp_path: Path, online: list[str]) -> None:
    path = fetch(GOOD, tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert fetch(GOOD, tmp_path / "cache") == path
    assert online == [GOOD.url]


def test_a_damaged_download_is_made_anew(tmp_path: Path, online: list[str]) -> None:
    path = fetch(GOOD, tmp_path)
    path.write_bytes(CONTENT[:-1])
    assert fetch(GOOD, tmp_path).read_bytes() == CONTENT
    assert len(online) == 2


def test_only_https(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is not https"):
        fetch(Download("a.pth", GOOD.sha256, "http://example.invalid/a.pth"), tmp_path)
    request = urllib.request.Request(GOOD.url)
    for address in ("http://example.invalid/a.pth", "file:///etc/passwd", "ftp://example.invalid/a.pth"):
        with pytest.raises(urllib.error.URLError, match="not https"):
            HttpsRedirects().redirect_request(request, None, 302, "Found", {}, address)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_digest_leaves_nothing(tmp_path: Path, online: list[str]) -> None:
    with pytest.raises(WeightsError, match="expected 00000000"):
        fetch(Download("a.pth", "00000000", GOOD.url), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_large_a_file(tmp_path: Path, online: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_BYTES", 100)
    with pytest.raises(WeightsError, match="larger than 100"):
        fetch(GOOD, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_offline_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(manifest, "_opener", lambda: SimpleNamespace(open=urlopen))
    with pytest.raises(WeightsError) as caught:
        fetch(IMAGENET["resnet50"], tmp_path)
    for text in ("no route", "https://download.pytorch.org/models/resnet50-0676ba61.pth", str(tmp_path)):
        assert text in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_known_files_carry_their_digest() -> None:
    assert all(len(entry.sha256) in (8, 64) for entry in IMAGENET.values())
    assert IMAGENET["vgg16"].sha256 == "88682ab5"
