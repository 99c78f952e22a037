"""Redirects of addresses that are opened: few, and to no scheme that was not meant (``file:`` least of all)."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit


class FewRedirects(urllib.request.HTTPRedirectHandler):
    """Follows at most five redirects, and only to certain schemes.

    Attributes:
        schemes: those.
    """

    max_redirections = 5
    schemes: tuple[str, ...] = ("https", "http")

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        """The request that follows.

        Raises:
            URLError: it leads to another scheme.
        """
        if urlsplit(newurl).scheme.lower() not in self.schemes:
            if fp is not None:
                fp.close()
            raise urllib.error.URLError(f"redirected to {newurl}, which is not {' or '.join(self.schemes)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class HttpsRedirects(FewRedirects):
    """None away from https."""

    schemes = ("https",)
