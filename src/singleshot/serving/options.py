"""What a service is told: where it listens, what it accepts, and how much of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from singleshot.core.settings import Frozen, UnitFloat

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine can reach."""


class ServeOptions(Frozen):
    """Settings of a service.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        token: what requests must bring as ``Authorization: Bearer TOKEN``; ``None`` asks for nothing.
        queue: images of a model that may wait; what comes beyond is refused at once.
        deadline_s: seconds that a request may take unless it says otherwise (``X-Deadline-Ms``), its upload included.
        max_bytes: bytes of a request.
        max_held_bytes: bytes of all requests that are being received or wait, together.
        max_pixels: pixels of an image.
        max_images: images of a request.
        batch_size: images that the network sees at once; ``None`` is 1 on a CPU, where that is quickest, else 8.
        score: least confidence, where a request does not say; ``None`` is the model's own.
        backend, precision, device: as in `Detector.predict`.
        watch: a folder whose models are loaded, replaced and unloaded as its files come, change and go.
        header_s: seconds that a connection may take to send a request's header, and may be idle.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    token: SecretStr | None = None
    queue: Annotated[int, Field(gt=0)] = 64
    deadline_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    max_bytes: Annotated[int, Field(gt=0)] = 2**25
    max_held_bytes: Annotated[int, Field(gt=0)] = 2**29
    max_pixels: Annotated[int, Field(gt=0)] = 64_000_000
    max_images: Annotated[int, Field(gt=0)] = 32
    batch_size: Annotated[int, Field(gt=0, le=1024)] | None = None
    score: UnitFloat | None = None
    backend: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    watch: Path | None = None
    header_s: Annotated[float, Field(gt=0)] = 10.0

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK
