"""Images in zip archives: each is found by the archive's table, and unpacked into memory when it is asked for.

(PKWARE, APPNOTE.TXT, sections 4.3.7 and 4.4.)
"""

from __future__ import annotations

import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from singleshot.images.archive import (
    MAX_ENTRIES,
    ArchiveContent,
    BoundedFile,
    check_size,
    container_of,
    read_bounded,
    remembered,
)
from singleshot.images.packed import CONTAINERS

_LOCAL_HEAD = struct.Struct("<4s22xHH")
MAX_TABLE_BYTES = 2**27
"""A million entries have about 100 MB of names and numbers."""

_ENCRYPTED = 0x1 | 0x40
_UTF8 = 0x800
_BACKSLASHES = (0, 10, 14)
"""Systems (FAT, NTFS, VFAT) that write them between folders; elsewhere they belong to the name."""
_UNIX = 3
# Deflate unpacks no further than it is told; the others unpack all of what they are given.
_STEP, _SMALL_STEP = 2**18, 2**12


@dataclass(frozen=True, slots=True)
class ZippedImage:
    """An image of an archive.

    Attributes:
        container: the archive.
        entry: its line of the archive's table.
    """

    container: Path
    entry: zipfile.ZipInfo

    @property
    def size(self) -> int:
        """Bytes of the image file, unpacked."""
        return self.entry.file_size

    def open(self) -> BinaryIO:
        """The image file, in memory, once its checksum is right.

        Raises:
            OSError: it is encrypted, damaged, too large, or packed in a way that is not read.
        """
        if self.entry.flag_bits & _ENCRYPTED:
            raise OSError("it is encrypted: unpack the archive with its password, and name the folder")
        check_size(self.size)
        plain = self.entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        try:
            with self.container.open("rb") as file:
                _skip_head(file, self.entry)
                with zipfile.ZipExtFile(file, "r", self.entry) as packed:
                    return io.BytesIO(read_bounded(cast(BinaryIO, packed), self.size, _STEP if plain else _SMALL_STEP))
        except NotImplementedError as error:
            raise OSError(f"its {error} is not read: unpack the archive, and name the folder") from None
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error) as error:
            raise OSError(f"it is damaged inside its archive ({error})") from None


def _skip_head(file: BinaryIO, entry: zipfile.ZipInfo) -> None:
    """Go to where the packed bytes of an entry begin."""
    file.seek(entry.header_offset)
    magic, name, extra = _LOCAL_HEAD.unpack(file.read(_LOCAL_HEAD.size))
    if magic != b"PK\x03\x04":
        raise zipfile.BadZipFile("no entry begins where the archive's table says")
    file.seek(name + extra, os.SEEK_CUR)


@remembered
def read_zip(path: Path) -> ArchiveContent:
    """What an archive holds, by its table; remembered while the file does not change.

    Raises:
        OSError: it cannot be read, or is no zip archive.
    """
    content = ArchiveContent()
    for entry in _table(path):
        name = _name_of(entry)
        kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == _UNIX else 0
        if entry.filename[-1:] in ("", "/") or kind == stat.S_IFDIR or name.endswith("/"):
            continue
        if kind not in (0, stat.S_IFREG):
            content.pass_over("links and devices inside an archive", name)
        elif wanted := content.wanted(name):
            content.add(wanted, ZippedImage(path, entry))
    return content


def _table(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(cast(IO[bytes], BoundedFile(file, MAX_TABLE_BYTES))) as archive:
            entries = archive.infolist()
    except NotImplementedError as error:
        raise OSError(None, f"it is a zip archive of a kind that is not read ({error})") from None
    except UnicodeDecodeError:
        raise OSError(
            None, "it holds a name that is marked as UTF-8 and is none: pack it again, or unpack it"
        ) from None
    except (zipfile.BadZipFile, struct.error, ValueError, EOFError) as error:
        why = f"it is no zip archive, or is cut off ({error}): copy or download it again"
        raise OSError(None, why) from None
    if len(entries) > MAX_ENTRIES:
        raise OSError(None, f"it holds {len(entries):,} files, over the limit of {MAX_ENTRIES:,}: unpack it")
    return entries


def _name_of(entry: zipfile.ZipInfo) -> str:
    """The name as it was meant: many programs write UTF-8 and do not say so, and zip's own encoding is cp437."""
    name = entry.orig_filename
    if not entry.flag_bits & _UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/") if entry.create_system in _BACKSLASHES else name


CONTAINERS.register("zip")(container_of(read_zip))
