"""VGG16-reduced as most PyTorch projects number its layers: one ``nn.ModuleList`` with ReLUs and pools in it."""

from __future__ import annotations

VGG_INDICES = {
    "conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12, "conv3_3": 14,
    "conv4_1": 17, "conv4_2": 19, "conv4_3": 21, "conv5_1": 24, "conv5_2": 26, "conv5_3": 28, "fc6": 31, "fc7": 33,
}  # fmt: skip
"""Place of each of our layers in that list."""


def vgg_prefixes(theirs: str) -> dict[str, str]:
    """Our layer names to theirs, for a list called ``theirs`` (with its dot)."""
    return {f"backbone.{layer}": f"{theirs}{index}" for layer, index in VGG_INDICES.items()}


def head_prefixes(levels: int, boxes: str, logits: str) -> dict[str, str]:
    """The two predictors of each level, for lists of these names (with their dots)."""
    return {
        f"head.{kind}.{level}": f"{theirs}{level}"
        for kind, theirs in (("boxes", boxes), ("logits", logits))
        for level in range(levels)
    }


def flat_extras(blocks: int, theirs: str) -> dict[str, str]:
    """Extra blocks of two convolutions that are entries 2k and 2k + 1 of one list."""
    return {
        f"extras.{block}.{part}.conv": f"{theirs}{2 * block + index}"
        for block in range(blocks)
        for index, part in enumerate(("reduce", "conv"))
    }


def paired_extras(blocks: int, theirs: str, first: int = 0) -> dict[str, str]:
    """Extra blocks that are sequences of convolution, ReLU, convolution, ReLU."""
    return {
        f"extras.{block}.{part}.conv": f"{theirs}{first + block}.{index}"
        for block in range(blocks)
        for index, part in ((0, "reduce"), (2, "conv"))
    }
