"""The labelled data that a detector is measured on, and whether anything on it can be measured."""

from __future__ import annotations

import os
from collections.abc import Sequence

from singleshot.core.wording import counted
from singleshot.data import Decisions, DetectionDataset
from singleshot.data.dataset import check_open
from singleshot.data.train_val import open_held_out
from singleshot.errors import DataError
from singleshot.evaluation.collect import objects_of
from singleshot.evaluation.metrics.class_match import match_classes


def open_measurable(
    data: DetectionDataset | str | os.PathLike[str],
    split: str | None,
    format: str,
    classes: Sequence[str] | None,
    lower_names: bool,
    decisions: Decisions | str | os.PathLike[str] | None,
) -> DetectionDataset:
    """The data set at a path, its held-out split by default; one that is open stays as it is.

    Raises:
        DataError: the data cannot be read.
        ConfigError: one of the others comes with an open data set, where it would do nothing.
    """
    if not isinstance(data, DetectionDataset):
        return open_held_out(data, split, format, classes=classes, lower_names=lower_names, decisions=decisions)
    check_open(split=split, format=format, classes=classes, lower_names=lower_names, decisions=decisions)
    return data


def check_measurable(dataset: DetectionDataset, class_names: Sequence[str], use_difficult: bool) -> None:
    """Refuse what cannot be measured before the network runs.

    Raises:
        DataError: no image, or no object of a class that the model knows; says which.
    """
    split = f"split '{dataset.split}' of " if dataset.split else ""
    where = f"{split}{dataset.path}"
    if not len(dataset):
        raise DataError(f"{where} has no images: nothing can be measured. Name another `split`")
    truth = objects_of(dataset.samples, use_difficult)
    if not len(truth):
        raise DataError(
            f"{where} has {counted(len(dataset), 'image')} and not one labelled object: nothing can be measured. If "
            f"there should be some, 'singleshot data check {dataset.path}' says where labels were looked for"
        )
    shared = truth.relabel(match_classes(class_names, dataset.class_map.names).data_to_shared(len(dataset.class_map)))
    if shared.ignored.all():
        reason = "only difficult or crowd objects" if len(shared) else "no object"
        raise DataError(f"{where} has {reason} of the classes that the model knows: nothing can be measured")
