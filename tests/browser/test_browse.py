"""`singleshot browse` in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from chromium import Opened, Page, fits_width

from browsing.browsed import HOSTILE, make_set, written
from singleshot.browsing import open_collection, open_server
from singleshot.browsing.decision_book import DecisionBook

FILE = "<b>odd</b> & 'more'.jpg"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images: Any = [(FILE, [(0, (10, 10, 60, 40)), (1, (50, 5, 110, 70))]), ("b.jpg", [(1, (5, 5, 40, 40))])]
    return make_set(tmp_path_factory.mktemp("browse") / "set", images, (HOSTILE, "dog"))


@pytest.fixture
def decisions(tmp_path: Path) -> Path:
    return tmp_path / "decisions.json"


@pytest.fixture
def address(root: Path, decisions: Path) -> Iterator[str]:
    collection = open_collection(root)
    server = open_server(collection, DecisionBook(decisions, collection))
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server.address
    server.shutdown()
    server.server_close()


def opened_image(page: Page) -> None:
    page.wait_for_selector("#viewer:not([hidden]) .objects button")


def test_keys_decide_and_names_are_text(address: str, open_page: Opened, decisions: Path) -> None:
    with open_page(address) as page:
        page.wait_for_selector("#grid .tile")
        assert page.locator("#grid .tile").count() == 2
        page.locator("#grid .tile").first.focus()
        page.keyboard.press("Enter")
        opened_image(page)
        assert page.locator("#viewer-name").text_content() == f"photos/{FILE}"
        assert HOSTILE in page.locator(".objects").inner_text()
        assert page.locator("img[src=x], b:has-text('odd')").count() == 0
        with page.expect_response("**/decide"):
            page.keyboard.press("d")
        page.wait_for_selector(".objects .badge.drop")
        with page.expect_response("**/decide"):
            page.keyboard.press("k")
        page.wait_for_selector(".objects .badge.keep")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => document.querySelector('#viewer-name').textContent === 'photos/b.jpg'")
        page.keyboard.press("Escape")
        page.wait_for_selector("#viewer[hidden]", state="attached")
    assert written(decisions) == [(f"photos/{FILE}", "drop", None), (f"photos/{FILE}", "keep", None)]


def test_filters(address: str, open_page: Opened) -> None:
    with open_page(address) as page:
        page.wait_for_selector("#grid .tile")
        page.get_by_label("Name contains").fill("/b.j")
        page.wait_for_function("() => document.querySelectorAll('#grid .tile').length === 1")
        page.get_by_role("button", name="Clear filters").click()
        page.wait_for_function("() => document.querySelectorAll('#grid .tile').length === 2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_width(address: str, open_page: Opened, scheme: str) -> None:
    with open_page(address, 360, 740, color_scheme=scheme) as page:
        page.wait_for_selector("#grid .tile")
        fits_width(page, 360)
        page.locator("#grid .tile").first.click()
        opened_image(page)
        fits_width(page, 360)


def test_access(address: str, open_page: Opened, check_access: Callable[[Page], None]) -> None:
    with open_page(address) as page:
        page.wait_for_selector("#grid .tile")
        check_access(page)
        page.locator("#grid .tile").first.click()
        opened_image(page)
        check_access(page)
