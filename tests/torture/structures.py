"""Files made worse in what they say, not in how: every structure is read, one part of it changed, and written again."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from torture.damage import INTEGERS, Damage, damage_bytes

# libyaml's, where PyYAML was built with it: ten times as fast.
DEEP = 200
_LOADER, _DUMPER = getattr(yaml, "CSafeLoader", yaml.SafeLoader), getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_DEEP, _LARGE, _SHARED = "@deep@", "@large@", "@shared@"
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "0", "nan", "a" * 300, "../../x", "/", "\0", "\ud800", "é", "[/b]", "\x1b[2J", "\n", [], {}, [[]],
    [None], {"": 0}, [0] * 9, [1] * 3000, "a" * 70_000, _DEEP, _LARGE, _SHARED,
)  # fmt: skip


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a tree."""
    found: list[tuple[Any, Any]] = []
    rest = [tree]
    while rest and len(found) < 5000:
        node = rest.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        found += [(node, key) for key in keys]
        rest += [node[key] for key in keys]
    return found


def change_tree(tree: Any, random: Random) -> Any:
    """One to three parts of a tree of dicts and lists; changed in place."""
    for _ in range(random.choice((1, 1, 2, 3))):
        places = _places(tree)
        if not places:
            return random.choice(_VALUES)
        node, key = random.choice(places)
        kind = random.randrange(10)
        if kind < 5:
            node[key] = random.choice(_VALUES)
        elif kind == 5:
            other, its = random.choice(places)
            node[key] = json.loads(json.dumps(other[its])) if other[its] is not node else 0
        elif kind == 6:
            node[key] = [node[key]]
        elif kind == 7 and isinstance(node, dict):
            node[random.choice(("", "id", "x" * 300, "__proto__", str(key) + " ", str(key).upper()))] = node.pop(key)
        elif kind == 8 and isinstance(node, list):
            node.insert(key, node[key])
        else:
            del node[key]
    return tree


def _filled(text: str, deep: str, large: str, shared: str) -> bytes:
    for mark, new in ((_DEEP, deep), (_LARGE, large), (_SHARED, shared)):
        for quoted in (f'"{mark}"', f"'{mark}'", mark):
            text = text.replace(quoted, new)
    return text.encode("utf-8", "surrogatepass")


