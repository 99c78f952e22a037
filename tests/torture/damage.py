"""Bytes made worse: what needs no knowledge of a format."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from random import Random

Damage = Callable[[bytes, Random, Sequence[bytes]], bytes]
"""(content, random, words of the format) -> damaged content."""

MAX_BYTES = 2**20
"""Damage that makes more is cut off: small files find what large ones would, and sooner."""

INTEGERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**62)
INTEGERS += (2**63 - 1, 2**63, 2**64 - 1)

WORDS = (
    b"-1", b"0", b"1e400", b"-1e400", b"1e-400", b"nan", b"-inf", b"9" * 30, b"9" * 5000, b"0x10", b"1_0", b"1.5",
    b"null", b"true", b"[]", b"{}", b'""', b"\xff", b"\0", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xae",
    "١٢".encode(), "é".encode("latin-1"), b"\x1b[2J", b"[/b]", b"{", b"[" * 3000, b"{" * 3000, b"(" * 3000,
    b"<a>" * 3000, b"- " * 3000, b"a: " * 500, b"../../x", b"/", b"a" * 300, b"C:\\x", b"\r", b"\n", b"\n\n", b",",
    b"\t", b'"', b"'", b"%s", b"!!python/object/apply:os.system [x]", b"&a [*a, *a]", b"*a", b"<<: *a",
    b'<!DOCTYPE a [<!ENTITY b "c">]>', b"&b;", b"<![CDATA[", b"II*\0", b"PK\3\4", b"\x93NUMPY",
)  # fmt: skip
"""What parsers of numbers, texts and trees have stumbled over."""

_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def flip(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """One to eight bits."""
    out = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        out[random.randrange(len(out))] ^= 1 << random.randrange(8)
    return bytes(out)


def overwrite(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """Some bytes, by others or by a word."""
    new = random.randbytes(random.randint(1, 12)) if random.random() < 0.5 else random.choice(words)
    at = random.randrange(len(content))
    return content[:at] + new + content[at + len(new) :]


def insert(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """A word, or random bytes."""
    new = random.randbytes(random.randint(1, 12)) if random.random() < 0.2 else random.choice(words)
    at = random.randint(0, len(content))
    return content[:at] + new + content[at:]


def remove(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """A few bytes, or many."""
    at, length = random.randrange(len(content)), random.choice((1, 2, 4, 8, 64, len(content) // 4 or 1))
    return content[:at] + content[at + length :]


def repeat(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """A piece, twice or thousands of times."""
    at, length = random.randrange(len(content)), random.choice((1, 2, 4, 16, 64, 256))
    piece = content[at : at + length]
    times = min(random.choice((1, 1, 1, 2, 30, 1000, 30_000)), max(1, MAX_BYTES // 4 // len(piece)))
    return content[:at] + piece * times + content[at:]


def move(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """A piece, to another place."""
    at, length, to = random.randrange(len(content)), random.randint(1, 64), random.randrange(len(content))
    rest = content[:at] + content[at + length :]
    return rest[:to] + content[at : at + length] + rest[to:]


def truncate(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """The end is missing."""
    return content[: random.randrange(len(content))]


def set_integer(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """An integer of 1 to 8 bytes, such as a length, becomes an extreme one, or nearly itself."""
    width = random.choice((1, 2, 4, 4, 8))
    if len(content) < width:
        return content
    at, order = random.randrange(len(content) - width + 1), random.choice(("little", "big"))
    old = int.from_bytes(content[at : at + width], order)
    new = random.choice((*INTEGERS, old + 1, old - 1, old * 2, -old, len(content), len(content) + 1))
    return content[:at] + (new % 256**width).to_bytes(width, order) + content[at + width :]


def set_float(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """Four or eight bytes become a float that hurts."""
    form = random.choice(("<f", ">f", "<d"))
    value = random.choice((float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-45, -0.0, -1.0))
    new = struct.pack(form, value)
    at = random.randrange(len(content))
    return content[:at] + new + content[at + len(new) :]


def set_number(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """A number in text becomes another, or a word."""
    found = list(_NUMBER.finditer(content[:MAX_BYTES]))
    if not found:
        return overwrite(content, random, words)
    chosen = random.choice(found)
    new = str(random.choice(INTEGERS)).encode() if random.random() < 0.4 else random.choice(words)
    return content[: chosen.start()] + new + content[chosen.end() :]


ANYWHERE: tuple[Damage, ...] = (
    flip, flip, overwrite, insert, remove, repeat, move, truncate, set_integer, set_integer, set_float, set_number,
)  # fmt: skip


def damage_bytes(content: bytes, random: Random, words: Sequence[bytes] = WORDS) -> bytes:
    """One kind of damage."""
    return random.choice(ANYWHERE)(content, random, words)[:MAX_BYTES] if content else random.choice(words)
