"""The formats of labelled images by name. Light: a format is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from singleshot.core.registry import Registry
from singleshot.core.structures import ClassMap, Sample
from singleshot.data.records import Layout
from singleshot.errors import DataError


@dataclass(frozen=True)
class Content:
    """What a writer writes; the images are put into their folder by others, where it has one.

    Attributes:
        samples: each once.
        class_map: the classes.
        source_format: the format that the samples were read from.
        splits: the samples of each split; all under ``None`` where there are no splits.
        names: the new file name of each image.
        track: wraps the list of image files where the writer reads them (a progress bar).
        shard_bytes: where the images are divided among files, a file ends once it has so many bytes.
    """

    samples: Sequence[Sample]
    class_map: ClassMap
    source_format: str
    splits: Mapping[str | None, Sequence[Sample]]
    names: Mapping[Path, str]
    track: Callable[[Sequence[Path]], Iterable[Path]] = iter
    shard_bytes: int = 2**28


def _accept_names(names: Sequence[str], used: Collection[str]) -> None:
    """Any class names will do."""


@dataclass(frozen=True)
class Writer:
    """How a data set is written.

    Attributes:
        write: puts all files but the images into a new folder.
        image_folder: where the images belong; ``None`` where the writer puts them into its own files.
        entries: what it writes at the top of the folder, besides files of splits; such a data set may be overwritten.
        split_files: suffixes of its files that are called after splits.
        needs_splits: whether an image that is in no split would be lost.
        any_class_name: whether class names may hold control characters, and spaces at their ends.
        check_names: refuses class names with a `DataError`; also gets the names of classes with objects.
        losses: what cannot be said, in sentences, of so many crowds and so many difficult objects.
        notes: what other programs will make of splits of these names, in sentences.
    """

    write: Callable[[Path, Content], None]
    image_folder: str | None
    entries: frozenset[str]
    split_files: frozenset[str] = frozenset({".txt"})
    needs_splits: bool = True
    any_class_name: bool = False
    check_names: Callable[[Sequence[str], Collection[str]], None] = _accept_names
    losses: Callable[[int, int], Iterable[str]] = lambda crowds, difficult: ()
    notes: Callable[[Sequence[str]], Iterable[str]] = lambda splits: ()


@dataclass(frozen=True)
class DataFormat:
    """One way to store labelled images.

    Attributes:
        title: how people write its name.
        looked_for: what `find` knows, for messages: ``a folder with Annotations/*.xml ...``.
        find: the layout of a data set at a path, or ``None``; a `DataError` where it is meant and damaged.
        find_anywhere: the last resort: labels beside images in whatever folders below a path.
        beside: the layout where the labels of other formats (their names) are there too, and passed over.
        writer: for formats that are written, too.
    """

    title: str
    looked_for: str
    find: Callable[[Path], Layout | None]
    find_anywhere: Callable[[Path], Layout | None] | None = None
    beside: Callable[[Layout, Collection[str]], Layout] = lambda layout, others: layout
    writer: Writer | None = None


# Of formats that say the same, the first is read; of one JSON file the first that knows it.
FORMATS: Registry[DataFormat] = Registry(
    "data format",
    {name: f"{__package__}.{name}" for name in ("labelme", "coco", "yolo", "voc")}
    | {"csv": f"{__package__}.csv_table", "rec": f"{__package__}.rec", "kitti": f"{__package__}.kitti"}
    | {"shards": f"{__package__}.shards", "parquet": f"{__package__}.parquet_tables"},
)
"""All formats; those of other packages are entry points of the group ``singleshot.data_formats``."""


def known_format(name: str) -> str:
    """The name, if it is a format's or ``auto``.

    Raises:
        DataError: it is none; names those that there are.
    """
    if name != "auto" and name not in FORMATS:
        raise DataError(f"unknown data format '{name}': use auto, {', '.join(FORMATS)}")
    return name


def writer_of(name: str) -> Writer:
    """How a format is written.

    Raises:
        DataError: it is not written; names those that are.
    """
    writer = FORMATS.get(name).writer if name in FORMATS else None
    if writer is None:
        raise DataError(f"cannot write the format '{name}': use {', '.join(writers())}")
    return writer


def writers() -> dict[str, Writer]:
    """All formats that are written."""
    return {name: writer for name in FORMATS if (writer := FORMATS.get(name).writer)}
