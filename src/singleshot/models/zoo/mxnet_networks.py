"""What mxnet-ssd's configurations call backbones, and which of ours they are. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from singleshot.errors import ConfigError

NETWORKS = {
    "inceptionv3": "inception_v3_mxnet",
    "inception-v3": "inception_v3_mxnet",
    "mobilenet": "mobilenet_v1_mxnet",
    "densenet-tiny": "densenet_tiny",
}
"""Names that we do not have. ``vgg16_reduced``, ``densenet`` and ``densenet121`` are ours, too."""

RESNET = "resnet"
THEIR_RESNET_LAYERS = ("_plus", "stage")
"""How MXNet's ResNets call their layers; torchvision's, also called ``resnet50``, have ``layer1`` to ``layer4``."""


def backbone_name(network: str, layers: Sequence[str], num_layers: int | None = None) -> str:
    """Our name of a network in a configuration; what is none of theirs stays as it is.

    Args:
        network: ``resnet50``, ``inceptionv3`` ...
        layers: that are tapped; they tell MXNet's ResNets from torchvision's.
        num_layers: of the network ``resnet``.

    Raises:
        ConfigError: ``resnet`` without ``num_layers``, or another network with them.
    """
    if (network == RESNET) != (num_layers is not None):
        raise ConfigError("network 'resnet' needs num_layers, such as 50, and no other network has them")
    if network == RESNET:
        return f"resnet{num_layers}_mxnet"
    is_resnet = network.removeprefix(RESNET).isdigit()
    if is_resnet and layers and layers[0].startswith(THEIR_RESNET_LAYERS):
        return f"{network}_mxnet"
    return NETWORKS.get(network, network)
