"""Files that are handed over as images and are none: videos, archives, lists; and what must not be opened."""

from __future__ import annotations

import os
from pathlib import Path

from singleshot.core.files import is_regular
from singleshot.errors import ImageError
from singleshot.images.read import image_size

_OTHER_FILES = {
    "is a video: `singleshot predict VIDEO` and `Detector.stream` take it": (
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".3gp", ".flv", ".mts"),
    ),
    "is an archive: unpack it, and name the folder": (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"),
    "is text, not an image; to detect in the files that it lists: xargs -d '\\n' singleshot predict < FILE": (
        *(".txt", ".lst", ".list", ".csv", ".tsv"),
    ),
    "holds labels or settings, not an image": (".json", ".jsonl", ".xml", ".yaml", ".yml"),
    "holds weights: name them as such (weights)": (".safetensors", ".pt", ".pth", ".onnx", ".params", ".caffemodel"),
}


def other_file(path: Path) -> str | None:
    """What a file is by its suffix that is no image, with what to do instead; ``None`` where it may be one."""
    what = next((what for what, suffixes in _OTHER_FILES.items() if path.suffix.lower() in suffixes), None)
    if what is None or not is_regular(path):
        return None
    try:
        image_size(path)
    except ImageError:
        return what
    return None


def check_readable(path: Path) -> None:
    """Refuse what must not be opened, or is no image; a file that does not exist is left to the reader.

    Raises:
        ImageError: a link to nothing, a pipe or device, a video, an archive, a list.
    """
    if is_regular(path):
        other = other_file(path)
        if other:
            raise ImageError(f"{path}: {other}")
    elif path.exists() and not path.is_dir():
        raise ImageError(f"{path}: is a pipe or a device, not a file: save the image first")
    elif path.is_symlink() and not path.exists():
        raise ImageError(f"{path}: is a link to {os.readlink(path)}, which does not exist")
