"""``open``: a folder of labelled images, whatever its format, as one checked list of samples."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from singleshot.core.lazy import lazy_module
from singleshot.core.settings import PreprocessConfig
from singleshot.core.structures import ClassMap, Sample
from singleshot.core.transforms import Transform
from singleshot.core.wording import listed
from singleshot.data.bad_records import BadData, Problem, count_kinds, refuse
from singleshot.data.class_list import lower_class_names, named_by_order
from singleshot.data.dataset import DetectionDataset, divide
from singleshot.data.decided import apply_decisions
from singleshot.data.decisions import Decisions, as_decisions
from singleshot.data.recognise import FoundSet, own_splits, recognise, report_unexplained
from singleshot.data.records import Records
from singleshot.data.sample_table import SampleTable
from singleshot.data.split_names import TRAINING, resolve_split, split_role
from singleshot.data.splitting import PARTS
from singleshot.data.validate import validate
from singleshot.errors import DataError

if TYPE_CHECKING:
    from singleshot.data import torch_dataset
else:
    torch_dataset = lazy_module("singleshot.data.torch_dataset")


def splits(path: str | Path, format: str = "auto") -> tuple[str, ...]:
    """Names of the splits that the files of a data set define; empty where there is one heap."""
    return own_splits(recognise(Path(path), format))


@overload
def open(
    path: str | Path,
    split: str | None = None,
    format: str = "auto",
    bad_data: BadData = "skip",
    classes: Sequence[str] | None = None,
    *,
    lower_names: bool = False,
    decisions: Decisions | str | os.PathLike[str] | None = None,
) -> DetectionDataset: ...


@overload
def open(
    path: str | Path,
    split: str | None = None,
    format: str = "auto",
    bad_data: BadData = "skip",
    classes: Sequence[str] | None = None,
    *,
    lower_names: bool = False,
    decisions: Decisions | str | os.PathLike[str] | None = None,
    transform: Transform | None,
    size: int | str | Sequence[int] | None = None,
    preprocess: PreprocessConfig | None = None,
) -> torch_dataset.TorchDataset: ...


def open(
    path: str | Path,
    split: str | None = None,
    format: str = "auto",
    bad_data: BadData = "skip",
    classes: Sequence[str] | None = None,
    *,
    lower_names: bool = False,
    decisions: Decisions | str | os.PathLike[str] | None = None,
    transform: Transform | None = None,
    size: int | str | Sequence[int] | None = None,
    preprocess: PreprocessConfig | None = None,
) -> DetectionDataset | torch_dataset.TorchDataset:
    """Open a data set: recognise its format, read it, check every record.

    Args:
        path: a folder, a COCO or LabelMe ``.json``, a YOLO ``.yaml``, a ``.csv``, ``.rec``,
            ``.tar`` or ``.parquet``.
        split: one split, several joined by ``+`` (``"2007_trainval+2012_trainval"``), or ``None`` for everything. A
            data set without splits is divided by the images' names into ``train``, ``val`` and ``test``
            (`assign_splits`); of one that has only a training split, ``val`` is the part of it that training holds out.
        format: ``auto``, ``voc``, ``coco``, ``yolo``, ``csv``, ``labelme``, ``rec``, ``kitti``, ``shards``,
            ``parquet``, or another package's.
        bad_data: ``skip`` repairs or leaves out bad records and lists them in ``problems``; ``error`` refuses them.
        classes: the classes to use, in this order; objects of other classes are skipped. Pass a model's classes to
            evaluate it. ``None`` takes the data set's. Where nothing names those, these are their names by number.
        lower_names: whether class names are taken in lower case, without spaces at their ends, so that ``Person`` and
            ``person`` are one class (as in ssd.pytorch).
        decisions: a file of decisions (``singleshot browse``): objects and images to leave out, other classes.
        transform, size, preprocess: any of them gives a torch data set for a training loop of one's own, as
            `DetectionDataset.torch` does.

    Raises:
        DataError: the format or the split is unknown, a file is damaged, nothing is usable, or ``bad_data="error"``.
        ConfigError: as `DetectionDataset.torch`.
    """
    found, decided = recognise(Path(path), format), as_decisions(decisions)
    dataset = open_found(found, split, bad_data, classes, lower_names=lower_names, decisions=decided)
    if transform is None and size is None and preprocess is None:
        return dataset
    return dataset.torch(transform, size, preprocess)


def open_splits(
    path: str | Path,
    format: str = "auto",
    bad_data: BadData = "skip",
    classes: Sequence[str] | None = None,
    decisions: Decisions | None = None,
) -> tuple[DetectionDataset, dict[str, DetectionDataset]]:
    """The whole data set, and each split that its files define; parts without a usable image are empty.

    Raises:
        DataError: as `open`.
    """
    found = recognise(Path(path), format)
    whole = open_found(found, None, bad_data, classes, decisions=decisions)
    names = whole.class_map.names  # a split's file alone may have fewer classes, or number them otherwise
    return whole, {
        name: open_found(found, name, bad_data, names, lenient=True, decisions=decisions) for name in own_splits(found)
    }


def open_found(
    found: FoundSet,
    split: str | None,
    bad_data: BadData = "skip",
    classes: Sequence[str] | None = None,
    *,
    lenient: bool = False,
    lower_names: bool = False,
    decisions: Decisions | None = None,
) -> DetectionDataset:
    """Open a data set that was recognised; see `open`.

    Args:
        lenient: whether a split of which nothing is usable is empty, not an error.
    """
    own = own_splits(found)
    base, parts, name = _select(found, own, split)
    records = found.layout.read(base)
    lowered = lower_class_names(records) if lower_names else []
    if classes is not None:
        records = named_by_order(records, classes, found.path)
    class_map = _class_map(found.path, records, classes)
    read_map, asked = class_map, classes
    if decisions and classes is not None:  # an object may be relabelled to one of the classes asked for
        asked = tuple(dict.fromkeys((*classes, *records.class_names)))
        read_map = ClassMap(asked)
    read, problems = validate(records, read_map, asked)
    problems += found.problems
    if base is None:
        problems += report_unexplained(found.path, records)
    if bad_data == "error":
        refuse(problems, found.path)
    samples: Sequence[Sample] = _without(read, records, found.left_out)
    if not samples and not lenient and any(problem.action == "skipped" for problem in problems):
        raise DataError(f"{found.path}: no usable image: {_summary(problems)}")
    known = own or PARTS
    decided = None
    if decisions:
        lower = decisions.lowered() if lower_names else decisions
        decided = apply_decisions(lower, found.path, samples, read_map.names, len(class_map), name)
        samples = decided.samples
        problems += decided.problems
    dataset = DetectionDataset(
        found.path,
        samples,
        class_map,
        name,
        known,
        found.format,
        tuple(dict.fromkeys(problems)),
        bad_data,
        (
            *([f"class names are taken in lower case: {listed(lowered)}"] if lowered else ()),
            *(decided.notes if decided else ()),
        ),
        unlabelled=tuple(records.unlabelled),
        dropped=decided.dropped if decided else (),
    )
    return divide(dataset, parts, own) if parts else dataset


def _select(found: FoundSet, own: Sequence[str], split: str | None) -> tuple[str | None, tuple[str, ...], str | None]:
    """What to read, which of our own parts of it to take (none: all), and the name of the result."""
    if split is None:
        return None, (), None
    if not own:
        parts = resolve_split(split, PARTS, found.path).split("+")
        return None, tuple(parts), "+".join(parts)
    training = [name for name in own if split_role(name) in TRAINING]
    if split_role(split) == "val" and len(training) == len(own) == 1 and not found.missing:
        return training[0], ("val",), training[0]
    for name in (name.strip() for name in split.split("+")):
        for missing, reason in found.missing.items():
            role = split_role(name)
            if name == missing or (role and role == split_role(missing) and role not in map(split_role, own)):
                raise DataError(reason)
    name = resolve_split(split, own, found.path)
    return name, (), name


def _without(samples: SampleTable, records: Records, left_out: frozenset[str]) -> SampleTable:
    """The samples without those images that only a format which is not read has labels of."""
    if not left_out:
        return samples
    paths, labelled = records.images.paths, records.images.labelled
    kept = [
        place
        for place, row in enumerate(samples.rows.tolist())
        if labelled[row] or os.path.realpath(paths[row]) not in left_out
    ]
    return samples.take(kept)


def _summary(problems: Sequence[Problem]) -> str:
    bad = [problem for problem in problems if problem.action == "skipped"]
    counts = ", ".join(f"{count} {kind}" for (kind, _), count in count_kinds(bad).items())
    return f"{counts}; the first: {bad[0]}"


def _class_map(path: Path, records: Records, classes: Sequence[str] | None) -> ClassMap:
    """The data set's classes, or those asked for with the data set's ids where it knows them."""
    names = tuple(records.class_names if classes is None else classes)
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise DataError(f"{path}: class names must differ; repeated: {', '.join(repeated[:10])}")
    ids = dict(zip(records.class_names, records.class_ids, strict=False))
    known = all(name in ids for name in names)
    twice = [own for own, count in Counter(ids.values()).items() if count > 1]
    if twice:
        raise DataError(f"{path}: class ids must differ; repeated: {', '.join(map(str, twice[:10]))}")
    return ClassMap(names, tuple(ids[name] for name in names) if known else ())
