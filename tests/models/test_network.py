"""The framework: parts put together, shapes at any size, export and compilation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from singleshot.core.settings import PreprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.errors import ConfigError
from singleshot.models.backbone import (
    Backbone,
    Layer,
    LayeredBackbone,
    build_backbone,
)
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import BackboneConfig, ExtraBlock, HeadConfig, L2NormConfig, NetworkConfig
from singleshot.models.heads.multibox import MultiBoxHead, build_head, set_class_prior
from singleshot.models.neck import NoNeck, build_neck
from singleshot.models.network import Network, call_on_meta
from singleshot.models.registry import BACKBONES

FIRST_FOUR = ("ssd300_vgg16", "ssd512_vgg16", "ssdlite300_mobilenet_v2", "ssdlite320_mobilenet_v3_large")
LIGHT = ("ssdlite300_mobilenet_v2", "ssdlite320_mobilenet_v3_large")


class TwoMaps(Backbone):
    """A backbone small enough to reckon by hand."""

    channels = (2, 3)
    strides = (2, 4)

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, 2, 2, 2)
        self.coarse = nn.Conv2d(2, 3, 2, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.fine(x)
        return [fine, self.coarse(fine)]


def tiny(**head: object) -> Network:
    config = HeadConfig(**{"logits": 3, "boxes_per_cell": (2, 1), **head})
    objectness = build_head(config, (2, 3), logits=2) if config.objectness else None
    norms = [nn.Identity(), nn.Identity()]
    return Network(TwoMaps(), [], norms, NoNeck((2, 3)), build_head(config, (2, 3)), objectness)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_one_row_per_anchor(batch: int) -> None:
    output = tiny()(torch.rand(batch, 1, 8, 12))
    assert isinstance(output, HeadOutput)
    assert output.box_codes.shape == (batch, 2 * 24 + 6, 4)
    assert output.class_logits.shape == (batch, 2 * 24 + 6, 3)


def test_objectness_head_reads_the_sources() -> None:
    output = tiny(objectness=True)(torch.rand(1, 1, 8, 8))
    assert isinstance(output, RefineOutput)
    assert output.arm_logits.shape == (1, 36, 2)
    assert output.arm_box_codes.shape == output.box_codes.shape


@pytest.mark.parametrize("layout", ["cell", "shape"])
def test_order_of_the_rows(layout: str) -> None:
    """Channel values 100 * channel + cell show where every number of the head's output comes from."""
    head = MultiBoxHead([nn.Identity()], [nn.Identity()], columns=4, layout=layout)
    cells = torch.arange(6.0).reshape(2, 3)
    channels = 100 * torch.arange(8.0)[:, None, None] + cells
    rows = head([channels[None]]).box_codes[0]
    for row in range(2):
        for column in range(3):
            for box in range(2):
                cell = row * 3 + column
                index = cell * 2 + box if layout == "cell" else box * 6 + cell
                assert rows[index].tolist() == [100.0 * (box * 4 + code) + cell for code in range(4)]


def test_heads_of_channels_last_maps_are_views() -> None:
    head = MultiBoxHead([nn.Identity()], [nn.Identity()], columns=4)
    x = torch.rand(1, 8, 4, 5).contiguous(memory_format=torch.channels_last)
    rows = head._rows(x, 4)
    assert rows.data_ptr() == x.data_ptr()


def test_map_sizes_leave_the_network_as_it_was() -> None:
    network = build_network(model_spec(LIGHT[0], ("a",)).network).train()
    network.backbone.stem.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert network.map_sizes_hw((300, 480)) == ((19, 30), (10, 15), (5, 8), (3, 4), (2, 2), (1, 1))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
    assert not network.backbone.stem.training


def test_too_small_an_image() -> None:
    network = build_network(model_spec("ssd300_vgg16", ("a",)).network)
    with pytest.raises(ConfigError, match="input size 20x30"):
        network.map_sizes_hw((20, 30))


