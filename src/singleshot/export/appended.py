"""Texts behind the end of a file whose format has no place for them, as a zip archive.

TensorFlow Lite's metadata lays a model's files (its labels) so: a reader of the model stops before them, ``unzip``
finds them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from singleshot.errors import WeightsError
from singleshot.export.info import MAX_INFO_CHARS

MAX_TEXTS = 16
MAX_BYTES = 16 * MAX_INFO_CHARS


def append_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Lay texts behind the end of a file; a fixed date keeps equal exports equal files."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)


def read_texts(path: Path, folder: str = "") -> dict[str, str]:
    """The texts of an archive that is, or ends, a file; none where there is no archive.

    Args:
        path: the file.
        folder: where in the archive they are, as ``extra/`` below its only root; other entries are left alone.

    Raises:
        WeightsError: the archive is damaged, or unpacks to more than texts have.
    """
    if not zipfile.is_zipfile(path):
        return {}
    texts = {}
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if _is_in(entry.filename, folder)]
            if len(entries) > MAX_TEXTS or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise WeightsError(f"{path}: its description is larger than one is: damaged; export it again")
            for entry in entries:
                with archive.open(entry) as file:
                    texts[entry.filename.rpartition("/")[2]] = file.read(entry.file_size).decode()
    except WeightsError:
        raise
    except Exception as error:  # damaged zips make zipfile, zlib and the decoder raise a dozen types
        raise WeightsError(f"{path}: its description is damaged; export it again ({error})") from error
    return texts


def _is_in(name: str, folder: str) -> bool:
    """``root/extra/singleshot`` is in ``extra/``; ``singleshot`` in the archive itself."""
    return ("/" not in name) if not folder else name.partition("/")[2].rpartition("/")[0] == folder.rstrip("/")
