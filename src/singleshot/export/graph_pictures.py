"""Resize and normalisation as ONNX nodes: the rules of `images.preprocess`, for pictures of any size.

``Resize`` computes the dialects that do not round, but converts whole pictures before. The others, and large pictures,
take the rows and columns that are needed. Columns are gathered from a picture that lies on its side: runtimes copy long
rows quickly and single pixels slowly.
"""

from __future__ import annotations

import numpy as np

from singleshot.core.settings import PreprocessConfig
from singleshot.export.info import Layout
from singleshot.export.onnx_nodes import Nodes

LARGE = 8
"""A picture of more than so many times the input's pixels is not converted whole."""
OPENCV_BITS = 11
"""Of OpenCV's weights; four bits are dropped after the columns, sixteen and two after the rows."""


def fits(config: PreprocessConfig) -> bool:
    """Whether `resized_nodes` knows the resize."""
    return config.resize in ("linear", "linear_float", "linear_legacy")


def picture_nodes(
    graph: Nodes, pictures: str, config: PreprocessConfig, layout: Layout, resize: bool, branches: bool = True
) -> str:
    """From uint8 pictures to the network's input; equal to ``preprocess_image`` to float rounding.

    Args:
        graph: where the nodes go.
        pictures: ``[B, H, W, 3]`` or, with ``layout`` nchw, ``[B, 3, H, W]`` uint8 RGB, all of one size.
        config: the weights' numbers.
        layout: of the pictures.
        resize: whether they are of any size; else of the network's, and what would be resized is not.
        branches: whether ``If`` is to be trusted; without it, large pictures are converted whole, too.

    Returns:
        ``[B, 3, height, width]`` float32.
    """
    if resize:
        planes = resized_nodes(graph, pictures, config, layout, branches)
    else:
        planes = graph.cast(
            graph.op("Transpose", pictures, perm=[0, 3, 1, 2]) if layout == "nhwc" else pictures, np.float32
        )
    return _normalised(graph, planes, config)


def resized_nodes(graph: Nodes, pictures: str, config: PreprocessConfig, layout: Layout, branches: bool) -> str:
    """The resize alone: ``[B, 3, height, width]`` float32 on 0..255, channels as in the picture."""
    if config.resize == "linear":
        return _gathered(graph, pictures, config, layout)
    if not branches:
        return _whole(graph, pictures, config, layout)
    pixels = graph.op("ReduceProd", _sides(graph, pictures, layout), keepdims=0)
    is_large = graph.op("Greater", pixels, np.int64(LARGE * config.size_hw[0] * config.size_hw[1]))
    large, small = Nodes(f"{graph.prefix}/large"), Nodes(f"{graph.prefix}/small")
    ways = ((large, _gathered(large, pictures, config, layout)), (small, _whole(small, pictures, config, layout)))
    return graph.either(is_large, *ways, np.float32, ["batch", 3, *config.size_hw])


def _sides(graph: Nodes, pictures: str, layout: Layout) -> str:
    """Height and width."""
    return graph.columns(graph.op("Shape", pictures), [1, 2] if layout == "nhwc" else [2, 3], 0)


def _whole(graph: Nodes, pictures: str, config: PreprocessConfig, layout: Layout) -> str:
    """By ``Resize``. Its positions are rounded elsewhere: a byte's value differs by a fiftieth at most."""
    planes = graph.op("Transpose", pictures, perm=[0, 3, 1, 2]) if layout == "nhwc" else pictures
    batch = graph.columns(graph.op("Shape", pictures), [0], 0)
    sizes = graph.op("Concat", batch, [3, *config.size_hw], axis=0)
    mode = "half_pixel" if config.resize == "linear_float" else "asymmetric"
    planes = graph.cast(planes, np.float32)
    return graph.op("Resize", planes, "", "", sizes, mode="linear", coordinate_transformation_mode=mode)


def _gathered(graph: Nodes, pictures: str, config: PreprocessConfig, layout: Layout) -> str:
    """By rows and columns."""
    rows_axis = 1 if layout == "nhwc" else 2
    height, width = config.size_hw
    sides = _sides(graph, pictures, layout)
    rows_in, columns_in = (graph.columns(sides, [axis], 0) for axis in (0, 1))
    top, bottom, down = axis_nodes(graph, rows_in, height, config.resize)
    left, right, across = axis_nodes(graph, columns_in, width, config.resize)
    rows = graph.op("Gather", pictures, graph.op("Concat", top, bottom, axis=0), axis=rows_axis)
    lying = graph.op("Transpose", rows, perm=[0, 2, 3, 1] if layout == "nhwc" else [0, 3, 1, 2])  # [B, W, 3, 2 height]
    low, high = (graph.cast(graph.op("Gather", lying, places, axis=1), np.float32) for places in (left, right))
    across = graph.op("Reshape", across, [-1, 1, 1])
    is_integer = config.resize == "linear"
    mixed = _opencv_columns(graph, low, high, across) if is_integer else _between(graph, low, high, across)
    low, high = (graph.op("Slice", mixed, [start], [start + height], [3]) for start in (0, height))
    done = _opencv_rows(graph, low, high, down) if is_integer else _between(graph, low, high, down)
    return graph.op("Transpose", done, perm=[0, 2, 3, 1])


