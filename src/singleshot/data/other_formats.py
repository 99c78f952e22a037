"""Label files of programs that are not read, by their tell-tale keys: what an error says they look like."""

from __future__ import annotations

import re
from pathlib import Path

from singleshot.data.paths import visible
from singleshot.files import is_regular

HEAD_BYTES = 65536
_SIGNS: tuple[tuple[str, str], ...] = (
    ("VGG Image Annotator (VIA)", r'"_via_(img_metadata|settings)"|"regions"\s*:'),
    ("VoTT", r'"assets"\s*:|"visitedFrames"'),
    ("Label Studio", r'"from_name"\s*:|"rectanglelabels"'),
    ("CreateML", r'"coordinates"\s*:'),
    ("Datumaro", r'"categories"\s*:[^\[]*"label"'),
    ("Supervisely", r'"classTitle"\s*:'),
    ("BDD100K", r'"box2d"\s*:'),
    ("Labelbox", r'"Labeled Data"|"data_row"'),
    ("a COCO file without boxes or categories", r'"images"\s*:\s*\['),
    ("VIA csv", r"region_shape_attributes"),
    ("CVAT for images", r"<annotations>[\s\S]*<image "),
)
_SUFFIXES = (".json", ".ndjson", ".jsonl", ".csv", ".xml", ".tfrecord", ".record", ".parquet")


def describe_foreign(path: Path) -> str:
    """A sentence about label files that are there and not read; empty where there is none."""
    files = [path] if is_regular(path) else []
    files += visible(path, *_SUFFIXES) + visible(path / "annotations", *_SUFFIXES)
    for file in files[:100]:
        kind = _kind(file)
        if kind:
            return f" {file} looks like {kind}, which is not read: export the labels as VOC, COCO or YOLO."
    return ""


def _kind(file: Path) -> str:
    if file.suffix.lower() in (".tfrecord", ".record"):
        return "TFRecord"
    if file.suffix.lower() == ".parquet":
        return "Parquet"
    try:
        with file.open("rb") as handle:
            head = handle.read(HEAD_BYTES).decode("latin-1")
    except OSError:
        return ""
    return next((name for name, sign in _SIGNS if re.search(sign, head)), "")
