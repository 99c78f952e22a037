"""What a training run's page shows besides the evaluation: its curves, its data, and images as the network saw them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from singleshot.core.structures import Batch
from singleshot.core.wording import counted, listed
from singleshot.data import DetectionDataset
from singleshot.images.draw import class_colour, draw_box, draw_label
from singleshot.report.chart import PAGE_PX
from singleshot.report.page import Cell, Figure, Figures, Section, Table, Text
from singleshot.report.plots import Series, training_curve

DIGEST_LETTERS = 16
MOST_CLASSES = 300


def curve_section(losses: Series, scores: Series, rate: Series) -> Section:
    """Losses and scores over the steps, and below them the learning rate; each as wide as the page.

    Args:
        losses, scores, rate: lines by name over the step.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figures = [
        Figure(training_curve(losses, scores), "Losses (left scale) and scores on the held-out images (right scale)"),
        Figure(training_curve(rate, y_label="learning rate"), "Learning rate"),
    ]
    return Section("Training", [Figures(figures, PAGE_PX - 60)])


def data_section(train_set: DetectionDataset, val_set: DetectionDataset | None, rule: str) -> Section:
    """What was learnt from and what was measured on.

    Args:
        train_set, val_set: the data.
        rule: how the held-out images were chosen, as a sentence.
    """
    parts = {"learnt from": train_set} | ({"measured on": val_set} if val_set else {})
    names = train_set.class_map.names
    rows: list[list[Cell]] = [
        [
            part,
            dataset.split or "all",
            len(dataset),
            sum(not len(sample) for sample in dataset),
            sum(len(sample) for sample in dataset),
            data_digest(dataset),
        ]
        for part, dataset in parts.items()
    ]
    counts = [_objects_by_class(dataset, len(names)) for dataset in parts.values()]
    by_class: list[list[Cell]] = [
        [name, *(int(count[index]) for count in counts)] for index, name in enumerate(names[:MOST_CLASSES])
    ]
    more = f" The first {MOST_CLASSES} of {len(names):,}." if len(names) > MOST_CLASSES else ""
    return Section(
        "Data",
        [
            Text(f"{train_set.path} ({train_set.format}), {counted(len(names), 'class')}.\n\n{rule}"),
            Table(
                ["", "split", "images", "of them without objects", "objects", "digest"],
                rows,
                caption="The digest is equal where image names, sizes, classes and boxes are.",
            ),
            Table(
                ["class", *(f"objects {part}" for part in parts)],
                by_class,
                caption=f"Objects by class.{more}",
            ),
        ],
    )


def batch_section(batch: Batch, class_names: Sequence[str], image_names: Sequence[str]) -> Section:
    """Images of a training batch with their objects, as the network sees them.

    Args:
        batch: images on 0..255, before normalisation.
        class_names: by class id.
        image_names: of the whole data set, by the position that ``batch.indices`` says.
    """
    images = batch.images.clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
    boxes_xyxy, class_ids, valid = batch.boxes_xyxy.numpy(), batch.class_ids.numpy(), batch.valid.numpy()
    figures = []
    for row, index in enumerate(batch.indices.tolist()):
        picture = np.ascontiguousarray(images[row]).copy()
        objects = np.flatnonzero(class_ids[row] >= 0)
        for place in objects.tolist():
            class_id = int(class_ids[row, place])
            draw_box(picture, boxes_xyxy[row, place], class_colour(class_id), dashed=not valid[row, place])
            draw_label(picture, boxes_xyxy[row, place], class_names[class_id], class_colour(class_id))
        figures.append(Figure(picture, f"{image_names[index]}: {counted(len(objects), 'object')}"))
    text = (
        "The first images that the network learnt from, after augmentation, at the size of its input. Dashed boxes are "
        "not learnt: crowds, and difficult objects where these are left out."
    )
    return Section("Training images", [Text(text), Figures(figures, 230)])


def data_digest(dataset: DetectionDataset) -> str:
    """16 letters that tell whether two data sets have the same image names, sizes, classes and boxes, in any order."""
    digests = sorted(
        hashlib.sha256(
            b"\0".join(
                [
                    sample.image_path.name.encode(errors="surrogateescape"),
                    np.array(sample.image_size_hw, np.int64).tobytes(),
                    np.asarray(sample.class_ids, np.int64).tobytes(),
                    np.asarray(sample.boxes_xyxy, np.float32).tobytes(),
                ]
            )
        ).digest()
        for sample in dataset
    )
    names = "\0".join(dataset.class_map.names).encode(errors="surrogateescape")
    return hashlib.sha256(b"".join([names, *digests])).hexdigest()[:DIGEST_LETTERS]


def held_out_rule(train_set: DetectionDataset, val_set: DetectionDataset | None, own_splits: Sequence[str]) -> str:
    """How the held-out images were chosen.

    Args:
        train_set, val_set: the data.
        own_splits: the splits that the data set's files define.
    """
    if val_set is None:
        return "Nothing was held out: no number says how good the detector is on other images."
    if val_set.split in own_splits:
        return f"The splits are the data set's own: {listed(own_splits)}."
    return (
        f"The data set has no held-out split of its own: {counted(len(val_set), 'image')} of "
        f"{len(val_set) + len(train_set):,} were held out by a hash of their names, the same on every machine."
    )


def _objects_by_class(dataset: DetectionDataset, count: int) -> np.ndarray:
    ids = [sample.class_ids for sample in dataset]
    return np.bincount(np.concatenate(ids) if ids else np.zeros(0, int), minlength=count)
