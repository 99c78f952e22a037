"""Names that survive a conversion: of image files, of splits, of classes."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from singleshot.data.class_list import is_background
from singleshot.data.file_index import is_hidden, normal
from singleshot.data.split_names import split_role
from singleshot.errors import DataError

# File systems allow 255 bytes for a name, of which a suffix takes up to 5 and a number that tells equals apart some.
MAX_STEM_BYTES = 240
# Not allowed in names on some system, or with a meaning in lists and addresses.
_RESERVED = re.compile(r'[\\/:*?"<>|]')
_BROKEN = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})


def safe_stem(stem: str) -> str:
    """The name without what some system or list cannot hold: control signs, odd bytes, dots and spaces at the ends.

    Names that need no change are returned as they are.
    """
    kept = "".join("_" if unicodedata.category(sign) in _BROKEN else sign for sign in stem)
    kept = _RESERVED.sub("_", kept)
    if kept.strip(" .\u00a0\ufeff") != kept or kept != kept.strip() or is_hidden(kept):
        kept = f"_{kept.strip().strip('. ').strip()}"
    while len(kept.encode()) > MAX_STEM_BYTES:
        kept = kept[: -max(1, (len(kept.encode()) - MAX_STEM_BYTES) // 4)].rstrip(" .")
    return kept or "_"


def target_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A file name for each image in one new folder.

    Their stems differ also where case and Unicode's forms do not count, as each is the name of an annotation too; equal
    names of different folders are told apart by the folders.
    """
    counts = Counter(normal(path.stem) for path in paths)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        full = "_".join([*path.parts[-3:-1], path.stem]) if counts[normal(path.stem)] > 1 else path.stem
        stem = unique = safe_stem(full)
        number = 1
        while normal(unique) in taken:
            number += 1
            unique = f"{stem}_{number}"
        taken.add(normal(unique))
        names[path] = unique + path.suffix.lower()
    return names


def describe_renamed(names: dict[Path, str]) -> Iterable[str]:
    """One sentence if some images got another name."""
    renamed = [(path.name, name) for path, name in names.items() if Path(name).stem != path.stem]
    if renamed:
        old, new = renamed[0]
        shown = old.encode(errors="backslashreplace").decode()
        yield f"{len(renamed)} images were renamed, as {shown!r} to '{new}': equal names, or such as lists cannot hold"


def check_class_names(names: Sequence[str], title: str, any_name: bool) -> None:
    """Refuse class names that a format's readers would not read back.

    Args:
        names: the classes.
        title: of the format, for the message.
        any_name: whether control characters, and spaces at the ends, are read back.

    Raises:
        DataError: names the class.
    """
    for name in names:
        broken = any(unicodedata.category(sign) in _BROKEN for sign in name)
        if not name or (not any_name and (broken or name != name.strip("\ufeff").strip())):
            raise DataError(
                f"the class name {name!r} cannot be written as {title}: it is empty, or has spaces at its ends or "
                "control characters; rename the class first"
            )


def refuse_background(names: Sequence[str], used: Collection[str]) -> None:
    """Refuse a first class that VOC's readers would take for the background; ``used``: names of classes with objects.

    Raises:
        DataError: names the class.
    """
    if names and is_background(names[0]) and names[0] not in used:
        raise DataError(
            f"the class '{names[0]}' comes first, where VOC's readers take it for the background and no class: rename "
            "it, or name the others by `classes`"
        )


def yolo_keys(splits: Sequence[str]) -> dict[str, str]:
    """The key of ``data.yaml`` for each split: one is ``train``, one ``val``, one ``test``; others keep their names."""
    keys: dict[str, str] = {}
    for key, roles in (("train", ("train",)), ("train", ("trainval",)), ("val", ("val",)), ("test", ("test",))):
        found = [name for name in splits if split_role(name) in roles and name not in keys]
        if found and key not in keys.values():
            keys[min(found, key=lambda name: (name != key, not name.isalpha(), len(name), name))] = key
    return {name: keys.get(name, name) for name in splits}


def describe_keys(keys: dict[str, str]) -> Iterable[str]:
    """Sentences about what YOLO tools will and will not find."""
    changed = [f"'{name}' is written as '{key}'" for name, key in keys.items() if name != key]
    others = [f"'{key}'" for name, key in keys.items() if name == key and key not in ("train", "val", "test")]
    if changed:
        yield f"{', '.join(changed)}, as YOLO tools call it"
    if others:
        yield f"{', '.join(others)} is kept, but other YOLO tools read only train, val and test"
    if "val" not in keys.values():
        yield "there is no split 'val', which other YOLO tools ask for"
