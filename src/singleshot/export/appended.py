"""Texts in a zip archive: behind the end of a file whose format has no place for them, or a part of one that is a zip.

TensorFlow Lite's metadata lays a model's files (its labels) behind its end: a reader of the model stops before them,
``unzip`` finds them.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from singleshot.errors import WeightsError
from singleshot.export.info import MAX_INFO_CHARS

MAX_TEXTS = 16
MAX_BYTES = 16 * MAX_INFO_CHARS
DIGEST = "sha256"
"""Of all that lies before the texts: what reads the model itself may trust its numbers blindly."""


def append_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Lay texts behind the end of a file; a fixed date keeps equal exports equal files."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (*texts.items(), (DIGEST, digest)):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)


def read_appended(path: Path) -> dict[str, str]:
    """What `append_texts` laid behind a file, if that is still the same file; nothing where nothing is.

    Raises:
        WeightsError: the file, or what lies behind it, is damaged.
    """
    if not zipfile.is_zipfile(path):
        return {}
    texts = read_texts(path)
    if not texts:
        return texts
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        size = min(entry.header_offset for entry in archive.infolist())
        if DIGEST in texts and hashlib.sha256(file.read(size)).hexdigest() != texts[DIGEST]:
            raise WeightsError(f"{path}: is not what its digest says: damaged; export it again")
    return texts


def read_texts(path: Path, folder: str = "") -> dict[str, str]:
    """Texts of an archive.

    Args:
        path: the archive.
        folder: where in it they are, below its only root: ``extra``; other entries are left alone.

    Raises:
        WeightsError: the archive is damaged, or unpacks to more than texts have.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if _is_in(entry.filename, folder)]
            if len(entries) > MAX_TEXTS or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise ValueError("larger than one is")
            return {entry.filename.rpartition("/")[2]: archive.read(entry).decode() for entry in entries}
    except Exception as error:  # damaged zips make zipfile, zlib and the decoder raise a dozen types
        raise WeightsError(f"{path}: its description is damaged ({error}); export it again") from error


def _is_in(name: str, folder: str) -> bool:
    """``root/extra/singleshot`` is in ``extra``; ``singleshot`` in the archive itself."""
    return name.partition("/")[2].rpartition("/")[0] == folder if folder else "/" not in name
