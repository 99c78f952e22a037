"""What VOC folders hold: annotations by key, lists of splits, and the image of each."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from singleshot.data.bad_records import Problem
from singleshot.data.class_list import find_class_list, settle_classes
from singleshot.data.file_index import FileIndex, list_files, stem_of
from singleshot.data.formats.voc_lists import Names, SplitList, find_lists, listed_name, read_lines, without_flag
from singleshot.data.formats.voc_xml import VocFile, parse_voc
from singleshot.data.records import ImageRecord, Records
from singleshot.data.split_names import names_split
from singleshot.images.read import IMAGE_SUFFIXES

Named = dict[str, tuple[Path, int | None]]
"""Key of an annotation -> the file that names it, and the line."""


@dataclass(frozen=True)
class VocPart:
    """One VOC folder: a year of a devkit, a flat split folder, or the whole data set.

    Annotations go by keys: their path below ``annotations`` without the suffix, ``im0`` or ``day1/im0``.

    Attributes:
        prefix: put before its split names: ``"2007_"`` in a devkit, ``""`` elsewhere.
        root: the folder.
        annotations, images: its two folders, which may be the same.
        split: the name of the split that all of it is, if it is one.
    """

    prefix: str
    root: Path
    annotations: Path
    images: Path
    split: str | None = None

    @cached_property
    def keys(self) -> dict[str, Path]:
        """The annotation files by key, in the order of their names."""
        files = [path for path in self._xml if "/" not in path] if self.is_flat else self._xml
        return {stem_of(path): self.annotations / path for path in files}

    @cached_property
    def _xml(self) -> list[str]:
        return list_files(self.annotations, {".xml"})

    @property
    def is_flat(self) -> bool:
        """Whether the annotations lie beside the images, right in the part's folder."""
        return self.annotations == self.root and any("/" not in path for path in self._xml)

    @property
    def unread(self) -> int:
        """How many XML files lie deeper than those that are read."""
        return len(self._xml) - len(self.keys)

    @cached_property
    def lists(self) -> dict[str, SplitList]:
        """Its splits: by lists, by folders of the annotations that are called as splits, or one in whole."""
        if self.split is not None:
            return {self.split: SplitList()}
        if found := find_lists(self.root, self.keys):
            return found
        folders = {key.partition("/")[0] if "/" in key else "" for key in self.keys}
        by_name = bool(folders) and any(map(names_split, folders))
        return {folder: SplitList(folder=f"{folder}/") for folder in sorted(folders)} if by_name else {}

    @cached_property
    def near(self) -> FileIndex:
        """The images of the images' folder."""
        return FileIndex(self.images, IMAGE_SUFFIXES)

    @cached_property
    def far(self) -> FileIndex:
        """All images of the part."""
        return self.near if self.images == self.root else FileIndex(self.root, IMAGE_SUFFIXES)

    @cached_property
    def names(self) -> Names:
        """Finds keys by what lists write."""
        return Names(self.keys)

    @cached_property
    def by_filename(self) -> dict[str, str]:
        """Stem of the image that an annotation names -> its key, for lists that name images called otherwise."""
        parsed = ((key, parse_voc(path)) for key, path in self.keys.items())
        return {listed_name(voc.filename): key for key, voc in parsed if isinstance(voc, VocFile) and voc.filename}

    def members(self, splits: Iterable[SplitList]) -> Named:
        """The annotations of some splits, each once; one that is listed and missing has its line for a key."""
        named: Named = {}
        for split in splits:
            if not split.files:
                named |= {key: (path, None) for key, path in self.keys.items() if key.startswith(split.folder)}
            for file in split.files:
                for number, line in read_lines(file):
                    text = without_flag(line) if split.flags else line
                    if text.strip():
                        named.setdefault(self._key(text), (file, number))
        return named

    def _key(self, text: str) -> str:
        return self.names.find(text) or self.by_filename.get(listed_name(text)) or f"//{text.strip()}"

    def find_image(self, key: str, filename: str) -> Path | None:
        """The image of an annotation: of its own name; else the one that it names, near before far."""
        suffix = PurePosixPath(filename).suffix
        name = filename.replace("\\", "/")
        beside = f"{os.path.dirname(key)}/{name}".strip("/")
        if found := self.near.with_stem(key, suffix):
            return self.images / found
        found = next((path for path in (name, beside) if path and path in self.near), None)
        found = found or (self.near.ending_like(name) if name else None)
        if found is not None:  # another annotation's own image is not this one's
            return self.images / found if stem_of(found) not in self.keys else None
        found = self.far.stem_ending_like(key) or (self.far.ending_like(name) if name else None)
        return self.root / found if found else None


