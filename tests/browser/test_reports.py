"""Reports in a real browser: they ask nothing of the network, fit a phone, tell values of curves, enlarge pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from chromium import Opened, Page, fits_width

from browsing.browsed import make_set
from singleshot import evaluate
from singleshot.report.page import Code, Section, Table, Text, write_page
from singleshot.training.pages import curve_section

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
HOSTILE = "<img src=x onerror=alert(1)>"
SHOWN = "(all => all.filter(one => getComputedStyle(one).opacity === '1').map(one => one.textContent).join())"


@pytest.fixture(scope="module")
def evaluation(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of an evaluation: two plain pictures, where the detector misses a dog each."""
    folder = tmp_path_factory.mktemp("evaluation")
    images = [(name, [(0, (10.0, 10.0, 60.0, 40.0))]) for name in ("a.jpg", "<i>b.jpg")]
    evaluate("coco", make_set(folder / "set", images, ("dog",)), backend="torch").save(folder / "out")
    return (folder / "out" / "report.html").as_uri()


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a training, but for its pictures."""
    steps = np.arange(1, 50)
    losses = {"loss": (steps, 5 / steps), "classification": (steps, 4 / steps)}
    sections = [
        curve_section(losses, {"mAP": (steps, steps / 50)}, {"rate": (steps, steps / 1e5)}),
        Section("Data", [Table(["class", "objects"], [[HOSTILE, 3], ["a" * 200, 4]]), Text("word " * 90)]),
        Section("Again", [Code(f"singleshot train {'x' * 200}")]),
    ]
    return write_page(tmp_path_factory.mktemp("report") / "training.html", "Training", sections).as_uri()


def test_a_page_fits_a_phone_and_prints(evaluation: str, training: str, open_page: Opened) -> None:
    for address in (evaluation, training):
        with open_page(address, 360, 740, color_scheme="dark") as page:
            fits_width(page, 360)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
            if address == evaluation:  # a training's curves are as wide as a page, and scrolled in their frame
                wide = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length"
                assert page.locator("figure").evaluate_all(wide) == 0
            page.emulate_media(media="print", color_scheme="light")
            assert page.locator("nav").is_hidden()
            assert page.locator("img[src=x], i").count() == 0


def test_contents_lead_to_sections(evaluation: str, open_page: Opened) -> None:
    with open_page(evaluation) as page:
        links = page.locator("nav a")
        assert links.all_inner_texts() == page.locator("h2").all_inner_texts()
        page.get_by_role("link", name="Worst images").click()
        assert page.locator("h2", has_text="Worst images").bounding_box()["y"] < 400


def test_a_picture_is_enlarged_by_mouse_and_keyboard(evaluation: str, open_page: Opened) -> None:
    with open_page(evaluation) as page:
        picture = page.locator("figure img").first
        before = picture.bounding_box()["width"]
        picture.click()
        assert picture.bounding_box()["width"] == 1280 > before
        picture.click()
        assert picture.bounding_box()["width"] == before
        page.locator(".zoom").first.focus()
        page.keyboard.press("Space")
        assert picture.bounding_box()["width"] == 1280


def test_curves_tell_their_values(training: str, open_page: Opened) -> None:
    with open_page(training) as page:
        probe = page.locator(".probe").nth(20)
        assert float(probe.evaluate("one => getComputedStyle(one).opacity")) == 0
        probe.hover(force=True)
        page.wait_for_function(
            "() => [...document.querySelectorAll('.probe')].some(one => getComputedStyle(one).opacity === '1')"
        )

        assert "loss" in page.locator(".probe").evaluate_all(SHOWN)


def test_access(evaluation: str, training: str, open_page: Opened, check_access: Callable[[Page], None]) -> None:
    for address in (evaluation, training):
        with open_page(address) as page:
            check_access(page)
