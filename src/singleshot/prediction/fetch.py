"""Images that are no files: at an http(s) address, or on standard input. All of them bounded in size and in time."""

from __future__ import annotations

import base64
import http.client
import struct
import urllib.error
import urllib.request
from pathlib import PurePosixPath
from time import monotonic
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

from singleshot.core.redirects import FewRedirects
from singleshot.errors import ImageError
from singleshot.images.header import read_header
from singleshot.images.read import MAX_PIXELS, read_image
from singleshot.prediction.addresses import without_password
from singleshot.prediction.frames import Frame
from singleshot.version import __version__

MAX_FETCHED_BYTES = 2**28
"""A photo of 512 MiB as RGB has fewer bytes in nearly any format."""
TIMEOUT_S = 20.0
"""For each answer of the server."""
LONGEST_S = 300.0
"""For the whole image."""

_HEAD_BYTES = 2**16
_STEP = 2**18
_MOVING = ("video", "audio", "multipart")
_PAGES = (b"<!doctype html", b"<html")


def is_address(source: str) -> bool:
    """Whether a source is an http or https address."""
    return source[:8].lower().startswith(("http://", "https://"))


def fetch_image(
    address: str,
    *,
    max_pixels: int | None = MAX_PIXELS,
    max_bytes: int = MAX_FETCHED_BYTES,
    timeout_s: float = TIMEOUT_S,
    longest_s: float = LONGEST_S,
) -> Frame | None:
    """The image at an address; ``None`` where there is something else, such as a video, of which only the head is read.

    Args:
        address: http or https; a name and a password in it (``https://me:secret@host/a.jpg``) go to this host only.
        max_pixels: as `read_image`.
        max_bytes: longer answers are refused.
        timeout_s: seconds that the server may be silent.
        longest_s: seconds for all of it.

    Returns:
        A frame whose name is the last part of the address' path, the host where there is none.

    Raises:
        ImageError: nothing can be fetched, a web page, too much, or an image that cannot be read. The message names the
            address, without a password.
    """
    shown = without_password(address)
    try:
        opener = urllib.request.build_opener(FewRedirects)
        with opener.open(_request(address), timeout=timeout_s) as response:
            data = _image_of(response, shown, max_bytes, monotonic() + longest_s)
    except ImageError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise ImageError(f"{shown}: the server answers {error.code} ({_line(error.reason)})") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        why = getattr(cause, "strerror", None) or _line(cause) or type(cause).__name__
        raise ImageError(f"{shown}: cannot be fetched: {why}") from None
    return None if data is None else _frame(shown, _name(address), data, max_pixels)


def stdin_image(stream: BinaryIO, *, max_pixels: int | None = MAX_PIXELS, max_bytes: int = MAX_FETCHED_BYTES) -> Frame:
    """The image file that is on standard input, as a frame named ``stdin``.

    Args:
        stream: ``sys.stdin.buffer``; read to its end.
        max_pixels: as `read_image`.
        max_bytes: more is refused.

    Raises:
        ImageError: there is nothing, too much, a terminal, or no image.
    """
    if stream.isatty():
        raise ImageError("standard input is a terminal: pipe an image into it, or name a file in place of '-'")
    try:
        data = stream.read(max_bytes + 1)
    except OSError as error:
        raise ImageError(f"standard input: cannot be read: {error.strerror or error}") from None
    if not data:
        raise ImageError("standard input: is empty: pipe an image into it")
    if len(data) > max_bytes:
        raise ImageError(f"standard input: more than {max_bytes:,} bytes: no image is so large")
    return _frame("standard input", "stdin", data, max_pixels)


def _line(reason: object) -> str:
    """The first line of what a server or a library says."""
    return next((line.strip() for line in str(reason).splitlines() if line.strip()), "")


def _request(address: str) -> urllib.request.Request:
    """What is asked for. Name and password go into a header that redirects do not take along.

    Raises:
        ValueError: this is no address.
    """
    parts = urlsplit(address)
    if not is_address(address) or not parts.hostname:
        raise ValueError("an address is written http://HOST/PATH or https://HOST/PATH")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname.encode("idna").decode()
    plain = parts._replace(
        netloc=host + (f":{parts.port}" if parts.port else ""),
        path=quote(parts.path, safe="/%:@!$&'()*+,;=~"),
        query=quote(parts.query, safe="/%:@!$&'()*+,;=~?"),
        fragment="",
    )
    request = urllib.request.Request(plain.geturl(), headers={"User-Agent": f"singleshot/{__version__}"})
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(secret).decode()}")
    return request


def _image_of(response: http.client.HTTPResponse, shown: str, max_bytes: int, end_s: float) -> bytes | None:
    """The image file of an answer; ``None``, and no more than its head is read, where it is something else.

    Raises:
        ImageError: it is too much, takes too long, or ends too soon.
    """
    if response.headers.get_content_maintype() in _MOVING:
        return None
    data, is_image = bytearray(), False
    while chunk := response.read1(_STEP):
        data += chunk
        if not is_image and len(data) >= _HEAD_BYTES:
            is_image = _is_image(shown, bytes(data))
            if not is_image:
                return None
        if len(data) > max_bytes:
            raise ImageError(f"{shown}: more than {max_bytes:,} bytes: no image is so large")
        if monotonic() > end_s:
            raise ImageError(f"{shown}: too slow: {len(data):,} bytes in all the time: try again, or download it first")
    promised = response.headers.get("Content-Length", "")
    if promised.isdecimal() and len(data) < int(promised):
        raise ImageError(f"{shown}: the connection ended after {len(data):,} of {int(promised):,} bytes: try again")
    return bytes(data) if is_image or _is_image(shown, bytes(data)) else None


def _is_image(shown: str, head: bytes) -> bool:
    """Whether an answer is an image by its first bytes: what servers say of it is often wrong.

    Raises:
        ImageError: it is empty, or a web page.
    """
    if not head:
        raise ImageError(f"{shown}: the answer is empty")
    if head[:1000].lstrip()[:20].lower().startswith(_PAGES):
        raise ImageError(f"{shown}: is a web page, not an image: give the address of the image itself")
    try:
        return read_header(head) is not None
    except (IndexError, ValueError, struct.error):
        return True  # an image whose header is longer, or damaged: whoever reads it says which


def _name(address: str) -> str:
    """What results are filed under: one word, which leads nowhere."""
    parts = urlsplit(address)
    name = PurePosixPath(unquote(parts.path).replace("\\", "/")).name.replace("\0", "")
    return name if name not in ("", ".", "..") else parts.hostname or "image"


def _frame(shown: str, name: str, data: bytes, max_pixels: int | None) -> Frame:
    try:
        return Frame(read_image(data, max_pixels=max_pixels), name)
    except ImageError as error:  # which calls the bytes an image of so many bytes
        raise ImageError(f"{shown}: {str(error).partition(': ')[2]}") from None