@dataclass(frozen=True)
class VocLayout:
    """VOC on disk: one or more parts.

    Attributes:
        root: the data set's folder.
        parts: its folders.
        has_class_list: whether a list of classes in the folder is VOC's, not another tool's.
    """

    root: Path
    parts: tuple[VocPart, ...]
    has_class_list: bool = True

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``trainval``; in a devkit ``2007_trainval``, and ``trainval`` for all years together."""
        full = [part.prefix + name for part in self.parts for name in part.lists]
        plain = [name for part in self.parts for name in part.lists] if len(self.parts) > 1 else []
        return tuple(dict.fromkeys(full + plain))

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every annotation file.

        Read as a whole, the lists are compared too: what they name and what is not there is a problem.
        """
        records = Records(one_based=True)
        for part in self.parts:
            if split is None:
                _read_whole(records, part)
                continue
            lists = [part.lists[name] for name in part.lists if _names(part, name, split)]
            used: dict[Path, str] = {}
            for key, where in part.members(lists).items():
                _read_image(records, part, key, where, used)
            if part.split is not None and lists:
                _report_unlabelled(records, part, used)
        listed = find_class_list(self.root, records) if self.has_class_list else None
        settle_classes(records, listed, self._used_names)
        return records

    def _used_names(self) -> set[str]:
        """The class names of every annotation file, whatever the split."""
        parsed = (parse_voc(path) for part in self.parts for path in part.keys.values())
        return {item.name for voc in parsed if isinstance(voc, VocFile) for item in voc.objects if item.name}


def _names(part: VocPart, name: str, split: str) -> bool:
    """Whether ``split`` asks for a part's list, by its own name or with the year."""
    return not {name, part.prefix + name}.isdisjoint(split.split("+"))


def _read_whole(records: Records, part: VocPart) -> None:
    """Append every annotated image of a part, what its lists name and lack, and images without an annotation."""
    used: dict[Path, str] = {}
    for key, path in part.keys.items():
        _read_image(records, part, key, (path, None), used)
    for key, where in part.members(part.lists.values()).items():
        if key not in part.keys:
            _read_image(records, part, key, where, used)
    if part.unread:
        message = f"{part.unread} .xml files in folders below are not read, as there are some beside the images"
        records.add_problem(part.root, None, "not-read", message, "noted")
    _report_unlabelled(records, part, used)


def _read_image(
    records: Records, part: VocPart, key: str, where: tuple[Path, int | None], used: dict[Path, str]
) -> None:
    """Append one image and its objects, or the problem that keeps it out; add the image to ``used``."""
    xml = part.keys.get(key)
    voc = parse_voc(xml) if xml else None
    if xml is None or voc is None:
        text = key.removeprefix("//")
        image = part.find_image(text, text)
        message = f"'{text}' has no annotation file {part.annotations / (listed_name(text) + '.xml')}"
        records.add_problem(*where, "missing-annotation", message)
        records.unlabelled.append(image or part.images / f"{listed_name(text)}.jpg")
        _use(used, image, key)
        return
    if isinstance(voc, Problem):
        records.problems.append(voc)
        if voc.kind == "unreadable-annotation":
            _use(used, part.find_image(key, ""), key)
        return
    path = part.find_image(key, voc.filename)
    if path in used:
        message = f"{path} is also the image of '{used[path]}'"
        records.add_problem(xml, None, "duplicate-image", message)
        return
    _use(used, path, key)
    path = path or _expected_image(records, part, key, xml, voc.filename)
    _add_image(records, path, key, xml, voc)


def _use(used: dict[Path, str], path: Path | None, key: str) -> None:
    if path is not None:
        used.setdefault(path, key)


def _expected_image(records: Records, part: VocPart, key: str, xml: Path, filename: str) -> Path:
    """Where an image should be that was not found; never outside of the data set."""
    parts = filename.replace("\\", "/").split("/")
    if ".." in parts or (not parts[0] and filename) or ":" in parts[0]:
        message = f"<filename> '{filename}' leads outside of the data set and is not followed"
        records.add_problem(xml, None, "outside-folder", message, "noted")
        parts = parts[-1:]
    named = parts[-1] not in ("", "..") and "/".join(parts) not in part.near  # that one is another annotation's
    return part.images.joinpath(*parts) if named else part.images / f"{key}.jpg"


def _add_image(records: Records, path: Path, key: str, xml: Path, voc: VocFile) -> None:
    if voc.guessed_encoding:
        message = f"not in the encoding that it states; read as {voc.guessed_encoding}"
        records.add_problem(xml, None, "encoding", message, "noted")
    records.images.append(ImageRecord(path, key, xml, voc.line, voc.size_hw))
    for item in voc.objects:
        if item.fault:
            kind = "not-finite" if item.name else "bad-record"
            records.add_problem(xml, item.line, kind, f"{item.name}: {item.fault}".removeprefix(": "))
        else:
            records.add_object(item.box, item.name, item.line, difficult=item.difficult)
            if item.note:
                records.note_once(xml, item.line, *item.note)


def _report_unlabelled(records: Records, part: VocPart, used: Collection[Path]) -> None:
    """An image without an annotation file is not known to be background, so it stays out, and is named.

    Where images have no folder of their own, only folders with an annotated image count: others hold other pictures.
    """
    shared = part.images in (part.annotations, part.root)
    folders = {path.parent for path in used} if shared else set()
    for name in part.near.paths:
        path = part.images / name
        if path not in used and (not folders or path.parent in folders):
            message = "the image has no annotation file; background images need one without objects"
            records.add_problem(path, None, "missing-annotation", message)
