"""What a request says: its body within limits, its images as files that are not decoded yet, its thresholds."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.requests import ClientDisconnect, Request

from singleshot.errors import ImageError
from singleshot.images.read import check_encoded
from singleshot.prediction.frames import Encoded, Failure
from singleshot.serving.batcher import Picture
from singleshot.serving.kserve import shortened
from singleshot.serving.problems import HttpProblem
from singleshot.serving.service import CLIENT_GONE, Service

_INLINE_BYTES = 2**18
"""Larger bodies are parsed in a thread: the others' deadlines do not wait for it."""

_LONGEST_NAME = 255

_LONGEST_HEADER = 4096
"""Characters of a form's header: the time that Python takes for its parameters grows with their square."""

_MOST_VALUES = 10_000
"""Values in JSON, whose parser stops all else meanwhile; images are few and long."""

_MOST_DIGITS = 9
"""Of a class id."""

Read = TypeVar("Read")


class Held:
    """The bytes of one request in memory, counted with those of all."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.count = 0

    def add(self, count: int) -> None:
        """Count bytes that came.

        Raises:
            HttpProblem: 413 or 503: too many for one request, or for all together.
        """
        options = self._service.options
        if self.count + count > options.max_bytes:
            raise too_large(options.max_bytes)
        if self._service.held_bytes + count > options.max_held_bytes:
            raise HttpProblem(503, "too many uploads at once; try again in 1 s", {"Retry-After": "1"})
        self.count += count
        self._service.held_bytes += count


@contextmanager
def held(service: Service) -> Iterator[Held]:
    """Counts a request's bytes until its end."""
    own = Held(service)
    try:
        yield own
    finally:
        service.held_bytes -= own.count


