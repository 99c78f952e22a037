"""From pixels to what a network sees: ``(pixel * scale - mean) / std`` in float32, the rule of `PreprocessConfig`.

Pixels are RGB on 0..255. With ``channel_order`` ``bgr`` channels are reversed first: ``mean`` and ``std`` are in the
network's order. There are three forms, which ``tests/images/test_normalise.py`` runs on the same cases:

* NumPy and OpenCV (`images.preprocess`), for predictions; torch is not imported.
* C (``kernels/resize.c``), equal to that to the bit.
* torch (here), for training batches, on the run's device; as one multiply-add, so the last bits differ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from singleshot.core.settings import PreprocessConfig


class ImageNormalizer:
    """Batches to network input on a device.

    Args:
        config: the numbers.
        device: where the network is.
        channels_last: memory layout of the result.
    """

    def __init__(self, config: PreprocessConfig, device: torch.device, channels_last: bool = False) -> None:
        std = torch.tensor(config.std, device=device).view(-1, 1, 1)
        self.device = device
        self._factor = config.scale / std
        self._offset = -torch.tensor(config.mean, device=device).view(-1, 1, 1) / std
        self._reverse = config.channel_order == "bgr"
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` uint8 or float32 -> ``[B, 3, H, W]`` float32."""
        pixels = images.flip(1) if self._reverse else images
        normal = torch.addcmul(self._offset, pixels.float(), self._factor)
        return normal.contiguous(memory_format=self._layout)
