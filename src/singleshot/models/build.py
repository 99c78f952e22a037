"""From settings to a network and its anchors: the only place that reads a ``NetworkConfig``."""

from __future__ import annotations

from torch import Tensor, nn

from singleshot.errors import ConfigError
from singleshot.models.backbone import Backbone, build_backbone
from singleshot.models.config import ModelSpec, NetworkConfig
from singleshot.models.extras import build_extra
from singleshot.models.heads.multibox import build_head
from singleshot.models.layers import build_norms
from singleshot.models.neck import build_neck
from singleshot.models.network import Network


def build_network(config: NetworkConfig) -> Network:
    """Build a network with random weights (see ``initialize``).

    Raises:
        ConfigError: an unknown backbone, tap or neck, or lists whose lengths do not fit.
    """
    network = assemble_network(config)
    initialize(network)
    return network


def assemble_network(config: NetworkConfig) -> Network:
    """Put the parts together; weights are whatever PyTorch's layers begin with.

    Raises:
        ConfigError: an unknown backbone, tap or neck, or lists whose lengths do not fit.
    """
    eps = config.batch_norm_eps
    backbone = build_backbone(config.backbone)
    channels = list(backbone.channels)
    extras = []
    for block in config.extras:
        extras.append(build_extra(block, channels[-1], eps))
        channels.append(block.out_channels)
    _check_levels(config, len(channels))
    norms = build_norms(config.l2_norms, channels)
    neck = build_neck(config.neck, tuple(channels), eps)
    head = build_head(config.head, neck.channels, eps)
    objectness = build_head(config.head, tuple(channels), eps, logits=2) if config.head.objectness else None
    return Network(backbone, extras, norms, neck, head, objectness)


def build_anchors(spec: ModelSpec, network: Network, image_size_hw: tuple[int, int] | None = None) -> Tensor:
    """Default boxes of a detector for one input size.

    Args:
        spec: its anchors and preprocessing.
        network: tells the map sizes.
        image_size_hw: input size; ``None`` takes ``spec.preprocess.size_hw``.

    Returns:
        cxcywh in pixels of the network input, ``[A, 4]`` float32 on the CPU.
    """
    from singleshot.multibox.anchors import default_boxes

    size_hw = image_size_hw or spec.preprocess.size_hw
    return default_boxes(spec.anchors, network.map_sizes_hw(size_hw), size_hw)


def initialize(network: Network) -> None:
    """Random first weights: Kaiming normal in the backbone, Xavier elsewhere, zero biases (SSD section 3)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.backbone.modules():
        if isinstance(module, nn.Conv2d):
            _kaiming_normal(module, network.backbone)


def _kaiming_normal(module: nn.Conv2d, backbone: Backbone) -> None:
    """He normal by fan-out, as torchvision; networks without BatchNorm keep the variance of the signal by fan-in."""
    has_norm = any(isinstance(part, nn.BatchNorm2d) for part in backbone.modules())
    nn.init.kaiming_normal_(module.weight, mode="fan_out" if has_norm else "fan_in", nonlinearity="relu")


def _check_levels(config: NetworkConfig, levels: int) -> None:
    """Raise ConfigError where a per-level list does not fit the number of sources."""
    if len(config.head.boxes_per_cell) != levels:
        raise ConfigError(
            f"network.head.boxes_per_cell has {len(config.head.boxes_per_cell)} levels but the backbone's taps and "
            f"network.extras give {levels} sources"
        )
    if config.head.kernels and len(config.head.kernels) != levels:
        raise ConfigError(f"network.head.kernels has {len(config.head.kernels)} entries for {levels} sources")
    if len(config.l2_norms) > levels:
        raise ConfigError(f"network.l2_norms has {len(config.l2_norms)} entries for {levels} sources")
