"""Which images are learnt, and which are measured on: the same answer for ``train``, ``eval`` and ``data check``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from singleshot.core.wording import counted
from singleshot.data.bad_records import BadData, summarise
from singleshot.data.class_list import alike_names
from singleshot.data.dataset import DetectionDataset, divide
from singleshot.data.decisions import Decisions, as_decisions
from singleshot.data.opening import open_found
from singleshot.data.published import AUTO, ChosenSplits, PublishedSplits, choose_published
from singleshot.data.recognise import FoundSet, own_splits, recognise
from singleshot.data.split_names import HELD_OUT, TRAINING, Role, choose_split, split_role
from singleshot.data.splitting import MIN_HELD_OUT
from singleshot.errors import DataError

Load = Callable[[str | None, Sequence[str] | None], DetectionDataset]
"""Opens a split, or everything, with some classes, or the data set's own."""


def open_training(
    path: str | Path,
    train: str = AUTO,
    val: str = AUTO,
    format: str = "auto",
    bad_data: BadData = "skip",
    *,
    classes: Sequence[str] | None = None,
    lower_names: bool = False,
    decisions: Decisions | str | os.PathLike[str] | None = None,
    published: PublishedSplits | None = None,
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """The images to learn from and those to measure on; ``None`` where nothing is measured, and ``notes`` say why.

    A data set with splits of its own keeps them. Where none of them is to be measured on, a part of the training split
    is held out; a data set without splits is divided (`assign_splits`).

    Args:
        path: of the data set.
        train, val: splits; ``auto`` chooses by their names, ``val="none"`` measures nothing.
        format, bad_data, classes, lower_names, decisions: see `singleshot.data.open`.
        published: the splits that ``auto`` takes where the data set is the one that they divide.

    Raises:
        DataError: the data cannot be read, no split is recognisable, one that was asked for is empty, or the two share
            images; VOC's devkit, or COCO, lacks a published split.
    """
    found, decided = recognise(Path(path), format), as_decisions(decisions)

    def load(split: str | None, names: Sequence[str] | None) -> DetectionDataset:
        wanted = classes if names is None else names
        return open_found(
            found,
            split,
            bad_data,
            wanted,
            lenient=split is not None,
            lower_names=lower_names,
            decisions=decided,
        )

    chosen = choose_published(found, published, train, val) if published else ChosenSplits(train, val)
    train_set, val_set = choose_training(found, load, chosen.train, chosen.val)
    alike = alike_names(train_set.class_map.names)
    return dataclasses.replace(train_set, notes=(*chosen.notes, *train_set.notes, *alike)), val_set


def choose_training(
    found: FoundSet, load: Load, train: str = AUTO, val: str = AUTO
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """`open_training` of a data set that was recognised, by whatever opens its splits."""
    own = own_splits(found)
    if not own:
        return _from_heap(found, load, train, val)
    name = train if train != AUTO else choose_split(TRAINING, own, found.path, "train")
    if name is None:
        raise DataError(
            f"{found.path}: none of its splits ({', '.join(own)}) is called train: name the one to learn from by "
            "`train`, and the one to measure on by `val`"
        )
    train_set = load(name, None)
    _refuse_empty(train_set)
    if val == "none":
        return train_set, None
    if val != AUTO:
        return train_set, _measured(train_set, load(val, train_set.class_map.names), asked=True)
    return _with_held_out(found, load, train_set, own)


def _from_heap(found: FoundSet, load: Load, train: str, val: str) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Parts of a data set without splits, read once."""
    whole = load(None, None)
    train_set = divide(whole, ("train",), ()) if train == AUTO else load(train, None)
    _refuse_empty(train_set)
    if val == "none":
        return train_set, None
    if val != AUTO:
        return train_set, _measured(train_set, load(val, train_set.class_map.names), asked=True)
    return _or_nothing(train_set, divide(whole, ("val",), ()))


def _with_held_out(
    found: FoundSet, load: Load, train_set: DetectionDataset, own: Sequence[str]
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """The first held-out split that has images, else a part of the training split."""
    taken = set((train_set.split or "").split("+"))
    left = [name for name in own if name not in taken]
    empty: list[str] = []
    for role in _held_out_order(train_set.split or ""):
        name = choose_split((role,), left, found.path, "val")
        val_set = load(name, train_set.class_map.names) if name else None
        if val_set is not None and len(val_set):
            measured = _measured(train_set, val_set, asked=False)
            return train_set, dataclasses.replace(measured, notes=(*empty, *measured.notes))
        if name:
            empty.append(f"split '{name}' has no images and is passed over")
    named = [reason for key, reason in found.missing.items() if split_role(key) == "val"]
    if named:
        raise DataError(f"{named[0]}; or measure on nothing with `val='none'`")
    train_part, val_part = (divide(train_set, (part,), own) for part in ("train", "val"))
    notes = (*train_part.notes, *empty)
    return _or_nothing(dataclasses.replace(train_part, notes=notes), val_part)


def _held_out_order(train_split: str) -> tuple[Role, ...]:
    """``val`` first; after a ``trainval``, which holds ``val``, ``test`` first."""
    return ("test", "val") if split_role(train_split) == "trainval" else HELD_OUT


def _refuse_empty(dataset: DetectionDataset) -> None:
    if not len(dataset):
        where = f"split '{dataset.split}'"
        reason = f": {dataset.problems[0]}" if dataset.problems else ""
        raise DataError(f"{dataset.path}: {where} has no usable images{reason}")


def _measured(train_set: DetectionDataset, val_set: DetectionDataset, asked: bool) -> DetectionDataset:
    """The split to measure on, with a note where nothing can be measured on it.

    Raises:
        DataError: it was asked for and is empty, or shares images with the training split.
    """
    if asked:
        _refuse_empty(val_set)
    shared = {sample.image_path for sample in train_set} & {sample.image_path for sample in val_set}
    if shared:  # numbers on images that were learnt are worth nothing
        raise DataError(
            f"{train_set.path}: splits '{train_set.split}' and '{val_set.split}' share {len(shared)} images, such as "
            f"{min(shared).name}: choose others by `train` and `val`"
        )
    return _remark(val_set)


def _remark(val_set: DetectionDataset) -> DetectionDataset:
    """Add what makes numbers worth little: no objects, few images."""
    notes, images = list(val_set.notes), counted(len(val_set), "image")
    if not any(len(sample) - int(sample.iscrowd.sum()) for sample in val_set):
        why = next((f": {p.message}" for p in val_set.problems if p.kind == "no-labels"), "")
        notes.append(f"nothing can be measured on '{val_set.split}' ({images}): there is no object{why}")
    elif len(val_set) < MIN_HELD_OUT:
        few = "is little" if len(val_set) == 1 else "are few"
        notes.append(
            f"{images} to measure on {few}: differences between numbers, and which weights are best, are mostly chance"
        )
    return dataclasses.replace(val_set, notes=tuple(notes))


def _or_nothing(
    train_set: DetectionDataset, val_set: DetectionDataset
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """The two parts of a division; too few images leave none to measure on."""
    if len(val_set):
        return train_set, _remark(dataclasses.replace(val_set, notes=()))
    note = f"{counted(len(train_set), 'image')}: too few to hold some out, so nothing is measured"
    return dataclasses.replace(train_set, notes=(*train_set.notes, note)), None


def remarks(*datasets: DetectionDataset | None) -> list[str]:
    """What to say of some splits before work begins: decisions, then problems by kind; each once."""
    opened = [dataset for dataset in datasets if dataset is not None]
    notes = [note for dataset in opened for note in dataset.notes]
    problems = list(dict.fromkeys(problem for dataset in opened for problem in dataset.problems))
    lines = summarise(problems)
    if lines:
        lines.append(f"'singleshot data check {opened[0].path}' lists them")
    return list(dict.fromkeys([*notes, *lines]))


def open_held_out(
    path: str | os.PathLike[str],
    split: str | None = None,
    format: str = "auto",
    *,
    learnt: bool = True,
    classes: Sequence[str] | None = None,
    lower_names: bool = False,
    decisions: Decisions | str | os.PathLike[str] | None = None,
) -> DetectionDataset:
    """What to evaluate a detector on: the split asked for, else what training leaves out, best ``test``.

    Args:
        path: of the data set.
        split: a split, or ``all`` for everything; ``None`` takes the first of ``test`` and ``val`` that has objects,
            else the part that training holds out.
        format, classes, lower_names, decisions: see `singleshot.data.open`.
        learnt: whether the detector may have been trained on this data; if not, a data set without splits is measured
            as a whole.

    Raises:
        DataError: the data cannot be read, has no such split, or the split asked for has no images.
    """
    found, decided = recognise(Path(path), format), as_decisions(decisions)

    def read(name: str | None, *, lenient: bool = False) -> DetectionDataset:
        return open_found(found, name, classes=classes, lenient=lenient, lower_names=lower_names, decisions=decided)

    if split is not None:
        dataset = read(None if split == "all" else split, lenient=split != "all")
        _refuse_empty(dataset)
        return dataset
    own = own_splits(found)
    notes: list[str] = []
    if not own and not learnt:
        return read(None)
    held_out = [read(name, lenient=True) for name in _held_out_names(found, own)]
    best = next((dataset for dataset in held_out if any(map(len, dataset))), max(held_out, key=len, default=None))
    if best is not None and len(best):
        for other in held_out[: held_out.index(best)]:
            lacks = "labelled objects" if len(other) else "images"
            notes.append(f"split '{other.split}' has no {lacks} and is passed over")
        if not own:
            notes = [f"'{best.split}' is measured, which training leaves out; `split='all'` measures every image"]
        return dataclasses.replace(best, notes=(*best.notes, *notes))
    whole = read(None)
    notes.append("nothing is held out: every image is measured, also those that a training on this data learns")
    return dataclasses.replace(whole, notes=(*whole.notes, *notes))


def _held_out_names(found: FoundSet, own: Sequence[str]) -> list[str]:
    """Splits that training leaves out, best first."""
    if not own:
        return ["test", "val"]
    roles: tuple[Role, ...] = ("test", "val")
    names = [choose_split((role,), own, found.path, "split") for role in roles]
    training = all(split_role(name) in TRAINING for name in own)
    return [name for name in names if name] or (["val"] if training and len(own) == 1 else [])
