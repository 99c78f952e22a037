"""The network: backbone, extra blocks, normalisation, neck, head. Tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.errors import ConfigError
from singleshot.models.backbone import Backbone
from singleshot.models.heads.multibox import MultiBoxHead
from singleshot.models.neck import Neck


class Network(nn.Module):
    """A single-shot detector's network from finished parts.

    Args:
        backbone: gives the first sources.
        extras: each is appended to the last source and gives the next one.
        norms: one module per source, ``nn.Identity`` where a source is used as it is. Only the neck and the heads see
            normalised maps: extras and deeper backbone layers read the raw ones.
        neck: turns sources into the maps that the head reads.
        head: predicts box codes and class logits.
        objectness_head: RefineDet's first stage, on the sources before the neck.
    """

    def __init__(
        self,
        backbone: Backbone,
        extras: Sequence[nn.Module],
        norms: Sequence[nn.Module],
        neck: Neck,
        head: MultiBoxHead,
        objectness_head: MultiBoxHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.extras = nn.ModuleList(extras)
        self.norms = nn.ModuleList(norms)
        self.neck = neck
        self.head = head
        self.objectness_head = objectness_head
        self._map_sizes_hw: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}

    def sources(self, images: Tensor) -> list[Tensor]:
        """Preprocessed images ``[B, C, H, W]`` to the (normalised) sources ``[B, C_i, h_i, w_i]``, finest first."""
        maps = self.backbone(images)
        for block in self.extras:
            maps.append(block(maps[-1]))
        return [norm(x) for norm, x in zip(self.norms, maps, strict=True)]

    def forward(self, images: Tensor) -> HeadOutput | RefineOutput:
        """Preprocessed images ``[B, C, H, W]`` to one row of box codes and logits per anchor."""
        sources = self.sources(images)
        output: HeadOutput = self.head(self.neck(sources))
        if self.objectness_head is None:
            return output
        return RefineOutput(*output, *self.objectness_head(sources))

    def map_sizes_hw(self, image_size_hw: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """Sizes (h, w) of the maps that the head reads, for any input size; found without computing a pixel (cached).

        Raises:
            ConfigError: the image is too small for the network.
        """
        size_hw = (int(image_size_hw[0]), int(image_size_hw[1]))
        if size_hw not in self._map_sizes_hw:
            self._map_sizes_hw[size_hw] = tuple((x.shape[2], x.shape[3]) for x in trace_maps(self, size_hw))
        return self._map_sizes_hw[size_hw]


def trace_maps(network: Network, image_size_hw: tuple[int, int]) -> list[Tensor]:
    """The maps that the heads read, of no image: ``[0, C_i, h_i, w_i]``.

    Zero images cost nothing and take every layer's own shape rule. (Tensors on the ``meta`` device would too, but their
    first use imports a compiler, which takes a second.)

    Raises:
        ConfigError: the image is too small for the network.
    """
    images = next(network.parameters()).new_empty((0, network.backbone.in_channels, *image_size_hw))
    modes = [(module, module.training) for module in network.modules()]
    network.eval()  # else BatchNorm would average nothing into its running statistics
    try:
        with torch.no_grad():
            maps: list[Tensor] = network.neck(network.sources(images))
    except RuntimeError as error:
        raise ConfigError(f"input size {image_size_hw[0]}x{image_size_hw[1]} (h x w) is too small: {error}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    return maps


def call_on_meta(module: nn.Module, images: Tensor) -> Any:
    """Call a module on a ``meta`` tensor without touching its weights or statistics: shapes and FLOPs for free."""
    tensors = chain(module.named_parameters(), module.named_buffers())
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    with torch.no_grad():
        return functional_call(module, state, (images,))
