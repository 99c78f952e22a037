"""A context in which ``conv2d`` is computed in another way where that fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Conv2dMode(TorchFunctionMode):
    """Within this context ``conv2d`` is what ``convolve`` gives, and torch's where that gives nothing."""

    def convolve(
        self, images: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
    ) -> Tensor | None:
        """The convolution of ``[B, C, H, W]``, or ``None`` to leave it to torch."""
        raise NotImplementedError

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7:
            result = self.convolve(*args)
            if result is not None:
                return result
        return func(*args, **(kwargs or {}))
