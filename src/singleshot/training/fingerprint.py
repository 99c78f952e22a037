"""What a run learns from, in short, so that a resumed run can tell whether its data is still the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from singleshot.core.files import read_text, write_atomically
from singleshot.core.structures import Sample
from singleshot.data import DetectionDataset
from singleshot.errors import ConfigError
from singleshot.images.packed import image_stamp

FILE = "data.json"
NAMED = 3


def fingerprint(*datasets: DetectionDataset | None) -> dict[str, dict[str, str]]:
    """A digest of each image's file size and labels, by split and name.

    Args:
        datasets: the training and the held-out images.
    """
    return {
        place: {_name(sample, dataset.path): _digest(sample) for sample in dataset} if dataset else {}
        for place, dataset in zip(("train", "val"), datasets, strict=True)
    }


def keep_fingerprint(folder: Path, found: Mapping[str, Any]) -> None:
    """Write it into the folder of a run."""
    write_atomically(folder / FILE, json.dumps(found) + "\n")


def compare_fingerprint(folder: Path, found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What has changed since the run began, for a person; says so too where that is not known."""
    try:
        before = json.loads(read_text(folder / FILE).text)
        changes = [_changes(place, before[place], found[place]) for place in found]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [f"{folder / FILE} is missing or damaged: whether the data is that of the run's beginning is not known"]
    return [line for line in changes if line]


def check_classes(run: Sequence[str], data: Sequence[str], folder: Path) -> None:
    """A resumed run has the classes that it began with.

    Raises:
        ConfigError: other names, or another order: every number would mean another class.
    """
    if tuple(run) != tuple(data):
        raise ConfigError(
            f"the classes of the data are not those of the run in {folder}:\n  run:  {', '.join(run)}\n  data: "
            f"{', '.join(data)}\nGive the data its old classes in their old order, or start a new run from the "
            f"weights: `weights={str(folder / 'last.safetensors')!r}`"
        )


def _name(sample: Sample, data: Path) -> str:
    """Relative to the data, which may be moved."""
    root = data if data.is_dir() else data.parent
    return os.path.relpath(sample.image_path, root)


def _digest(sample: Sample) -> str:
    digest = hashlib.blake2b(digest_size=8)
    try:
        digest.update(str(image_stamp(sample.image_path).size).encode())
    except OSError:
        digest.update(b"missing")
    for array in (sample.boxes_xyxy, sample.class_ids, sample.iscrowd, sample.difficult):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _changes(place: str, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    kinds = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed in labels or content": [name for name in now if name in before and now[name] != before[name]],
    }
    parts = [f"{len(names):,} {kind} ({_some(names)})" for kind, names in kinds.items() if names]
    what = {"train": "training", "val": "held-out"}[place]
    return f"{what} images since the run began: {', '.join(parts)}; the run goes on with the new data" if parts else ""


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(name.encode("utf-8", "replace").decode() for name in sorted(names)[:NAMED])
    return shown + (" ..." if len(names) > NAMED else "")
