"""Label files of programs that are not read, by their tell-tale keys: what an error says they look like."""

from __future__ import annotations

import re
from pathlib import Path

from singleshot.core.files import decode_text, is_regular
from singleshot.data.file_index import list_files
from singleshot.data.paths import visible
from singleshot.images.packed import container_kind

HEAD_BYTES = 65536
_SIGNS: tuple[tuple[str, str], ...] = (
    ("VoTT", r'"assets?"\s*:|"visitedFrames"'),
    ("Ultralytics NDJSON", r'"type"\s*:\s*"dataset"'),
    ("COCO results (detections without images)", r'^\s*\[\s*\{[^{}]*"score"\s*:'),
    ("Azure Custom Vision", r'"tagName"\s*:'),
    ("an AWS Ground Truth manifest", r'"source-ref"\s*:'),
    ("metadata of a Hugging Face image folder", r'"file_name"[\s\S]*"objects"\s*:\s*\{'),
    ("VGG Image Annotator (VIA)", r'"_via_(img_metadata|settings)"|"regions"\s*:'),
    ("Label Studio", r'"from_name"\s*:|"rectanglelabels"'),
    ("CreateML", r'"coordinates"\s*:'),
    ("Datumaro", r'"categories"\s*:[^\[]*"label"'),
    ("Supervisely", r'"classTitle"\s*:'),
    ("BDD100K", r'"box2d"\s*:'),
    ("Labelbox", r'"Labeled Data"|"data_row"'),
    ("a COCO file without boxes or categories", r'"images"\s*:\s*\['),
    ("VIA csv", r"region_shape_attributes"),
    ("CVAT for images", r"<annotations>[\s\S]*<image "),
    ("a table with all numbers of a box in one column", r"^[^\n{]*\bbbox\b"),
    ("a table of classes of whole images", r"^filename(, ?[^,\n]+)+\r?\n[^,\n]+(, ?[01])+\r?\n"),
    ("DOTA", r"^(imagesource:|gsd:|([0-9.]+ ){8}\D)"),
    ("VisDrone or MOT Challenge", r"^(\d+,){7}\d+"),
    ("WIDER FACE", r"^[^\n]+\.jpe?g\r?\n\d+\s*\r?\n(\d+ ){9}"),
    ("a list of images with their boxes (keras-yolo3, YOLOv4)", r"^\S+\.\w+( (\d+,){4}\d+)+\s*(\n|$)"),
)
_SUFFIXES = {".json", ".ndjson", ".jsonl", ".csv", ".xml", ".tfrecord", ".record", ".parquet", ".manifest", ".txt"}
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"}
# Label files may be a few folders down: ``ds/ann/a.jpg.json``.
_DEPTH, _MOST = 3, 100


def describe_foreign(path: Path) -> str:
    """A sentence about an archive, or label files that are there and not read; empty where there is none."""
    if container_kind(path) not in ("", "rec") and is_regular(path):
        return f" {path} is an archive: unpack it, and name the folder."
    files = [path] if is_regular(path) else [path / name for name in list_files(path, _SUFFIXES, _DEPTH)]
    texts = [file for file in files if file.suffix.lower() == ".txt"]  # of which there may be lists and the like first
    others = [file for file in files if file.suffix.lower() != ".txt"]
    for file in (*others[:_MOST], *texts[:_MOST]):
        kind = _kind(file)
        if kind:
            return f" {file} looks like {kind}, which is not read: export the labels as VOC, COCO or YOLO."
    for table in (file for file in others if file.suffix.lower() == ".csv"):
        columns = _first_line(table)
        if columns:
            return f" The first line of {table} is '{columns}': the columns' names tell what is in them."
    archives = (entry for entry in visible(path) if entry.suffix.lower() in _ARCHIVES and is_regular(entry))
    return next((f" {file} is an archive: unpack it." for file in archives), "")


def _first_line(table: Path) -> str:
    try:
        with table.open("rb") as file:
            head = file.read(1024)
        return decode_text(head[: head.rfind(b"\n") + 1] or head).text.strip().partition("\n")[0].strip()[:200]
    except (OSError, UnicodeDecodeError):
        return ""


def _kind(file: Path) -> str:
    if file.suffix.lower() in (".tfrecord", ".record"):
        return "TFRecord"
    if file.suffix.lower() == ".parquet":
        return "Parquet without images and their boxes"
    try:
        with file.open("rb") as handle:
            head = handle.read(HEAD_BYTES).decode("latin-1")
    except OSError:
        return ""
    return next((name for name, sign in _SIGNS if re.search(sign, head)), "")
