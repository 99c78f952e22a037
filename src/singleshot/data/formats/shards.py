"""Tar shards as WebDataset's tools read and write them; ours have an index, of others it is made once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import is_regular, read_text
from singleshot.core.json_text import parse_json
from singleshot.data.bad_records import Problem
from singleshot.data.column_types import text_keys
from singleshot.data.formats.registry import FORMATS, DataFormat
from singleshot.data.formats.shard_scan import holds_labels, scan_shard
from singleshot.data.formats.shard_writer import FOLDER, INDEX, SHARDS, VERSION
from singleshot.data.formats.yolo_names import find_class_list, stand_in
from singleshot.data.headers import upright_sizes
from singleshot.data.notation import Form
from singleshot.data.paths import visible
from singleshot.data.records import Records
from singleshot.data.split_names import names_split
from singleshot.errors import DataError
from singleshot.images.shard_index import ShardIndex, find_index, keep_index

TAR = ".tar"
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")
MAX_PATTERN = 1_000_000


@dataclass(frozen=True)
class ShardLayout:
    """Shards on disk.

    Attributes:
        root: the folder of the data set.
        files: the tars of each split; the key of a data set without splits is ``""``.
        classes: names and ids of the classes in their order, as our index says; ``None`` for foreign shards.
        names: the names that a list beside foreign shards gives to numbers.
        problems: what was noted while it was recognised.
        open_file: reads what a file holds.
    """

    root: Path
    files: dict[str, tuple[Path, ...]]
    classes: tuple[tuple[str, ...], tuple[int, ...]] | None = None
    names: tuple[str, ...] | None = None
    problems: tuple[Problem, ...] = ()
    open_file: Callable[[Path], ShardIndex] = lambda tar: open_shard(tar)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``train`` for ``train-000000.tar``."""
        return tuple(name for name in self.files if name)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every shard."""
        forms: tuple[Form, ...] = ("size", "centre", "corners") if self.classes is None else ()
        records = Records(forms=forms, states_sizes=False, problems=list(self.problems))
        names = list(self.files) if split is None else split.split("+")
        wanted = [index for name in names for index in self._indices[name]]
        records.class_names, records.class_ids = self._classes(records)
        sizes = [np.zeros((0, 2), np.int32)]
        for index in wanted:
            add_shard(records, index, None if self._by_number else records.class_names, self._copies)
            sizes.append(index.columns["sizes_hw"])
        records.known_sizes = upright_sizes(np.concatenate(sizes))
        return records

    def indices(self, splits: Sequence[str]) -> list[ShardIndex]:
        """Of the shards of some splits, each once; ``""`` is the one of a data set without splits."""
        return list({index.tar: index for name in splits for index in self._indices[name]}.values())

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes, whatever the split."""
        return self._classes(Records())[0]

    def class_places(self, index: ShardIndex) -> NDArray[np.int64]:
        """Where the classes of a shard are among `class_names`, ``[C]``.

        Raises:
            DataError: the data set does not name one of them.
        """
        return _places(index, None if self._by_number else self.class_names)

    @cached_property
    def _indices(self) -> dict[str, tuple[ShardIndex, ...]]:
        return {name: tuple(map(self.open_file, files)) for name, files in self.files.items()}

    @cached_property
    def _copies(self) -> dict[tuple[Path, int], str]:
        """The path of the first copy of images that later splits hold, too: such an image counts once."""
        if len(self.files) < 2:
            return {}
        indices = [index for part in self._indices.values() for index in part if len(index.columns["digests"])]
        starts = np.cumsum([0, *map(len, indices)])
        keys = text_keys(index.name(row) for index in indices for row in range(len(index)))
        for index, start in zip(indices, starts.tolist(), strict=False):
            keys[start : start + len(index)] ^= index.columns["digests"][:, :8].copy().view(np.int64)[:, 0]
        _, first, groups = np.unique(keys, return_index=True, return_inverse=True)

        def place(image: int) -> tuple[ShardIndex, int]:
            shard = int(np.searchsorted(starts, image, "right")) - 1
            return indices[shard], image - int(starts[shard])

        copies = {}
        for later in np.flatnonzero(first[groups] != np.arange(len(keys))).tolist():
            (copy, row), (index, original) = place(later), place(int(first[groups[later]]))
            copies[copy.tar, row] = f"{index.tar}/{index.name(original)}"
        return copies

    @cached_property
    def _by_number(self) -> bool:
        """Whether the labels of all shards are numbers, which a list beside them names."""
        indices = (index for part in self._indices.values() for index in part)
        return self.classes is None and all(_is_numbered(index) for index in indices)

    def _classes(self, records: Records) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Names and ids of all classes, whatever the split."""
        if self.classes is not None:
            return self.classes
        indices = [index for part in self._indices.values() for index in part]
        if not self._by_number:
            names = tuple(sorted({name for index in indices for name in index.class_names}))
        else:
            count = max((len(index.class_names) for index in indices), default=0)
            names = self.names or ()
            if count > len(names):
                records.unnamed = self.names is None
                place = self.root / "classes.txt"
                message = (
                    f"no list names classes {len(names)} to {count - 1}: put their names, one a line, into {place}"
                )
                records.add_problem(self.root, None, "unnamed-class", message, "noted")
                names += tuple(map(stand_in, range(len(names), count)))
        return names, tuple(range(len(names)))


def open_shard(tar: Path) -> ShardIndex:
    """The index of a tar, made and kept where it has none.

    Raises:
        DataError: it is missing, no tar, or compressed.
    """
    if not is_regular(tar):
        raise DataError(f"{tar}: there is no such shard")
    index = find_index(tar)
    if index is None:
        index = scan_shard(tar)
        keep_index(index)
    return index


def add_shard(
    records: Records, index: ShardIndex, class_names: Sequence[str] | None, copies: Mapping[tuple[Path, int], str]
) -> None:
    """Append the images and objects of a shard; copies have the path of the first one.

    Args:
        records: these are appended to.
        index: of the shard.
        class_names: of the data set, by which classes are found; ``None`` where labels are the numbers themselves.
        copies: see `ShardLayout`.

    Raises:
        DataError: it has a class that is not one of ``class_names``.
    """
    first, tar, columns = len(records.images), str(index.tar), index.columns
    for row in range(len(index)):
        name = index.name(row)
        image_id = index.ids[row] if index.ids else PurePath(name).stem
        path = copies.get((index.tar, row)) or f"{tar}/{name}"
        records.images.add(path, image_id, index.tar, objects_file=index.tar)
    for member, kind, message in index.problems:
        noted = kind == "orphan-label"
        records.add_problem(index.tar / member, None, kind, message, "noted" if noted else "skipped")
    ids = _places(index, class_names)
    if records.class_ids:
        ids = np.array(records.class_ids, np.int64)[ids]
    count = len(columns["class_ids"])
    records.add_objects(
        first + np.repeat(np.arange(len(index)), np.diff(columns["bounds"])),
        boxes=columns["boxes_xyxy"].astype(np.float64),
        labels=ids[columns["class_ids"]] if count else np.zeros(0, np.int64),
        difficult=columns["difficult"],
        iscrowd=columns["iscrowd"],
        areas=columns["areas"].astype(np.float64),
        lines=np.zeros(count, np.int64),
        keys=[None] * count,
    )


def _places(index: ShardIndex, class_names: Sequence[str] | None) -> NDArray[np.int64]:
    """Where the classes of a shard are among others, ``[C]``; ``None``: they are numbers themselves."""
    places = {name: place for place, name in enumerate(index.class_names if class_names is None else class_names)}
    unknown = [name for name in index.class_names if name not in places]
    if unknown:
        raise DataError(
            f"{index.tar}: has a class {unknown[0]!r} that the data set does not name: convert the data set again"
        )
    return np.array([places[name] for name in index.class_names], np.int64)


def _is_numbered(index: ShardIndex) -> bool:
    """Whether the labels are the numbers from 0 on."""
    return index.class_names == tuple(map(str, range(len(index.class_names))))


def find(path: Path) -> ShardLayout | None:
    """Recognise shards at ``path``: a tar, a pattern such as ``train-{000000..000009}.tar``, or a folder of them.

    Raises:
        DataError: our index names shards that are missing, or is damaged.
    """
    if path.is_dir():
        if is_regular(path / INDEX) and (layout := _ours(path)):
            return layout
        tars = visible(path, TAR)
    else:
        tars = [path] if is_regular(path) and path.suffix.lower() == TAR else expand(path)
    if not tars or not holds_labels(tars[0]):
        return None
    groups: dict[str, list[Path]] = {}
    for tar in tars:
        groups.setdefault(re.sub(r"[-_.]?\d+$", "", tar.stem), []).append(tar)
    if len(groups) == 1 and not names_split(next(iter(groups))):
        groups = {"": tars}
    root = path if path.is_dir() else path.parent
    names, problems = find_class_list([root])
    return ShardLayout(root, {name: tuple(files) for name, files in groups.items()}, None, names, tuple(problems))


def expand(path: Path) -> list[Path]:
    """The files that a pattern names, ``a-{000..003}.tar`` or ``{train,val}.tar``; none where it has no braces.

    Raises:
        DataError: these are more than `MAX_PATTERN`.
    """
    text = str(path)
    parts = _BRACES.split(text)
    if len(parts) < 3:
        return []
    choices: list[list[str]] = []
    for number, part in enumerate(parts):
        found = _RANGE.fullmatch(part) if number % 2 else None
        if found and int(found[2]) - int(found[1]) < MAX_PATTERN:
            width = len(found[1])
            choices.append([f"{value:0{width}d}" for value in range(int(found[1]), int(found[2]) + 1)])
        else:
            choices.append(part.split(",") if number % 2 else [part])
    if math.prod(map(len, choices)) > MAX_PATTERN:
        raise DataError(f"{path}: names more than {MAX_PATTERN:,} shards")
    return [Path("".join(chosen)) for chosen in product(*choices)]


def _ours(folder: Path) -> ShardLayout | None:
    """The data set that ``index.json`` describes; ``None`` where the file is another program's."""
    file = folder / INDEX
    try:
        told = parse_json(read_text(file).text)
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict) or "singleshot_shards" not in told:
        return None
    if told["singleshot_shards"] != VERSION:
        raise DataError(f"{file}: shards of version {told['singleshot_shards']}; this singleshot reads {VERSION}")
    try:
        names, ids = tuple(map(str, told["classes"])), tuple(map(int, told["class_ids"]))
        if not len(set(names)) == len(names) == len(np.array(ids, np.int64)):  # OverflowError: one is no id
            raise ValueError(f"{len(names)} classes and {len(ids)} ids")
        has_splits = bool(told["has_splits"])
        sizes = {_place(folder, one): int(one["bytes"]) for part in told["splits"].values() for one in part}
        splits = {name: tuple(_place(folder, one) for one in part) for name, part in told["splits"].items()}
        files = splits if has_splits else {"": next(iter(splits.values()))}
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, OverflowError) as error:
        raise DataError(f"{file}: the index is damaged ({error!r}): convert the data set again") from error
    missing = [tar for tar in sizes if not is_regular(tar)]
    if missing:
        raise DataError(f"{file}: {len(missing)} of {len(sizes)} shards are missing, such as {missing[0]}")
    problems = tuple(
        Problem(tar, None, "stale-index", "noted", f"has not the {size:,} bytes that {file} says: read anew")
        for tar, size in sizes.items()
        if tar.stat().st_size != size
    )
    return ShardLayout(folder, files, (names, ids), None, problems)


def _place(folder: Path, shard: Mapping[str, object]) -> Path:
    """A shard's file; an index leads nowhere else."""
    return folder / FOLDER / PurePath(str(shard["file"])).name


FORMATS.register("shards")(
    DataFormat(
        "Tar shards",
        "tars of images with .json or .txt labels of the same name (WebDataset), or `convert`'s index.json and shards/",
        find,
        writer=SHARDS,
    )
)
