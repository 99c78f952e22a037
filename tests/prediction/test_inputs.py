"""What is taken for an image, and what is told instead."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from singleshot.core.settings import PostprocessConfig
from singleshot.core.sizes import parse_batch_size
from singleshot.errors import ConfigError, ImageError
from singleshot.prediction.inputs import as_iterable, as_source, as_sources, is_one
from singleshot.prediction.settings import check_whole, choose_postprocess
from singleshot.runtime.registry import Wish

Pillow = pytest.importorskip("PIL.Image")

RGB = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


def test_paths_and_arrays_stay() -> None:
    assert as_source("a.jpg") == as_source(Path("a.jpg")) == Path("a.jpg")
    assert as_source(RGB) is RGB
    assert list(as_sources([])) == []
    assert list(as_sources(path for path in ("a.jpg", Path("b.jpg")))) == [Path("a.jpg"), Path("b.jpg")]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.from_numpy(RGB),
        torch.from_numpy(RGB).permute(2, 0, 1),
        torch.from_numpy(RGB).permute(2, 0, 1) / 255,
        (torch.from_numpy(RGB).permute(2, 0, 1) / 255).double().requires_grad_(),
        (torch.from_numpy(RGB).permute(2, 0, 1) / 255).half(),
    ],
)
def test_tensors(tensor: torch.Tensor) -> None:
    found = as_source(tensor)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, RGB)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("RGB", RGB),
        ("RGBX", RGB),
        ("L", None),
        ("1", None),
        ("P", None),
        ("CMYK", RGB),
        ("RGBA", RGB),
    ],
)
def test_pillow_images(mode: str, expected: np.ndarray | None) -> None:
    image = Pillow.fromarray(RGB).convert(mode)
    found = as_source(image)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")) if expected is None else expected)


def test_transparency_becomes_white() -> None:
    rgba = np.zeros((2, 1, 4), dtype=np.uint8)
    rgba[1] = (10, 20, 30, 255)
    assert np.asarray(as_source(Pillow.fromarray(rgba))).tolist() == [[[255] * 3], [[10, 20, 30]]]
    la = Pillow.fromarray(rgba).convert("LA")
    assert np.asarray(as_source(la))[0].tolist() == [[255] * 3]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (None, r"None is no image: .*array.*imread"),
        (b"bytes", r"read_image\(data\) makes an RGB array"),
        (["a.jpg"], "a list inside a list: .*array"),
        (7, "array.*not int"),
        (io.BytesIO(b""), "an open file: .*array"),
        ("", "is no path"),
        ("a\0b", "is no path"),
        (torch.zeros(2, 3, 4, 5), r"pass several images as a list: list\(batch\)"),
        (torch.zeros(4, 5), "shape"),
        (torch.full((3, 4, 5), 2.0), r"values of 0\.\.1"),
        (torch.full((3, 4, 5), float("nan")), r"values of 0\.\.1"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), "torch.int64"),
        (Pillow.fromarray(np.zeros((4, 5), np.int32)), "mode I"),
        (Pillow.fromarray(np.zeros((4, 5), np.float32)), "mode F"),
    ],
)
def test_what_is_no_image_is_told_the_way(item: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        as_source(item)
    with pytest.raises(ImageError, match="image 2 of the list: "):
        list(as_sources(["a.jpg", item]))


def test_one_or_several() -> None:
    for item in ("a.jpg", Path("a.jpg"), RGB, torch.from_numpy(RGB), Pillow.fromarray(RGB)):
        assert is_one(item)
    for items in ([], (), iter([]), (path for path in "ab")):
        assert not is_one(items)
        assert as_iterable(items) is items
    for wrong in (b"a.jpg", {"a.jpg"}, {"a.jpg": 1}, None, 7):
        with pytest.raises(ImageError, match="pass a list"):
            as_iterable(wrong)


@pytest.mark.parametrize("wrong", [None, 2.5, "3", True, 0, -1, [1]])
def test_whole_numbers(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="`batch_size` must"):
        parse_batch_size(wrong)
    with pytest.raises(ConfigError, match="`max_detections` must"):
        check_whole(wrong, "max_detections")
    assert parse_batch_size(np.int64(3)) == 3  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"1\.\.1024"):
        parse_batch_size(2000)


def test_names_of_settings() -> None:
    assert Wish(device="cpu").device == "cpu"
    with pytest.raises(ConfigError, match="`device` must be a name such as 'cuda:0', not 0"):
        Wish(device=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "clip", "expected"),
    [
        ("none", True, "after"),
        ("none", False, "none"),
        ("none", None, "none"),
        ("after", True, "after"),
        ("after", False, "none"),
        ("after", None, "after"),
        ("before", True, "before"),
        ("before", False, "before"),
        ("before", None, "before"),
    ],
)
def test_clipping(model: Any, clip: bool | None, expected: str) -> None:
    assert choose_postprocess(PostprocessConfig(clip=model), 0.3, clip=clip).clip == expected


def test_the_models_settings_stay_where_nothing_is_asked() -> None:
    model = PostprocessConfig(nms_iou=0.6, max_detections=7, class_agnostic=True)
    assert choose_postprocess(model, model.score_threshold) == model
    asked = choose_postprocess(PostprocessConfig(), 0.5, 0.2, 3, agnostic=True)
    assert (asked.score_threshold, asked.nms_iou, asked.max_detections, asked.class_agnostic) == (0.5, 0.2, 3, True)
    assert choose_postprocess(PostprocessConfig(), 0.5, None, 3, some_classes=True).max_detections > 10_000


def test_bytes_of_a_path() -> None:
    class Entry(os.PathLike[bytes]):
        def __fspath__(self) -> bytes:
            return b"a.jpg"

    with pytest.raises(ImageError, match="fsdecode"):
        as_source(Entry())


def test_a_pillow_image_that_is_to_be_turned_is_told() -> None:
    image = Pillow.fromarray(RGB)
    exif = Pillow.Exif()
    exif[274] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif.tobytes())
    with pytest.warns(UserWarning, match=r"EXIF orientation 6.*exif_transpose"):
        assert np.array_equal(as_source(Pillow.open(buffer)), RGB)


@pytest.mark.parametrize("tensor", [torch.zeros(3, 4, 5, device="meta")])
def test_a_tensor_without_pixels(tensor: torch.Tensor) -> None:
    with pytest.raises(ImageError, match="holds no pixels"):
        as_source(tensor)


def test_an_open_file_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\n\n")
    with (tmp_path / "a.jpg").open("rb") as file, pytest.raises(ImageError, match="an open file: pass its path"):
        as_iterable(file)