def placed_nodes(graph: Nodes, boxes: str, pictures: str, layout: Layout, size_hw: tuple[int, int]) -> str:
    """Boxes ``[B, D, 4]`` from pixels of the network input to pixels of the pictures."""
    rows = 1 if layout == "nhwc" else 2
    sides = graph.cast(graph.op("Gather", graph.op("Shape", pictures), [rows + 1, rows] * 2), np.float32)
    shares = graph.op("Div", boxes, np.array(size_hw[::-1] * 2, np.float32))
    return graph.op("Mul", shares, sides)


def axis_nodes(graph: Nodes, size_in: str, size_out: int, resize: str) -> tuple[str, str, str]:
    """Low place, high place and share of the high one along one axis, each ``[size_out]``; in float32.

    OpenCV computes positions in float64 and rounds them to float32, which is the rounded quotient of whole numbers.
    """
    size = graph.cast(size_in, np.float32)
    positions = np.arange(size_out, dtype=np.float32)
    if resize == "linear":
        above = graph.op("Sub", graph.op("Mul", 2 * positions + 1, size), np.float32(size_out))
        exact = _quotient(graph, above, 2 * size_out)
    else:
        scale = _quotient(graph, size, size_out)
        if resize == "linear_float":
            exact = graph.op("Sub", graph.op("Mul", positions + np.float32(0.5), scale), np.float32(0.5))
            exact = graph.op("Max", exact, np.float32(0))
        else:
            exact = graph.op("Mul", positions, scale)
    low = graph.op("Floor", exact)
    last = graph.op("Sub", size, np.float32(1))
    if resize == "linear":  # places are moved into the picture, shares stay
        share = graph.op("Sub", exact, low)
        high = graph.op("Min", graph.op("Add", low, np.float32(1)), last)
        low = graph.op("Max", graph.op("Min", low, last), np.float32(0))
    else:
        low = graph.op("Min", low, last)
        share = graph.op("Sub", exact, low)
        high = graph.op("Min", graph.op("Add", low, np.float32(1)), last)
    return graph.cast(low, np.int64), graph.cast(high, np.int64), share


def _quotient(graph: Nodes, number: str, by: int) -> str:
    """Whole numbers below 2**24 by one of at most 2**11, rounded once.

    A runtime may multiply by the reciprocal (OpenVINO does), and its last bit decides the last bit of OpenCV's weights.
    So the quotient is found by digits: a whole part, 12 bits, and a rest; whatever one misses is in the next.
    """
    whole = graph.op("Floor", graph.op("Div", number, np.float32(by)))
    rest = graph.op("Mul", graph.op("Sub", number, graph.op("Mul", whole, np.float32(by))), np.float32(2**12))
    bits = graph.op("Floor", graph.op("Div", rest, np.float32(by)))
    rest = graph.op("Sub", rest, graph.op("Mul", bits, np.float32(by)))
    unit = np.float32(2.0**-12)
    known = graph.op("Add", whole, graph.op("Mul", bits, unit))
    return graph.op("Add", known, graph.op("Mul", graph.op("Div", rest, np.float32(by)), unit))


def _between(graph: Nodes, low: str, high: str, share: str) -> str:
    return graph.op("Add", graph.op("Mul", graph.op("Sub", high, low), share), low)


def _weights(graph: Nodes, share: str) -> tuple[str, str]:
    """Of low and high, in 11 bits."""
    one = np.float32(2**OPENCV_BITS)
    low, high = (
        graph.op("Round", graph.op("Mul", part, one)) for part in (graph.op("Sub", np.float32(1), share), share)
    )
    return low, high


def _opencv_columns(graph: Nodes, left: str, right: str, share: str) -> str:
    parts = [
        graph.op("Mul", part, graph.op("Mul", weight, np.float32(2.0**-4)))
        for part, weight in zip((left, right), _weights(graph, share), strict=True)
    ]
    return graph.op("Floor", graph.op("Add", *parts))


def _opencv_rows(graph: Nodes, top: str, bottom: str, share: str) -> str:
    parts = [_shifted(graph, *pair) for pair in zip((top, bottom), _weights(graph, share), strict=True)]
    return graph.op("Floor", graph.op("Mul", graph.op("Add", graph.op("Add", *parts), np.float32(2)), np.float32(0.25)))


def _shifted(graph: Nodes, value: str, weight: str) -> str:
    """``value * weight >> 16``, whose product of 26 bits does not fit float32: the value's two bytes go apart."""
    unit = np.float32(2.0**-8)
    high = graph.op("Floor", graph.op("Mul", value, unit))
    low = graph.op("Sub", value, graph.op("Mul", high, np.float32(2**8)))
    carried = graph.op("Floor", graph.op("Mul", graph.op("Mul", low, weight), unit))
    return graph.op("Floor", graph.op("Mul", graph.op("Add", graph.op("Mul", high, weight), carried), unit))


def _normalised(graph: Nodes, planes: str, config: PreprocessConfig) -> str:
    if config.channel_order == "bgr":
        planes = graph.op("Gather", planes, [2, 1, 0], axis=1)
    mean, std = (np.array(numbers, np.float32).reshape(3, 1, 1) for numbers in (config.mean, config.std))
    if config.scale != 1.0:
        planes = graph.op("Mul", planes, np.float32(config.scale))
    if mean.any():
        planes = graph.op("Sub", planes, mean)
    return graph.op("Div", planes, std) if (std != 1).any() else planes
