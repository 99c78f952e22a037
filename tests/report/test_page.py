from __future__ import annotations

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from singleshot.report.page import Code, Figure, Figures, Section, Table, Text, Tile, Tiles, render_page, write_page

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")
VOID = {"meta", "input", "img", "br"}


class Reader(HTMLParser):
    """Collects text and attributes, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    return reader


def test_a_page_without_sections() -> None:
    assert "Nothing here" in read(render_page("Nothing here", [])).words


def test_every_block_shows_its_content() -> None:
    page = read(
        render_page(
            "T",
            [
                Section("S", []),
                Section(
                    "All",
                    [
                        Text("one\n\ntwo"),
                        Code("run  this"),
                        Tiles([Tile("label", "0.5", "note")]),
                        Table(["name", "n"], [["dog", 1234]], caption="animals"),
                        Figures([Figure(PNG, "a dot")]),
                    ],
                ),
            ],
        )
    )
    text = " ".join(page.words)
    for word in ("S", "one", "two", "run  this", "label", "0.5", "note", "dog", "1,234", "animals", "a dot"):
        assert word in text


def test_markup_in_text_stays_text() -> None:
    evil = "<script>alert(1)</script>\"'&"
    html = render_page(
        evil,
        [Section(evil, [Text(evil), Code(evil), Tiles([Tile(evil, evil, evil)]), Table([evil], [[evil]], evil),
                        Figures([Figure(PNG, evil)])])],
        subtitle=evil,
    )  # fmt: skip
    assert "<script" not in html
    assert "".join(read(html).words).count("<script>alert(1)</script>") >= 9


def test_nothing_is_fetched(tmp_path: Path) -> None:
    picture = np.full((4, 6, 3), 200, dtype=np.uint8)
    path = write_page(
        tmp_path / "deep" / "page.html", "T", [Section("a", [Figures([Figure(picture), Figure(PNG)])])] * 3
    )
    page = read(path.read_text(encoding="utf-8"))
    assert page.addresses
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert "default-src 'none'" in path.read_text(encoding="utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (1234, "1,234"), (0.12345, "0.123"), (np.float32(0.5), "0.500"), ("x", "x"),
     (np.int64(7), "7")],
)  # fmt: skip
def test_cells(value: object, text: str) -> None:
    assert Table(["a"], [[value]]).cells()[0][0]["text"] == text  # type: ignore[list-item]


def test_bars_stay_in_their_cell() -> None:
    rows = Table(["a", "b"], [[0.25, 1], [7.0, 1], [-1.0, 1]], bars=["a"]).cells()
    assert [row[0]["bar"] for row in rows] == [25, 100, 0]
    assert rows[0][1]["bar"] is None


def test_arrays_become_bounded_jpeg() -> None:
    image = np.zeros((30, 2560, 3), dtype=np.uint8)
    image[..., 0] = 255
    uri = Figure(image).uri()
    assert uri.startswith("data:image/jpeg;base64,")
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (15, 1280, 3)
    blue, green, red = decoded[5, 5].tolist()
    assert red > 240
    assert max(blue, green) < 15


@pytest.mark.parametrize("image", [np.zeros((3, 3), np.uint8), np.zeros((3, 3, 3), np.float32), b"not an image"])
def test_what_is_no_picture_is_refused(image: object) -> None:
    with pytest.raises(ValueError, match="figure wants"):
        Figure(image).uri()  # type: ignore[arg-type]


def test_svg_goes_into_the_page() -> None:
    html = render_page("T", [Section("S", [Figures([Figure(b'<?xml version="1.0"?><svg id="x"></svg>')])])])
    assert '<svg id="x"></svg>' in html
    assert "<?xml" not in html


def test_a_failed_page_leaves_the_old_one(tmp_path: Path) -> None:
    path = write_page(tmp_path / "page.html", "old", [])
    with pytest.raises(ValueError, match="figure wants"):
        write_page(path, "new", [Section("S", [Figures([Figure(b"bad")])])])
    assert re.search("<h1>old</h1>", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_names_the_extra(package: str) -> None:
    code = (
        f"import sys; sys.modules['{package}'] = None\n"
        "from singleshot.errors import MissingExtraError\n"
        "from singleshot.report.page import render_page\n"
        "from singleshot.report.plots import pr_curves\n"
        "try:\n    render_page('t', []); pr_curves({})\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert package in out
    assert "pip install 'jinja2>=" in out
    assert "(singleshot's extra 'report')" in out


def test_backticks_in_text_become_code_and_hold_no_markup() -> None:
    page = render_page("t", [Section("s", [Text("set `size=300` or `<b>`; a lone ` stays")])])
    assert "set <code>size=300</code> or <code>&lt;b&gt;</code>; a lone ` stays" in page
