"""Resize and normalisation as ONNX nodes, against `preprocess_image` and with that OpenCV, TF and torchvision."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest

from singleshot.core.settings import PreprocessConfig
from singleshot.export.graph_pictures import LARGE, fits, picture_nodes, placed_nodes
from singleshot.export.onnx_nodes import Nodes, make_model
from singleshot.images.preprocess import preprocess_image

TO = (48, 64)
SIZES = [(48, 64), (96, 128), (1, 1), (1, 90), (31, 200), (300, 7), (480, 640), (49, 63), (128, 192), (128, 193)]
RESIZES = ("linear", "linear_float", "linear_legacy")
NUMBERS: dict[str, Any] = {"scale": 1 / 127.5, "mean": (1.0, 0.9, 0.8), "std": (1.0, 0.5, 2.0)}


@cache
def session(layout: str, dynamic: bool, **settings: Any) -> onnxruntime.InferenceSession:
    graph = Nodes("test")
    config = PreprocessConfig(size_hw=TO, **settings)
    images = picture_nodes(graph, "pictures", config, layout, dynamic)
    shape = ("b", "h", "w", 3) if layout == "nhwc" else ("b", 3, "h", "w")
    ends = [("pictures", np.uint8, shape)], [(images, np.float32, ("b", 3, *TO))]
    return onnxruntime.InferenceSession(make_model(graph.nodes, graph.constants, *ends).SerializeToString())


def run(pictures: np.ndarray, layout: str = "nhwc", dynamic: bool = True, **settings: Any) -> np.ndarray:
    batch = pictures if layout == "nhwc" else np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    return session(layout, dynamic, **settings).run(None, {"pictures": batch})[0]


def noise(size_hw: tuple[int, int], count: int = 2) -> np.ndarray:
    return np.random.default_rng(sum(size_hw)).integers(0, 256, (count, *size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("resize", RESIZES)
def test_any_size(resize: Any, size_hw: tuple[int, int], layout: str) -> None:
    pictures = noise(size_hw)
    plain = PreprocessConfig(size_hw=TO, resize=resize, mean=(0, 0, 0))
    expected = np.stack([preprocess_image(picture, plain) for picture in pictures])
    found = run(pictures, layout, **plain.model_dump(exclude={"size_hw"}))
    if resize != "linear":
        is_large = size_hw[0] * size_hw[1] > LARGE * TO[0] * TO[1]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 if is_large else 0.02)
        return
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("dynamic", [True, False])
def test_numbers(order: Any, dynamic: bool) -> None:
    pictures = noise(TO)
    config = PreprocessConfig(size_hw=TO, channel_order=order, **NUMBERS)
    expected = np.stack([preprocess_image(picture, config) for picture in pictures])
    found = run(pictures, dynamic=dynamic, channel_order=order, **NUMBERS)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_no_picture() -> None:
    assert run(noise((9, 9), 0)).shape == (0, 3, *TO)


def test_what_is_not_known() -> None:
    assert not fits(PreprocessConfig(size_hw=TO, resize="linear_antialias"))
    assert all(fits(PreprocessConfig(size_hw=TO, resize=resize)) for resize in RESIZES)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_boxes_are_placed_in_the_picture(layout: Any) -> None:
    graph = Nodes("test")
    placed = placed_nodes(graph, "boxes", "pictures", layout, TO)
    shape = (1, 96, 32, 3) if layout == "nhwc" else (1, 3, 96, 32)
    inputs = [("boxes", np.float32, (1, 1, 4)), ("pictures", np.uint8, shape)]
    model = make_model(graph.nodes, graph.constants, inputs, [(placed, np.float32, (1, 1, 4))])
    feeds = {"boxes": np.float32([[[0, 12, 64, 48]]]), "pictures": np.zeros(shape, np.uint8)}
    (boxes,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    np.testing.assert_array_equal(boxes, [[[0, 24, 32, 96]]])


@pytest.mark.parametrize("resize", ["linear", "linear_float"])
def test_openvino_gives_the_same_pictures(resize: Any) -> None:
    """It multiplies by reciprocals: where a quotient is a bit off, so are whole columns."""
    pytest.importorskip("openvino")
    from singleshot.export.openvino_core import openvino_core

    graph = Nodes("test")
    images = picture_nodes(graph, "pictures", PreprocessConfig(size_hw=TO, resize=resize, mean=(0, 0, 0)), "nhwc", True)
    ends = [("pictures", np.uint8, ("b", "h", "w", 3))], [(images, np.float32, ("b", 3, *TO))]
    model = openvino_core().read_model(make_model(graph.nodes, graph.constants, *ends).SerializeToString())
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size_hw in [(31, 200), (426, 500)]:
        pictures = noise(size_hw, 1)
        found = compiled([pictures])[0]
        np.testing.assert_allclose(found, run(pictures, resize=resize, mean=(0, 0, 0)), rtol=0, atol=5e-3)
