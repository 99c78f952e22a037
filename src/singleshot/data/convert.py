"""Write a data set in another format: images are copied or linked, splits and the order of the classes are kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from singleshot.core.files import check_output_folder
from singleshot.core.filled_folder import filled_folder, restore_folder
from singleshot.core.structures import Sample
from singleshot.data.bad_records import BadData, Problem
from singleshot.data.convert_names import check_class_names, describe_renamed, target_names
from singleshot.data.dataset import DetectionDataset
from singleshot.data.decisions import Decisions, as_decisions
from singleshot.data.formats.registry import FORMATS, Content, Writer, writer_of, writers
from singleshot.data.opening import open_splits
from singleshot.data.split_names import names_split
from singleshot.errors import OutputError
from singleshot.images.packed import find_container, image_bytes

Track = Callable[[Sequence[Path]], Iterable[Path]]
UNLISTED = "unlisted"
"""The split of images that are in none of the source's, for formats in which such images would be lost."""


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        images, objects: written, each counted once.
        splits: images of each split; empty where the source has none.
        problems: what was wrong with the source.
        losses: what the new format cannot say, in sentences.
        notes: what was named otherwise, in sentences.
    """

    images: int
    objects: int
    splits: dict[str, int]
    problems: tuple[Problem, ...]
    losses: tuple[str, ...]
    notes: tuple[str, ...] = ()


def convert(
    source: str | Path,
    destination: str | Path,
    to: str,
    *,
    format: str = "auto",
    images: Literal["copy", "link"] = "copy",
    bad_data: BadData = "skip",
    classes: Sequence[str] | None = None,
    decisions: Decisions | str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    shard_size: int = 256,
    track: Track = iter,
) -> Conversion:
    """Read a data set of any format and write it as ``to``; after an error the destination is as it was.

    Args:
        source: see `singleshot.data.open`.
        destination: a new or empty folder, neither in the source nor around it.
        to: the format to write: ``voc``, ``coco``, ``yolo``, ``rec``, ``shards``, ``parquet``, or another package's
            that has a writer.
        format: the source's format.
        images: ``copy`` the image files, or ``link`` to them (symbolic links), which needs files on both sides.
        bad_data: policy for bad records of the source.
        classes: the classes to keep, in this order.
        decisions: see `singleshot.data.open`.
        overwrite: whether a data set that a conversion wrote may be replaced.
        shard_size: MiB of each file, where the images go into several (``shards``, ``parquet``).
        track: wraps the list of image files while they are copied (a progress bar).

    Raises:
        DataError: the source cannot be read, or a class has a name that the format cannot hold.
        OutputError: the destination is not empty, or in the way of the source, or images cannot be linked.
        OSError: something cannot be written; names the file.
    """
    source, destination = Path(source), Path(destination)
    writer = writer_of(to)
    replaceable = _is_ours if overwrite else None
    restored = restore_folder(destination)
    check_output_folder(destination, replaceable=replaceable, sources=[source])
    whole, parts = open_splits(source, format, bad_data, classes, as_decisions(decisions))
    paths = list(dict.fromkeys(sample.image_path for sample in whole.samples))
    check_output_folder(destination, replaceable=replaceable, sources={path.parent for path in paths} - {source.parent})
    used = {whole.class_map.names[index] for sample in whole.samples for index in sample.class_ids.tolist()}
    check_class_names(whole.class_map.names, FORMATS.get(to).title, writer.any_class_name)
    writer.check_names(whole.class_map.names, used)
    if images == "link":
        _check_links(writer, to, paths)
    names = target_names(paths)
    splits = _splits(whole, parts, writer)
    with filled_folder(destination) as folder:
        content = Content(whole.samples, whole.class_map, whole.format, splits, names, track, shard_size * 2**20)
        writer.write(folder, content)
        if writer.image_folder is not None:
            _place_images(folder / writer.image_folder, names, images, track)
    counts = {name: len(samples) for name, samples in splits.items() if name is not None}
    objects = sum(map(len, whole))
    notes = [*whole.notes, *describe_renamed(names)]
    if UNLISTED in splits and UNLISTED not in parts:
        others = len(splits[UNLISTED])
        notes.append(f"{others} images are in no split of the source: they are written as split '{UNLISTED}'")
    notes += writer.notes(list(counts))
    if restored:
        notes.append(f"{destination}: what a conversion that was killed had moved aside was put back first")
    crowds = sum(int(sample.iscrowd.sum()) for sample in whole.samples)
    difficult = sum(int(sample.difficult.sum()) for sample in whole.samples)
    losses = tuple(writer.losses(crowds, difficult))
    return Conversion(len(whole), objects, counts, whole.problems, losses, tuple(notes))


def _is_ours(name: str) -> bool:
    """Whether an entry of a folder is of a kind that conversions write."""
    path = PurePath(name)
    of_split = names_split(path.stem) or path.stem == UNLISTED
    known = writers().values()
    return any(name in writer.entries or (of_split and path.suffix in writer.split_files) for writer in known)


def _splits(
    whole: DetectionDataset, parts: Mapping[str, DetectionDataset], writer: Writer
) -> dict[str | None, Sequence[Sample]]:
    """The samples of each split; all of them under ``None`` where there are no splits."""
    if not parts:
        return {None: whole.samples}
    splits: dict[str | None, Sequence[Sample]] = {name: part.samples for name, part in parts.items()}
    listed = {sample.image_path for part in parts.values() for sample in part.samples}
    others = [sample for sample in whole.samples if sample.image_path not in listed]
    return splits | {UNLISTED: others} if others and writer.needs_splits else splits


def _check_links(writer: Writer, to: str, paths: Sequence[Path]) -> None:
    """Refuse links from or into files that hold images.

    Raises:
        OutputError: names the file or the format.
    """
    if writer.image_folder is None:
        raise OutputError(f"{FORMATS.get(to).title} holds its images in its own files, not as links: copy them")
    packed = next((found for path in paths if (found := find_container(path))), None)
    if packed:
        raise OutputError(f"{packed[0]}: images inside it cannot be linked to: copy them")


def _place_images(folder: Path, names: Mapping[Path, str], images: Literal["copy", "link"], track: Track) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in track(list(names)):
        target = folder / names[path]
        try:
            if images == "link":
                target.symlink_to(path.resolve())
            elif find_container(path):
                target.write_bytes(image_bytes(path))
            else:
                shutil.copyfile(path, target)
        except OSError as error:  # a full disk is reported without a name by some systems
            raise OSError(error.errno, f"{error.strerror or error} (copying {path})", str(target)) from error
