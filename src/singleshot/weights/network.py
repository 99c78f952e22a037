"""A network from what a weights file says of it and its numbers, compared before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from singleshot.errors import ConfigError, WeightsError
from singleshot.models.build import assemble_network
from singleshot.models.config import ModelSpec, NetworkConfig
from singleshot.models.network import Network
from singleshot.weights.file import COUNTER, check_state, load_state


def load_network(spec: ModelSpec, state: Mapping[str, Tensor], origin: str | Path = "the weights") -> Network:
    """The network of a spec with these numbers, in eval mode.

    Args:
        spec: how it is built; nothing of the size that it claims is allocated unless the numbers have that size.
        state: numbers by parameter name.
        origin: the file, for messages.

    Raises:
        WeightsError: the network cannot be built, or names or shapes differ.
    """
    network = _unfilled(spec, state, origin)
    load_state(network, dict(state), origin)
    return network.eval()


def check_network(spec: ModelSpec, state: Mapping[str, Tensor], origin: str | Path = "the weights") -> None:
    """Compare numbers with the network that a spec describes, without memory for it.

    Raises:
        WeightsError: the network cannot be built, or names or shapes differ.
    """
    _on_meta(spec, state, origin)


@lru_cache(maxsize=32)
def parameter_shapes(config: NetworkConfig) -> Mapping[str, tuple[int, ...]]:
    """Shape of every parameter and statistic of a network, by name; nothing is allocated.

    Raises:
        ConfigError: the network cannot be built.
    """
    with torch.device("meta"):
        state = assemble_network(config).state_dict()
    return MappingProxyType({name: tuple(value.shape) for name, value in state.items()})


def _unfilled(spec: ModelSpec, state: Mapping[str, Tensor], origin: str | Path) -> Network:
    """The network with memory for its numbers; drawing first ones that are replaced at once would take longer."""
    network = _on_meta(spec, state, origin)
    if network is None or not {name for name, _ in network.named_buffers()} <= network.state_dict().keys():
        return assemble_network(spec.network)  # tables that no file holds, as some models of timm have
    network = network.to_empty(device="cpu")
    for name, buffer in network.named_buffers():
        if name.endswith(COUNTER):
            buffer.zero_()
    return network


def _on_meta(spec: ModelSpec, state: Mapping[str, Tensor], origin: str | Path) -> Network | None:
    """The network without memory, compared with its numbers; ``None`` for models of timm that need memory."""
    try:
        with torch.device("meta"):
            network = assemble_network(spec.network)
    except (ConfigError, ValueError, TypeError, RuntimeError, ArithmeticError, LookupError) as error:
        if spec.network.backbone.name.startswith("timm:") and not isinstance(error, ConfigError):
            return None  # some of them compute with numbers when they are made
        raise WeightsError(f"{origin}: the network that it describes cannot be built: {error}") from error
    check_state(network, state, origin)
    return network
