"""Labels in any script: legible, or said to be not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from singleshot.images import lettering
from singleshot.images.lettering import find_font, font_files, text_plate

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
OPENCV = int(cv2.__version__.split(".")[0])


def plate(text: str, scale: float = 0.5) -> np.ndarray:
    return text_plate(text, scale, 3, BLACK, WHITE)


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The fonts of a machine that has only these."""
    files: list[Path] = []
    caches = (lettering.find_font, lettering._opencv_has, lettering._say_missing)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(lettering, "font_files", lambda: tuple(files))
    yield files
    for cache in caches:
        cache.cache_clear()


def dejavu() -> Path:
    matplotlib = pytest.importorskip("matplotlib")
    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def test_no_text_is_a_plate_without_ink() -> None:
    assert (plate("") == 255).all()


@pytest.mark.parametrize("text", ["dog 0.87", "собака 0.87", "犬 0.87", "café", "ليث", "\ud800 0.1", "a\nb\t\0c"])
@pytest.mark.parametrize("scale", [0.35, 0.5, 3.0])
def test_any_text_has_ink_and_a_margin(text: str, scale: float) -> None:
    image = plate(text, scale)
    assert image.dtype == np.uint8
    assert (image < 128).any()
    assert image[:, 0].min() == 255
    assert plate(text, scale).tobytes() == image.tobytes()


def test_letters_grow_with_their_scale() -> None:
    for text in ("dog", "собака"):
        assert plate(text, 2.0).shape[0] > plate(text, 0.5).shape[0]


def test_a_font_is_found_by_its_letters(fonts: list[Path]) -> None:
    fonts.append(dejavu())
    assert find_font("бакос") == dejavu()
    assert find_font("犬") is None
    russian = [plate(text).tobytes() for text in ("собака", "кошка", "собакв")]
    assert len(set(russian)) == 3


def test_without_a_font_letters_are_escaped_and_said_once(
    fonts: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lettering, "_opencv_has", lambda letters: False)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            np.testing.assert_array_equal(plate("犬é 0.5"), plate("\\u72ace 0.5"))
    assert [record.message for record in caplog.records if "犬" in record.message] == [caplog.records[0].message]
    assert "install a font" in caplog.records[0].message
    assert len(caplog.records) == 1


@pytest.mark.skipif(OPENCV < 5, reason="OpenCV 4 has letters for ASCII only")
def test_opencv_5_has_letters_of_its_own(fonts: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    assert plate("犬").tobytes() != plate("\\u72ac").tobytes()
    assert plate("犬").tobytes() != plate("猫").tobytes()
    assert not caplog.records


def test_fonts_that_show_nothing_or_are_damaged_are_not_taken(fonts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"\0\1\0\0" + bytes(100))
    fonts += [tmp_path / "broken.ttf", dejavu()]
    assert find_font("б") == dejavu()
    assert not [path for path in font_files() if path.name.startswith("LastResort")]