@pytest.mark.parametrize("name", FIRST_FOUR)
@pytest.mark.parametrize("size_hw", [None, (300, 480)])
def test_heads_and_anchors_agree_at_any_size(name: str, size_hw: tuple[int, int] | None) -> None:
    spec = model_spec(name, ("a", "b"), size_hw)
    network = build_network(spec.network).eval()
    output = call_on_meta(network, torch.empty((1, 3, *spec.preprocess.size_hw), device="meta"))
    assert output.box_codes.shape == (1, len(build_anchors(spec, network)), 4)
    assert output.class_logits.shape == (*output.box_codes.shape[:2], 3)


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_any_number_of_input_channels(name: str, in_channels: int) -> None:
    config = model_spec(name, ("a",)).network
    config = config.model_copy(update={"backbone": config.backbone.model_copy(update={"in_channels": in_channels})})
    network = build_network(config).eval()
    assert network.backbone.in_channels == in_channels
    with torch.no_grad():
        assert network(torch.rand(1, in_channels, 64, 96)).box_codes.isfinite().all()


@pytest.mark.parametrize("name", ["ssd300_vgg16", *LIGHT])
def test_export_gives_the_same_numbers(name: str) -> None:
    torch.manual_seed(0)
    spec = model_spec(name, ("a",), (300, 300))
    network = build_network(spec.network).eval()
    images = torch.randn(1, 3, 300, 300)
    program = torch.export.export(network, (images,))
    with torch.no_grad():
        expected, got = network(images), program.module()(images)
    for ours, theirs in zip(expected, got, strict=True):
        torch.testing.assert_close(theirs, ours)