async def read_body(request: Request, service: Service, own: Held, deadline: float) -> bytes:
    """The body of a request, no more of it than the limits allow.

    Args:
        request: its body is not read yet.
        service: its limits.
        own: counts the bytes.
        deadline: by `time.monotonic`.

    Raises:
        HttpProblem: 400 (no body), 413, 415 (compressed), 503, 504, or `CLIENT_GONE`.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise HttpProblem(415, "compressed bodies are not read: send the image as it is")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:19]) > service.options.max_bytes:
        raise too_large(service.options.max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(max(0.0, deadline - monotonic())):
            async for chunk in request.stream():
                own.add(len(chunk))
                body += chunk
    except TimeoutError:
        raise HttpProblem(504, "the deadline passed before the request had come whole") from None
    except ClientDisconnect:
        raise HttpProblem(CLIENT_GONE, "the client went away") from None
    if not body:
        raise HttpProblem(400, "no image: send the bytes of an image file, a form with files, or JSON")
    return bytes(body)


async def parse(body: bytes, service: Service, deadline: float, read: Callable[[], Read]) -> Read:
    """What ``read`` makes of a body; of large ones few at a time, since each may take many times its own memory.

    Raises:
        HttpProblem: 504: its turn did not come in time; or what ``read`` raises.
    """
    if len(body) < _INLINE_BYTES:
        return read()
    try:
        async with asyncio.timeout(max(0.0, deadline - monotonic())):
            await service.parsing.acquire()
    except TimeoutError:
        raise HttpProblem(504, "the deadline passed") from None
    try:
        return await asyncio.to_thread(read)
    finally:
        service.parsing.release()


def pictures_of(body: bytes, content_type: str, service: Service) -> list[Picture]:
    """The images of a body; what is no image, or too large, is a `Failure` in its place.

    Args:
        body: an image file; a form (``multipart/form-data``) of files; or JSON, ``{"images": [BASE64, ...]}``, where an
            image may be ``{"data": BASE64, "name": NAME}``.
        content_type: of the request.
        service: its limits.

    Raises:
        HttpProblem: 400: the form or JSON is damaged. 413: too many images.
    """
    most = service.options.max_images
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        files = _files_of_form(body, content_type, most)
    elif kind == "application/json" or kind.endswith("+json"):
        files = _files_of_json(body, most)
    else:
        files = [Encoded(body, "image")]
    return [_checked(file, service.options.max_pixels) for file in files]


def too_large(most: int) -> HttpProblem:
    """A request of too many bytes."""
    return HttpProblem(413, f"over the limit of {most:,} bytes for a request")


def _checked(file: Encoded, max_pixels: int) -> Picture:
    """A file whose header is right; nothing is decoded."""
    try:
        check_encoded(file.data, max_pixels)
    except ImageError as error:
        return Failure(Path(file.name), error)
    return file


def _files_of_form(body: bytes, content_type: str, most: int) -> list[Encoded]:
    boundary = _parameter(f"x; {content_type.partition(';')[2]}", "boundary")
    if not boundary:
        raise HttpProblem(400, "the form has no boundary: let your HTTP library set its Content-Type")
    form = _Form(most)
    try:
        parser = MultipartParser(boundary.encode("latin-1", "replace"), form.callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise HttpProblem(400, f"the form is damaged: {error}") from None
    if not form.is_whole:
        raise HttpProblem(400, "the form is cut off")
    if not form.files:
        raise HttpProblem(400, "the form holds no file")
    return form.files


class _Form:
    """Collects the files of a form."""

    def __init__(self, most: int) -> None:
        self.files: list[Encoded] = []
        self.is_whole = False
        self._most = most
        self._header: list[bytes] = [b"", b""]
        self._disposition = ""
        self._parts: list[bytes] = []
        self.callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._add_header(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._parts.append(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._header, self._disposition, self._parts = [b"", b""], "", []

    def _add_header(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _end_header(self) -> None:
        name, value = self._header
        if name.strip().lower() == b"content-disposition":
            self._disposition = value.decode("utf-8", "replace")
        self._header = [b"", b""]

    def _end(self) -> None:
        name = _parameter(self._disposition, "filename")
        if name is None:
            field = _parameter(self._disposition, "name")
            raise HttpProblem(400, f"'{field}' is no file: settings belong into the address, as in /detect?score=0.5")
        if len(self.files) == self._most:
            raise HttpProblem(413, f"a request may have {self._most} images")
        self.files.append(Encoded(b"".join(self._parts), _name(name, len(self.files))))

    def _finish(self) -> None:
        self.is_whole = True


def _parameter(header: str, name: str) -> str | None:
    """A parameter of a MIME header such as ``form-data; name="image"; filename="a.jpg"``.

    Raises:
        HttpProblem: 400: it is too long.
    """
    if len(header) > _LONGEST_HEADER:
        raise HttpProblem(400, f"a header of the form has over {_LONGEST_HEADER:,} characters")
    message = Message()
    message["Content-Disposition"] = header.replace("\r", " ").replace("\n", " ")
    value = message.get_param(name, header="Content-Disposition")
    return value if value is None or isinstance(value, str) else str(value[2])


def _files_of_json(body: bytes, most: int) -> list[Encoded]:
    if sum(map(body.count, (b"[", b"{", b","))) > _MOST_VALUES:
        raise HttpProblem(400, f"the JSON has over {_MOST_VALUES:,} values: it holds images as base64, and no pixels")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise HttpProblem(400, "the body is no JSON") from None
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list) or not images:
        raise HttpProblem(400, 'JSON must be {"images": [BASE64, ...]}')
    if others := sorted(set(document) - {"images"}):
        raise HttpProblem(
            400, f"{shortened(others[0])} is not read here: settings belong into the address, as in ?score=0.5"
        )
    if len(images) > most:
        raise HttpProblem(413, f"{len(images)} images: a request may have {most}")
    return [_file_of_json(image, number) for number, image in enumerate(images)]


def _file_of_json(image: Any, number: int) -> Encoded:
    data, name = (image.get("data"), image.get("name")) if isinstance(image, dict) else (image, None)
    if not isinstance(data, str) or not isinstance(name, str | None):
        raise HttpProblem(400, f'images[{number}] must be base64, or {{"data": BASE64, "name": NAME}}')
    head, comma, _ = data[:100].partition(",")
    try:
        encoded = data[len(head) + 1 :] if comma and head.startswith("data:") else data
        return Encoded(base64.b64decode(encoded, validate=True), _name(name or "", number))
    except (binascii.Error, ValueError) as error:
        raise HttpProblem(400, f"images[{number}] is no base64: {error}") from None


def _name(name: str, number: int) -> str:
    """What an image is called in the answer: a file's own name, without its folders."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return last[:_LONGEST_NAME] or f"image {number + 1}"


def names_of(pictures: Sequence[Picture]) -> list[str]:
    """What the images of a request are called."""
    return [str(item.path or "") if isinstance(item, Failure) else item.name for item in pictures]


def class_choice(classes: Sequence[str] | None, class_names: Sequence[str]) -> tuple[str | int, ...] | None:
    """Classes from ``classes=person,dog&classes=3``: names, or ids where no class has that name."""
    if not classes:
        return None
    words = [word.strip() for item in classes for word in ([item] if item in class_names else item.split(","))]
    return tuple(int(word) if _is_id(word) and word not in class_names else word for word in words if word)


def _is_id(word: str) -> bool:
    return word.isdecimal() and len(word) <= _MOST_DIGITS
