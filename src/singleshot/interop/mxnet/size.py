"""Input size of an MXNet detector: parameters fit any, so it comes from the symbol, else from the file's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from singleshot.core.settings import SizeHW

EPOCH = re.compile(r"-\d{4,}$")
LIKELY_SIDES = range(64, 1601)
"""What a number in a name may mean; years are larger."""

# Their names end in _<network>_<size>, and networks have numbers of their own.
_NETWORK = re.compile(
    r"(?:(?:vgg|resnet|resnext|densenet)[-_]?(?:1[13689]|34|50|101|121|152|161|169|20[01])|inception[-_]?(?:bn|v\d)|"
    r"mobilenet[-_]?v\d)(?!\d)",
    re.IGNORECASE,
)
_ALONE = re.compile(r"(?<![0-9A-Za-z])([1-9]\d{1,3})(?:x([1-9]\d{1,3}))?(?![0-9A-Za-z])")
_ATTACHED = re.compile(r"(?<!\d)([1-9]\d{2,3})(?:x([1-9]\d{2,3}))?(?!\d)")


class InputSize(NamedTuple):
    """An input size and where it comes from.

    Attributes:
        size_hw: height and width.
        note: one sentence for the report.
    """

    size_hw: SizeHW
    note: str


def input_size(
    prefix: str,
    default: SizeHW,
    given: SizeHW | None = None,
    shape: SizeHW | None = None,
    steps: Sequence[float] = (),
    stride: int = 8,
) -> InputSize:
    """The input size by the best evidence there is.

    Args:
        prefix: the file's name without epoch and ending.
        default: taken where nothing tells.
        given: by the user.
        shape: of the input, where the symbol says it.
        steps: spacings of the default boxes as fractions of the image; negative or none where they follow the maps.
        stride: pixels of the first spacing.
    """
    named = size_in_name(prefix)
    if given is not None:
        return InputSize(given, f"input {_text(given)}, as asked for")
    if shape is not None:
        return InputSize(shape, f"input {_text(shape)}: the shape of its symbol's data")
    if steps and min(steps) > 0:
        side = round(stride / steps[0])
        if named is not None and all(abs(one / side - 1) < 0.01 for one in named):
            side = named[0]  # steps are rounded in some files
        doubt = f"; the file's name says {_text(named)}" if named not in (None, (side, side)) else ""
        return InputSize((side, side), f"input {side} x {side} by the steps of its default boxes{doubt}")
    if named is not None:
        return InputSize(named, f"input {_text(named)} by the file's name: another by `size`")
    note = f"input {_text(default)}, its preset's: nothing tells it; set `size` if it was another"
    return InputSize(default, note)


def size_in_name(prefix: str) -> SizeHW | None:
    """The last number of a name that may be an input size, or ``480x640``; numbers that stand alone come first."""
    rest = _NETWORK.sub("", prefix)
    for pattern in (_ALONE, _ATTACHED):
        for height, width in reversed(pattern.findall(rest)):
            size_hw = int(height), int(width or height)
            if all(side in LIKELY_SIDES for side in size_hw):
                return size_hw
    return None


def _text(size_hw: SizeHW | None) -> str:
    return "none" if size_hw is None else f"{size_hw[0]} x {size_hw[1]}"