# Blocks and heads of the first are the second's, with fewer parts.
@pytest.mark.parametrize("name", [pytest.param(LIGHT[0], marks=pytest.mark.heavy), LIGHT[1]])
def test_compiles_without_a_graph_break(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(model_spec(name, ("a",)).network).eval()
    images = torch.randn(2, 3, 96, 128)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        for ours, theirs in zip(network(images), compiled(images), strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.heavy
def test_compiles_forward_and_backward() -> None:
    torch.manual_seed(0)
    network = tiny(kind="separable", layout="shape")
    images = torch.randn(2, 1, 8, 12)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    gradients = []
    for function in (network, compiled):
        network.zero_grad()
        function(images).class_logits.square().sum().backward()
        gradients.append(network.backbone.fine.weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_channels_last_gives_the_same_numbers() -> None:
    torch.manual_seed(0)
    network = build_network(model_spec(LIGHT[0], ("a",)).network).eval()
    images = torch.randn(2, 3, 96, 128)
    with torch.no_grad():
        expected = network(images)
        network = network.to(memory_format=torch.channels_last)
        got = network(images.contiguous(memory_format=torch.channels_last))
    for ours, theirs in zip(expected, got, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ssd300_vgg16", *LIGHT])
def test_fresh_networks_neither_vanish_nor_explode(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(model_spec(name, ("a",)).network).train()
    with torch.no_grad():
        output = network(torch.randn(2, 3, 300, 300))
    for tensor in output:
        assert tensor.isfinite().all()
        assert 1e-3 < tensor.std() < 30


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = build_network(model_spec(LIGHT[1], ("a",)).network).train()
    output = network(torch.randn(2, 3, 96, 96))
    (output.box_codes.square().sum() + output.class_logits.square().sum()).backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


def test_class_prior_starts_with_background() -> None:
    network = tiny()
    set_class_prior(network.head, probability=0.01)
    with torch.no_grad():
        logits = network(torch.zeros(1, 1, 8, 8)).class_logits
        for predictor in network.head.logits:
            predictor.weight.zero_()
        logits = network(torch.rand(1, 1, 8, 8)).class_logits
    assert torch.allclose(logits[..., 1:].sigmoid(), torch.tensor(0.01))
    assert (logits[..., 0] == 0).all()


def test_norms_are_seen_by_heads_only() -> None:
    config = NetworkConfig(
        backbone=BackboneConfig(name="vgg16_reduced", taps=("relu1_2", "relu2_2")),
        extras=(ExtraBlock(mid_channels=8, out_channels=8),),
        l2_norms=(L2NormConfig(init=3.0), L2NormConfig(init=5.0)),
        head=HeadConfig(logits=2, boxes_per_cell=(1, 1, 1)),
    )
    network = build_network(config).eval()
    images = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        sources, raw = network.sources(images), network.backbone(images)
        for source, length in zip(sources, (3.0, 5.0), strict=False):
            norms = source.norm(dim=1)
            torch.testing.assert_close(norms[norms > 0], torch.full_like(norms[norms > 0], length))
        torch.testing.assert_close(sources[2], network.extras[0](raw[1]))


def test_an_in_place_layer_does_not_overwrite_a_tap() -> None:
    layers = [Layer("conv", nn.Conv2d(1, 1, 1), 1, 1), Layer("relu", nn.ReLU(), 1, 1)]
    backbone = LayeredBackbone(layers, ("conv", "relu"))
    nn.init.constant_(backbone.conv.weight, -1.0)
    nn.init.zeros_(backbone.conv.bias)
    raw, positive = backbone(torch.ones(1, 1, 1, 1))
    assert (raw.item(), positive.item()) == (-1.0, 0.0)


def test_layers_after_the_last_tap_are_not_kept() -> None:
    backbone = build_backbone(BackboneConfig(name="vgg16_reduced", taps=("relu2_2",)))
    assert list(dict(backbone.named_children()))[-1] == "relu2_2"
    assert (backbone.channels, backbone.strides) == ((128,), (2,))


def wrong_configs() -> list[tuple[NetworkConfig, str]]:
    head = HeadConfig(logits=2, boxes_per_cell=(4, 6))
    vgg = BackboneConfig(name="vgg16_reduced")
    return [
        (NetworkConfig(backbone=BackboneConfig(name="vgg16_reduce"), head=head), "did you mean vgg16_reduced"),
        (NetworkConfig(backbone=vgg.model_copy(update={"taps": ("relu4_4",)}), head=head), "no layer 'relu4_4'"),
        (NetworkConfig(backbone=vgg.model_copy(update={"taps": ("relu7", "relu4_3")}), head=head), "fine to coarse"),
        (NetworkConfig(backbone=vgg, head=HeadConfig(logits=2, boxes_per_cell=(4,))), "has 1 levels"),
        (NetworkConfig(backbone=vgg, head=head, l2_norms=(None, None, None)), "3 entries for 2 sources"),
    ]


@pytest.mark.parametrize(("config", "message"), wrong_configs())
def test_errors_name_the_setting(config: NetworkConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(config)


def test_a_neck_that_does_not_exist() -> None:
    from singleshot.models.config import NeckConfig

    with pytest.raises(ConfigError, match=r"network\.neck\.kind: no neck 'dsd'; did you mean dssd"):
        build_neck(NeckConfig(kind="dsd"), (1,), 1e-5)


def test_a_name_registers_once() -> None:
    assert "vgg16_reduced" in BACKBONES.names()
    with pytest.raises(ValueError, match="twice"):
        BACKBONES.register("vgg16_reduced")(lambda config: TwoMaps())


def test_anchors_of_another_size_use_the_real_maps() -> None:
    spec = model_spec("ssd300_vgg16", ("a",))
    network = build_network(spec.network)
    anchors = build_anchors(spec, network, (300, 480))
    assert anchors.shape == (13768, 4)
    assert anchors[0].tolist() == pytest.approx([480 / 60 / 2, 300 / 38 / 2, 480 * 0.1, 300 * 0.1])
    assert isinstance(spec.preprocess, PreprocessConfig)
