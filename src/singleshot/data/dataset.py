"""``open``: a folder of labelled images, whatever its format, as one checked list of samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from singleshot.data import coco, csv_table, voc, yolo
from singleshot.data.problems import BadData, Problem, count_kinds, refuse
from singleshot.data.records import Layout, Records
from singleshot.data.splitting import FRACTIONS, assign_splits
from singleshot.data.validate import validate
from singleshot.errors import DataError
from singleshot.structures import ClassMap, Sample

Format = Literal["voc", "coco", "yolo", "csv"]

# In the order they are tried: a YAML or a COCO file beside VOC folders is the more deliberate statement.
READERS = {"coco": coco, "yolo": yolo, "voc": voc, "csv": csv_table}
SYNONYMS = {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"}


@dataclass(frozen=True)
class DetectionDataset:
    """Labelled images.

    Attributes:
        path: what was opened.
        samples: one entry for each usable image; pixels are not loaded.
        class_map: the classes 0..C-1, equal for all splits of the data set.
        split: the split, ``None`` for everything.
        splits: splits that the files define, or ``train``, ``val``, ``test`` of `assign_splits` where they define none.
        format: ``voc``, ``coco``, ``yolo`` or ``csv``.
        problems: every record that was noted, repaired or skipped.
        bad_data: the policy it was opened with.
    """

    path: Path
    samples: tuple[Sample, ...]
    class_map: ClassMap
    split: str | None
    splits: tuple[str, ...]
    format: Format
    problems: tuple[Problem, ...] = ()
    bad_data: BadData = "skip"

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def subset(self, indices: Sequence[int]) -> DetectionDataset:
        """The same data set with only the samples at ``indices``, in their order."""
        return dataclasses.replace(self, samples=tuple(self.samples[index] for index in indices))

    def without_empty(self) -> DetectionDataset:
        """The same data set without images that have no objects."""
        return self.subset([index for index, sample in enumerate(self.samples) if len(sample)])


def find_layout(path: Path, format: Format | Literal["auto"] = "auto") -> tuple[Format, Layout]:
    """Recognise the format of a data set without reading it.

    Raises:
        DataError: nothing is there, or no reader knows it; names what was looked for and what is there.
    """
    if not path.exists():
        raise DataError(f"{path}: no such folder or file")
    if format != "auto" and format not in READERS:
        raise DataError(f"unknown data format '{format}': use auto, {', '.join(READERS)}")
    names: list[Format] = [format] if format != "auto" else list(READERS)  # type: ignore[arg-type]
    for name in names:
        layout: Layout | None = READERS[name].find(path)
        if layout is not None:
            return name, layout
    looked = "\n  ".join(READERS[name].LOOKED_FOR for name in names)
    raise DataError(f"{path}: no labelled images found. Looked for\n  {looked}\nand found {_describe(path)}.")


def _describe(path: Path) -> str:
    """What a folder holds, in a few words."""
    if path.is_file():
        return f"a file '{path.name}'"
    entries = sorted(path.iterdir())[:1000]
    folders = [entry.name + "/" for entry in entries if entry.is_dir()]
    suffixes = [entry.suffix.lower() or "(no suffix)" for entry in entries if entry.is_file()]
    counts = [f"{suffixes.count(suffix)} {suffix} files" for suffix in dict.fromkeys(suffixes)]
    return ", ".join([*folders[:8], *counts[:8]]) or "an empty folder"


def splits(path: str | Path, format: Format | Literal["auto"] = "auto") -> tuple[str, ...]:
    """Names of the splits that the files of a data set define; empty where there is one heap."""
    return find_layout(Path(path), format)[1].splits


def open(
    path: str | Path,
    split: str | None = None,
    format: Format | Literal["auto"] = "auto",
    bad_data: BadData = "skip",
    classes: Sequence[str] | None = None,
) -> DetectionDataset:
    """Open a data set: recognise its format, read it, check every record.

    Args:
        path: a folder, a COCO ``.json``, a YOLO ``.yaml`` or a ``.csv``.
        split: one split, several joined by ``+`` (``"2007_trainval+2012_trainval"``), or ``None`` for everything. A
            data set without splits is divided by the images' names into ``train``, ``val`` and ``test`` (80/10/10).
        format: ``auto``, ``voc``, ``coco``, ``yolo`` or ``csv``.
        bad_data: ``skip`` repairs or leaves out bad records and lists them in ``problems``; ``error`` refuses them.
        classes: the classes to use, in this order; objects of other classes are skipped. Pass a model's classes to
            evaluate it. ``None`` takes the data set's.

    Raises:
        DataError: the format or the split is unknown, a file is damaged, nothing is usable, or ``bad_data="error"``.
    """
    path = Path(path)
    dataset = _open(path, find_layout(path, format), split, bad_data, classes)
    if not dataset.samples and any(problem.action == "skipped" for problem in dataset.problems):
        raise DataError(f"{path}: no usable image: {_summary(dataset.problems)}")
    return dataset


def open_splits(
    path: str | Path,
    format: Format | Literal["auto"] = "auto",
    bad_data: BadData = "skip",
    classes: Sequence[str] | None = None,
) -> tuple[DetectionDataset, dict[str, DetectionDataset]]:
    """The whole data set, and each split that its files define; parts without a usable image are empty.

    Raises:
        DataError: as `open`.
    """
    path = Path(path)
    whole = open(path, None, format, bad_data, classes)
    found = find_layout(path, format)
    return whole, {name: _open(path, found, name, bad_data, classes) for name in found[1].splits}


def _open(
    path: Path, found: tuple[Format, Layout], split: str | None, bad_data: BadData, classes: Sequence[str] | None
) -> DetectionDataset:
    name, layout = found
    hashed = not layout.splits and split is not None
    known = layout.splits or tuple(FRACTIONS)
    wanted = _resolve(path, split, known) if split is not None else None
    records = layout.read(None if hashed else wanted)
    class_map = _class_map(path, records, classes)
    samples, problems = validate(records, class_map, classes)
    if bad_data == "error":
        refuse(problems, path)
    if hashed and wanted is not None and samples:
        places = assign_splits([sample.image_path.name for sample in samples])
        samples = [sample for sample, place in zip(samples, places, strict=True) if place in wanted.split("+")]
    return DetectionDataset(path, tuple(samples), class_map, wanted, known, name, tuple(problems), bad_data)


def _summary(problems: Sequence[Problem]) -> str:
    counts = ", ".join(f"{count} {kind}" for (kind, _), count in count_kinds(problems).items())
    return f"{counts}; the first: {problems[0]}"


def _resolve(path: Path, split: str, known: tuple[str, ...]) -> str:
    """The data set's own names of the wanted splits: ``val`` also means ``valid``, ``train`` a lone ``train2017``."""

    def own_name(wanted: str) -> str:
        if wanted in known:
            return wanted
        same = [name for name in known if SYNONYMS.get(name, name) == SYNONYMS.get(wanted, wanted)]
        close = same or [name for name in known if name.rstrip("0123456789_-") == wanted]
        if len(close) == 1:
            return close[0]
        raise DataError(f"{path}: no split '{wanted}': it has {', '.join(known)}; join several with '+'")

    return "+".join(dict.fromkeys(own_name(wanted.strip()) for wanted in split.split("+")))


def _class_map(path: Path, records: Records, classes: Sequence[str] | None) -> ClassMap:
    """The data set's classes, or those asked for with the data set's ids where it knows them."""
    names = tuple(records.class_names if classes is None else classes)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: class names must differ; repeated: {', '.join(repeated)}")
    ids = dict(zip(records.class_names, records.class_ids, strict=False))
    known = all(name in ids for name in names)
    return ClassMap(names, tuple(ids[name] for name in names) if known else ())
