"""What the tests of pages say of a page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

Page = Any
Opened = Callable[..., AbstractContextManager[Page]]


def fits_width(page: Page, width: int) -> None:
    """Assert that nothing has to be scrolled sideways."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