def in_json(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """JSON; a file of one document a line, too."""
    try:
        tree = json.loads(content)
    except ValueError:
        lines = content.splitlines()
        at = random.randrange(len(lines))
        lines[at] = in_json(lines[at], random, words) if len(lines) > 1 else damage_bytes(content, random, words)
        return b"\n".join(lines) + b"\n"
    text = json.dumps(change_tree(tree, random), ensure_ascii=random.random() < 0.5)
    return _filled(text, "[" * 4000 + "]" * 4000, random.choice(("1e400", "9" * 5000, "-" + "9" * 400)), "NaN")


def in_yaml(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """YAML."""
    if content.count(b"[") > DEEP:  # libyaml's composer calls itself, and has no bound
        return damage_bytes(content, random, words)
    tree = change_tree(yaml.load(content, _LOADER), random)  # noqa: S506  the safe one
    try:
        text = yaml.dump(tree, Dumper=_DUMPER, sort_keys=False)
    except UnicodeEncodeError:  # libyaml writes no half of a character
        text = yaml.safe_dump(tree, sort_keys=False)
    bomb = "&a [&b [&c [x,x,x,x,x,x,x,x,x],*c,*c,*c,*c,*c,*c,*c,*c],*b,*b,*b,*b,*b,*b,*b,*b]"
    return _filled(text, "[" * 900 + "]" * 900, "9" * 5000, bomb)


def in_xml(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """Tags, attributes and texts of XML."""
    parts = re.findall(rb"<[^>]*>|[^<]+", content)
    at = random.randrange(len(parts))
    kind = random.randrange(7)
    if kind == 0:
        del parts[at]
    elif kind == 1:
        parts.insert(at, parts[at])
    elif kind == 2:
        other = random.randrange(len(parts))
        parts[at], parts[other] = parts[other], parts[at]
    elif kind == 3 and parts[at].startswith(b"<"):
        parts[at] = re.sub(rb'"[^"]*"', b'"' + random.choice(words).replace(b'"', b"") + b'"', parts[at], count=1)
    elif kind == 4:
        depth = random.choice((3, 40, 3000))
        parts[at : at + 1] = [b"<a>" * depth, parts[at], b"</a>" * depth]
    elif kind == 5:
        texts = [place for place, part in enumerate(parts) if not part.startswith(b"<") and part.strip()]
        parts[random.choice(texts or [at])] = random.choice(words)
    else:
        parts[at] = damage_bytes(parts[at], random, words)
    return b"".join(parts)


def in_rows(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """Cells and lines of a table or list."""
    lines = content.split(b"\n")
    at = random.randrange(len(lines))
    kind = random.randrange(7)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(random.randrange(len(lines)), lines[at])
    elif kind == 2:
        lines.insert(at, random.choice(words))
    else:
        mark = next((mark for mark in (b",", b"\t", b" ", b"=") if mark in lines[at]), b" ")
        cells = lines[at].split(mark)
        cell = random.randrange(len(cells))
        if kind == 3:
            del cells[cell]
        elif kind == 4:
            cells.insert(cell, random.choice(cells))
        else:
            cells[cell] = random.choice(words) if kind == 5 else str(random.choice(INTEGERS)).encode()
        lines[at] = mark.join(cells)
    return b"\n".join(lines)


def _fields(message: bytes) -> list[tuple[int, int, Any]]:
    found, at = [], 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = number()
        wire = tag & 7
        if wire == 0:
            found.append((tag >> 3, 0, number()))
            continue
        length = {1: 8, 5: 4}.get(wire) or (number() if wire == 2 else -1)
        if length < 0 or at + length > len(message) or not tag >> 3:
            raise ValueError("no message")
        found.append((tag >> 3, wire, message[at : at + length]))
        at += length
    return found


def in_protobuf(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """Fields of a protocol buffer, at any depth; lengths above it stay right, but for one in ten."""
    fields = _fields(content)
    if not fields:
        return random.choice(words)
    at = random.randrange(len(fields))
    number, wire, value = fields[at]
    kind = random.randrange(12)
    if wire == 2 and kind < 7:
        try:
            value = in_protobuf(value, random, words)
        except (ValueError, IndexError):
            value = damage_bytes(value, random, words)
        fields[at] = (number, wire, value)
    elif kind == 7:
        del fields[at]
    elif kind == 8:
        fields[at:at] = [fields[at]] * random.choice((1, 1, 40))
    elif kind == 9:
        fields[at] = (random.choice((0, number + 1, number - 1, 2**29 - 1, random.randrange(1, 20))), wire, value)
    elif kind == 10:
        fields[at] = (number, 0, random.choice(INTEGERS)) if wire else (number, 2, random.choice(words))
    elif wire == 0:
        fields[at] = (number, 0, random.choice(INTEGERS))
    else:
        fields[at] = (number, wire, damage_bytes(value, random, words))
    lies = random.randrange(len(fields)) if random.random() < 0.1 else -1
    return b"".join(
        _field(*field, random.choice(INTEGERS) if place == lies else None) for place, field in enumerate(fields)
    )


def _field(number: int, wire: int, value: Any, length: int | None) -> bytes:
    from torture.writers import varint  # which brings torch: the engine itself needs none

    head = varint(max(number, 0) << 3 | wire)
    if wire == 0:
        return head + varint(value)
    return head + (varint(len(value) if length is None else length) if wire == 2 else b"") + value


def in_zip(
    inner: Mapping[str, Damage] | None = None, resign: Callable[[dict[str, bytes]], None] | None = None
) -> Damage:
    """Members of a zip archive, under right checksums.

    Args:
        inner: how a member of this end of name is damaged; others as bytes.
        resign: makes digests inside right again.
    """

    def damage(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
        old = zipfile.ZipFile(io.BytesIO(content))
        entries = old.infolist()
        parts = {entry.filename: old.read(entry) for entry in entries}
        methods = {entry.filename: entry.compress_type for entry in entries}
        name = random.choice(list(parts))
        kind = random.randrange(12)
        if kind == 0:
            del parts[name]
        elif kind == 1:
            parts[random.choice(("", "../x", "/x", name + "2", name.upper(), "x" * 300, "\n"))] = parts.pop(name)
        elif kind == 2:
            methods[name] = random.choice(
                (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
            )
        elif kind == 3:
            parts[name] = bytes(random.choice((0, 1, 2**16, 2**16, 2**20, 2**20, 2**20, 2**24)))
            methods[name] = zipfile.ZIP_DEFLATED
        else:
            how = next((d for end, d in (inner or {}).items() if name.endswith(end)), damage_bytes)
            parts[name] = structured(how, parts[name], random, words)
        if resign and random.random() < 0.8:
            resign(parts)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compresslevel=1) as archive:
            for key, part in parts.items():
                entry = zipfile.ZipInfo(key)
                entry.compress_type = methods.get(key, zipfile.ZIP_STORED)
                archive.writestr(entry, part, compresslevel=1)
        return buffer.getvalue()

    return damage


def in_tar(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """Members of a tar archive under right checksums; compressed as it was."""
    pack = next(
        (p for m, p in ((b"\x1f\x8b", gzip), (b"BZh", bz2), (b"\xfd7zXZ", lzma)) if content.startswith(m)), None
    )
    plain = pack.decompress(content) if pack else content
    with tarfile.open(fileobj=io.BytesIO(plain)) as old:
        members = [(info, old.extractfile(info).read() if info.isfile() else b"") for info in old]
    at = random.randrange(len(members))
    info, part = members[at]
    kind = random.randrange(6)
    if kind == 0:
        members.insert(at, members[at])
    elif kind == 1:
        info.name = random.choice(("../x.jpg", "/x.jpg", "x" * 300 + ".jpg", "\n.jpg", "é.jpg", "[/b].jpg", ""))
    elif kind == 2:
        info.type, info.linkname = (
            random.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b"S", b"z")),
            "/etc",
        )
        part, info.size = b"", 0
    elif kind == 3:
        info.size = random.choice((0, 1, max(len(part) - 1, 0), 2**33 - 1, 2**40))
    else:
        part = damage_bytes(part, random, words)
        info.size = len(part)
        members[at] = (info, part)
    out = bytearray()
    for info, part in members:
        out += info.tobuf(random.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))) + part + bytes(-len(part) % 512)
    out += bytes(1024)
    if random.random() < 0.2:
        out = bytearray(damage_bytes(bytes(out), random, words))
    return pack.compress(bytes(out)) if pack else bytes(out)


def in_safetensors(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """The header of a .safetensors, under its right length; texts in its metadata that are JSON, too."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    texts = header.get("__metadata__", {})
    own = next((key for key in texts if key.startswith("singleshot")), None)
    if own and random.random() < 0.6:
        texts[own] = in_json(texts[own].encode(), random, words).decode("utf-8", "replace")
        new = json.dumps(header).encode()
    else:
        new = in_json(content[8 : 8 + length], random, words)
    return struct.pack("<Q", len(new)) + new + content[8 + length :]


def in_png(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """Chunks of a PNG under right checksums."""
    chunks, at = [], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    at, kind = random.randrange(len(chunks)), random.randrange(6)
    name, data = chunks[at]
    if kind == 0:
        del chunks[at]
    elif kind == 1:
        chunks.insert(at, chunks[at])
    elif kind == 2:
        chunks[at] = (
            random.choice((b"IDAT", b"IEND", b"tRNS", b"PLTE", b"eXIf", b"acTL", b"fdAT", b"iCCP", b"abcd")),
            data,
        )
    elif kind == 3 and name == b"IDAT":
        chunks[at] = (name, zlib.compress(damage_bytes(zlib.decompressobj().decompress(data, 2**20), random, words)))
    else:
        chunks[at] = (name, damage_bytes(data, random, words))
    return content[:8] + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def in_sealed(mark: bytes, inner: Damage) -> Damage:
    """What lies before ``mark`` and a SHA-256, under a right digest."""

    def damage(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
        body = content[: -len(mark) - 32]
        body = structured(inner, body, random, words)
        return body + mark + hashlib.sha256(body).digest()

    return damage


def in_headed(inner: Damage) -> Damage:
    """JSON, a line feed and bytes, as `bodies` of requests are kept here."""

    def damage(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
        head, mark, rest = content.partition(b"\n")
        if random.random() < 0.3 and rest:
            return head + mark + damage_bytes(rest, random, words)
        return structured(inner, head, random, words).replace(b"\n", b" ") + mark + rest

    return damage


def structured(how: Damage, content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """Damage that knows the format; as bytes where an earlier damage left nothing that can be read."""
    try:
        return how(content, random, words)
    except Exception:  # the tests' own readers are as careless as they may be
        return damage_bytes(content, random, words)


def own_names(source: Path) -> tuple[bytes, ...]:
    """Names that a module quotes: a dictionary for its reader."""
    return tuple({text.encode() for text in re.findall(r'"([\w./-]{2,30})"', source.read_text(encoding="utf-8"))})
