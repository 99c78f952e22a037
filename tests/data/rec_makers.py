"""RecordIO as MXNet's documents describe it, written and read with ``struct`` alone."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

MAGIC = 0xCED7230A


def frame(payload: bytes, part: int = 0) -> bytes:
    return struct.pack("<II", MAGIC, part << 29 | len(payload)) + payload + bytes(-len(payload) % 4)


def image_payload(key: int, numbers: Sequence[float], image: bytes) -> bytes:
    return struct.pack(f"<IfQQ{len(numbers)}f", len(numbers), 0.0, key, 0, *numbers) + image


def jpeg(gray: int = 90, size_hw: tuple[int, int] = (40, 60)) -> bytes:
    return cv2.imencode(".jpg", np.full((*size_hw, 3), gray, np.uint8))[1].tobytes()


def make_rec(file: Path, labels: Sequence[Sequence[float]], names: Sequence[str] = ()) -> list[bytes]:
    """A ``.rec`` file with an image for each label, its index, and with names its list."""
    images = [jpeg(40 + 20 * number) for number in range(len(labels))]
    frames = [frame(image_payload(key, label, images[key])) for key, label in enumerate(labels)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(frames))
    offsets = np.cumsum([0, *map(len, frames)])[:-1]
    file.with_suffix(".idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets)))
    if names:
        rows = ["\t".join([str(key), *map(str, labels[key]), name]) for key, name in enumerate(names)]
        file.with_suffix(".lst").write_text("\n".join(rows) + "\n")
    return images


def read_rec(file: Path) -> list[tuple[int, list[float], bytes]]:
    """(id, label, image) of each record; parts are joined by the magic number that was left out between them."""
    data, at, found, parts = file.read_bytes(), 0, [], list[bytes]()
    while at < len(data):
        magic, word = struct.unpack_from("<II", data, at)
        assert magic == MAGIC
        part, length = word >> 29, word & (1 << 29) - 1
        parts = [*(parts if part in (2, 3) else []), data[at + 8 : at + 8 + length]]
        at += 8 + (length + 3) // 4 * 4
        if part in (0, 3):
            payload = struct.pack("<I", MAGIC).join(parts)
            count, _, key, _ = struct.unpack_from("<IfQQ", payload)
            numbers = struct.unpack_from(f"<{count}f", payload, 24)
            found.append((key, list(numbers), payload[24 + 4 * count :]))
    return found
