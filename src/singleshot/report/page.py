"""One HTML file that holds a whole report: text, key numbers, tables and pictures, and asks nothing of the network.

write_page("report.html", "Evaluation", [
    Section("Result", [Tiles([Tile("AP50", "0.912")]), Table(["class", "AP"], [["dog", 0.9]], bars=["AP"])]),
    Section("Photos", [Figures([Figure(rgb_array, "two dogs")])]),
])
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from singleshot.core.files import write_atomically
from singleshot.core.wording import printable
from singleshot.errors import MissingExtraError
from singleshot.version import __version__

Cell = str | int | float | None
"""What a table may hold; ``None`` and NaN show as a dash."""

MAX_PICTURE_SIDE = 1280
JPEG_QUALITY = 85

_BACKTICKS = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs, separated by empty lines; what stands in backticks is set as code. HTML is never interpreted."""

    body: str

    @property
    def paragraphs(self) -> list[str]:
        """The text split at empty lines."""
        return [part.strip() for part in self.body.split("\n\n") if part.strip()]


@dataclass(frozen=True, slots=True)
class Code:
    """Commands or file contents in a fixed-width font."""

    body: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A key number: what it is, its value as text, and a short remark."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tiles:
    """A row of key numbers."""

    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Numbers are aligned to the right; floats show ``digits`` decimals.

    Attributes:
        columns: headings.
        rows: cells by row.
        caption: what the table shows.
        bars: headings of columns of numbers in 0..1 that are drawn as bars, too.
        digits: decimals of floats.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    bars: Sequence[str] = ()
    digits: int = 3

    def cells(self) -> list[list[dict[str, Any]]]:
        """Rows as the template wants them: text, whether it is a number, and the bar's length in percent."""
        return [[self._cell(*pair) for pair in zip(self.columns, row, strict=True)] for row in self.rows]

    def _cell(self, column: str, value: Cell) -> dict[str, Any]:
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if value is None or value != value:
            return {"text": "–", "number": True, "bar": None}
        whole = isinstance(value, int | np.integer)
        text = f"{value:,}" if number and whole else f"{value:.{self.digits}f}" if number else str(value)
        bar = 100 * min(max(float(value), 0.0), 1.0) if number and column in self.bars else None
        return {"text": text, "number": number, "bar": bar}


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture with its caption.

    Attributes:
        image: an RGB uint8 array ``[H, W, 3]`` (stored as JPEG, its longer side at most 1280 pixels), or the bytes of a
            PNG, JPEG, GIF, WebP or SVG file. SVG is put into the page itself, so ``currentColor`` follows the theme.
        caption: one line below the picture, and its alternative text.
        max_width_px: the picture is not made wider; 0 fills the column.
    """

    image: bytes | np.ndarray
    caption: str = ""
    max_width_px: int = 0

    def is_svg(self) -> bool:
        """Whether the picture is SVG text."""
        return isinstance(self.image, bytes) and b"<svg" in self.image[:1000]

    def svg(self) -> str:
        """The ``<svg>`` element without XML prologue."""
        assert isinstance(self.image, bytes)
        return self.image[self.image.index(b"<svg") :].decode()

    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        data = _jpeg(self.image) if isinstance(self.image, np.ndarray) else self.image
        return f"data:{_media_type(data)};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True, slots=True)
class Figures:
    """Pictures in a grid.

    Attributes:
        figures: the pictures.
        min_width_px: a column is at least this wide; as many fit as the window allows.
    """

    figures: Sequence[Figure]
    min_width_px: int = 320


Block = Text | Code | Tiles | Table | Figures


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block] = field(default=())


def require_pages() -> None:
    """Refuse before long work what `write_page` would refuse after it.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    try:
        import_module("jinja2")
    except ImportError as error:
        raise MissingExtraError("jinja2", "report", "an HTML report") from error


def render_page(title: str, sections: Iterable[Section], *, subtitle: str = "") -> str:
    """A report as HTML text; see `write_page`."""
    require_pages()
    import jinja2

    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["with_code"] = _with_code
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        sections=[
            {"title": part.title, "blocks": [{"kind": type(b).__name__, "it": b} for b in part.blocks]}
            for part in sections
        ],
        version=__version__,
        when=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )


def write_page(path: str | Path, title: str, sections: Iterable[Section], *, subtitle: str = "") -> Path:
    """Write a self-contained HTML report: light and dark, fit for phones and for print, without scripts.

    Args:
        path: the file to write; replaced in one step.
        title: heading of the page; escaped, like all other text.
        sections: what the page shows, in order.
        subtitle: one line below the heading.

    Returns:
        The path.

    Raises:
        MissingExtraError: jinja2 is not installed.
        ValueError: a picture is neither an RGB uint8 array nor a known image file.
    """
    return write_atomically(path, printable(render_page(title, sections, subtitle=subtitle)))


def _with_code(text: str) -> str:
    """A paragraph as HTML: escaped, settings in backticks as ``<code>``."""
    from markupsafe import Markup, escape

    return Markup(_BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))  # escaped before


def _jpeg(image: np.ndarray) -> bytes:
    import cv2

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a figure wants an RGB uint8 array [H, W, 3], not {image.dtype} {list(image.shape)}")
    scale = MAX_PICTURE_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise ValueError(f"a picture of shape {image.shape} could not be stored as JPEG")
    return bytes(data.tobytes())


def _media_type(data: bytes) -> str:
    signatures = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}
    for signature, name in signatures.items():
        if data.startswith(signature):
            return name
    raise ValueError(f"a figure wants the bytes of a PNG, JPEG, GIF, WebP or SVG file; these begin with {data[:8]!r}")
