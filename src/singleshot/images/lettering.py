"""Text of any script as a small picture: OpenCV's letters for ASCII, a font of this machine for all else.

Where no font has the letters, OpenCV 5 may (OpenCV 4 draws "?"); where it has not, they are shown as ASCII.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import unicodedata
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import home_folder
from singleshot.core.lazy import lazy_module

if TYPE_CHECKING:
    import PIL.ImageFont as pillow_font
else:
    pillow_font = lazy_module("PIL.ImageFont")


_log = logging.getLogger(__name__)

Colour = tuple[int, int, int]

_OPENCV_MAJOR = int(cv2.__version__.split(".")[0])
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_POINTS_PER_SCALE = 32  # a font of this size has letters as high as OpenCV's at scale 1
_NO_LETTER = "\U0010ffff"  # no font has it: it shows as their box for missing letters
_MAX_FONTS = 2000
_FONT_NAME = re.compile(r"(?!LastResort|AdobeBlank).*\.(?:ttf|otf|ttc)$", re.IGNORECASE)  # those two show nothing
_PLAIN_STYLE = re.compile(
    r"sans|regular|gothic|heiti|hei\b|arial|segoeui\.|tahoma|unicode|fallback|noto", re.IGNORECASE
)
_OTHER_STYLE = re.compile(r"bold|italic|oblique|light|thin|black|mono|serif|condensed|emoji|symbol|math", re.IGNORECASE)


def text_plate(text: str, scale: float, pad: int, ink: Colour, paper: Colour) -> NDArray[np.uint8]:
    """A line of text with a margin around it.

    Args:
        text: in any script; controls and line ends become spaces.
        scale: of the letters: 1 is 22 pixels for a capital.
        pad: width of the margin, pixels.
        ink, paper: RGB colours of the letters and of what they stand on.

    Returns:
        ``[h, w, 3]`` uint8.
    """
    text = "".join(letter if unicodedata.category(letter)[0] != "C" else " " for letter in text)
    if text.isascii():
        return _opencv_plate(text, scale, pad, ink, paper)
    letters = "".join(sorted(set(text)))
    font = find_font(letters)
    if font is not None:
        return _font_plate(text, font, scale, pad, ink, paper)
    if _opencv_has(letters):
        return _opencv_plate(text, scale, pad, ink, paper)
    _say_missing(letters)
    return _opencv_plate(_in_ascii(text), scale, pad, ink, paper)


def _opencv_plate(text: str, scale: float, pad: int, ink: Colour, paper: Colour) -> NDArray[np.uint8]:
    thickness = max(1, round(2.2 * scale))
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    plate = np.full((height + baseline + pad, width + 2 * pad, 3), paper, np.uint8)
    at = (pad, height + pad - pad // 2)
    cv2.putText(plate, text, at, _FONT, scale, ink, thickness, cv2.LINE_AA)
    return plate


def _font_plate(text: str, path: Path, scale: float, pad: int, ink: Colour, paper: Colour) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    font = _load_font(path, max(8, round(_POINTS_PER_SCALE * scale)))
    ascent, descent = font.getmetrics()
    width = round(font.getlength(text)) + 2 * pad
    plate = Image.new("RGB", (max(1, width), ascent + descent + pad), paper)
    ImageDraw.Draw(plate).text((pad, pad - pad // 2), text, fill=ink, font=font)
    return np.asarray(plate).copy()


@lru_cache(maxsize=4096)
def _opencv_has(letters: str) -> bool:
    if _OPENCV_MAJOR < 5:
        return False
    missing = _opencv_image(_NO_LETTER)
    return all(_opencv_image(letter) != missing for letter in letters if _shows(letter))


def _opencv_image(letter: str) -> bytes:
    image = np.zeros((48, 64), np.uint8)
    cv2.putText(image, letter, (8, 36), _FONT, 1.0, 255, 1)
    return image.tobytes()


@lru_cache(maxsize=4096)
def find_font(letters: str) -> Path | None:
    """The first font file of this machine that has all of some letters."""
    return next((path for path in font_files() if _font_has(path, letters)), None)


@lru_cache(maxsize=1)
def font_files() -> tuple[Path, ...]:
    """Font files of this machine, upright sans-serif ones first."""
    paths = []
    for folder in _font_folders():
        for parent, _, names in os.walk(folder):
            paths += [Path(parent, name) for name in names if _FONT_NAME.match(name)]
    return tuple(sorted(paths, key=_style)[:_MAX_FONTS])


def _style(path: Path) -> tuple[bool, bool, int, str]:
    name = path.name
    return bool(_OTHER_STYLE.search(name.replace("Sans-serif", ""))), not _PLAIN_STYLE.search(name), len(name), name


def _font_folders() -> list[Path]:
    home = home_folder()
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", home), "Microsoft", "Windows", "Fonts")
        folders = [Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts"), local]
    elif sys.platform == "darwin":
        folders = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts"]
    else:
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        user = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
        folders = [*(Path(part) / "fonts" for part in shared.split(":")), user / "fonts", home / ".fonts"]
    matplotlib = find_spec("matplotlib")  # brings DejaVu Sans: Latin, Greek, Cyrillic, Arabic and more
    if matplotlib and matplotlib.origin:
        folders.append(Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf")
    return folders


@lru_cache(maxsize=64)
def _load_font(path: Path, points: int) -> pillow_font.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(path), points)


def _font_has(path: Path, letters: str) -> bool:
    try:
        font = _load_font(path, 16)
        missing = bytes(font.getmask(_NO_LETTER))
        return all(bytes(font.getmask(letter)) != missing for letter in letters if _shows(letter))
    except (OSError, ValueError):  # a bitmap font of other sizes, a damaged file
        return False


def _shows(letter: str) -> bool:
    """Whether a letter has an image of its own: spaces, marks and controls may have none."""
    return unicodedata.category(letter)[0] not in "ZCM"


@lru_cache(maxsize=256)
def _say_missing(letters: str) -> None:
    shown = "".join(letter for letter in letters if not letter.isascii() and _shows(letter))
    _log.warning(
        "no font of this machine has the letters '%s': labels show them as ASCII; install a font that has them%s",
        shown,
        " (or OpenCV 5, which brings some)" if _OPENCV_MAJOR < 5 else "",
    )


def _in_ascii(text: str) -> str:
    """Latin letters without their accents, others as ``\\u72ac``."""
    bases = (unicodedata.normalize("NFKD", letter)[:1] for letter in text)
    plain = "".join(base if base.isascii() else letter for base, letter in zip(bases, text, strict=True))
    return plain.encode("ascii", "backslashreplace").decode()
