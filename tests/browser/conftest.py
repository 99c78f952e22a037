"""Chromium for the tests of pages: `make browser` installs what this needs, elsewhere they skip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chromium import Opened, Page

WAIT_MS = 60_000
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
AXE = os.environ.get("SINGLESHOT_AXE", "")
SERIOUS = """async () => (await axe.run()).violations
  .filter((one) => /serious|critical/.test(one.impact)).map((one) => [one.id, one.nodes.map((node) => node.html)])"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: `make browser`")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed: `make browser`")
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox", *CAMERA])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def open_page(browser: Any) -> Opened:
    """Opens an address in a page of its own; no error in its scripts and nothing that its policy forbids."""

    @contextmanager
    def opened(address: str, width: int = 1280, height: int = 800, **settings: Any) -> Iterator[Page]:
        own = browser.new_context(viewport={"width": width, "height": height}, **settings)
        own.set_default_timeout(WAIT_MS)
        page = own.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda told: faults.append(told.text) if is_fault(told) else None)
        page.goto(address)
        yield page
        own.close()
        assert faults == []

    return opened


def is_fault(told: Any) -> bool:
    """Whether a line of the console is an error other than an answer's status."""
    return bool(told.type == "error") and "status of" not in told.text


@pytest.fixture(scope="session")
def check_access() -> Callable[[Page], None]:
    """Asserts that axe-core finds no serious fault on a page; skips where it is not there."""
    script = Path(AXE)
    if not script.is_file():
        pytest.skip("axe-core is not there: SINGLESHOT_AXE is the path of its axe.min.js (npm install axe-core)")

    def check(page: Page) -> None:
        page.evaluate(script.read_text())  # not as an element, which the pages' policies forbid
        assert page.evaluate(SERIOUS) == []

    return check
