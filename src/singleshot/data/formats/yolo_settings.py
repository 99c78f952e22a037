"""What a YOLO settings file says: ``data.yaml``, or darknet's ``obj.data``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from singleshot.core.files import DecodedText, read_text
from singleshot.core.yaml_files import PlainLoader
from singleshot.data.bad_records import Problem, guessed_encoding
from singleshot.data.formats.yolo_names import MAX_CLASSES, read_class_list, stand_in
from singleshot.data.paths import locate_folder
from singleshot.data.split_names import split_role
from singleshot.errors import DataError

MAX_YAML_BYTES = 16 * 2**20
MAX_MERGED_KEYS = 100_000
_OURS = re.compile(r"^\s*(names|train|val|nc)\s*:", re.MULTILINE)


class UnsafeYamlError(yaml.YAMLError):
    """A document that grows without bounds when its merge keys are followed."""


class _Loader(PlainLoader):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Follow merge keys (``<<``), whose repetition would grow exponentially, up to a limit."""
        super().flatten_mapping(node)
        if len(node.value) > MAX_MERGED_KEYS:
            raise UnsafeYamlError(f"merge keys make more than {MAX_MERGED_KEYS} entries")


class ForeignYamlError(Exception):
    """A YAML file of another program: it has that program's tags, or none of our keys."""


@dataclass
class YoloSettings:
    """The content of a settings file.

    Attributes:
        sources: folders of images and text files that list images, by split.
        missing: what is wrong with the splits that are named but not there.
        names: class names by id; ``None`` where the file does not say.
        keypoints: numbers that follow each box (pose labels).
        problems: what was noted on the way.
    """

    sources: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    keypoints: int = 0
    problems: list[Problem] = field(default_factory=list)


def read_yaml_settings(file: Path) -> YoloSettings:
    """The settings of a ``data.yaml``.

    Raises:
        ForeignYamlError: the file is not one of ours.
        DataError: it is, and has a mistake; names the line or key.
    """
    text = _read(file)
    content = _parse(file, text.text)
    if not isinstance(content, dict) or "names" not in content:
        raise ForeignYamlError("no key 'names'")
    names, problems = _names(file, _as_written(text.text))
    settings = YoloSettings(names=names, problems=problems)
    if text.guessed:
        settings.problems.append(guessed_encoding(file, text.encoding))
    count = content.get("nc")
    if isinstance(count, int | str) and str(count).isdigit() and int(count) != len(names):
        raise DataError(f"{file}: nc is {count} but there are {len(names)} names: correct one of them")
    settings.keypoints = _keypoints(file, content.get("kpt_shape"))
    roots = _roots(file, content.get("path"))
    for key, value in content.items():
        if value and isinstance(key, str) and (_names_a_split(key) or _lists_images(key, value)):
            _add_source(settings, file, key, value, roots)
    if settings.missing and content.get("download"):
        hint = "; 'download' is not followed: do by hand what it says"
        settings.missing = {key: f"{message}{hint}" for key, message in settings.missing.items()}
    return settings


def _read(file: Path) -> DecodedText:
    try:
        return read_text(file, MAX_YAML_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


def _parse(file: Path, text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506, a SafeLoader
    except (yaml.constructor.ConstructorError, RecursionError) as error:
        if isinstance(error, RecursionError) or _OURS.search(text):
            raise DataError(f"{file}: not valid YAML: {_words(error)}") from error
        raise ForeignYamlError("tags of another program") from error
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{file}{_line(error)}: not valid YAML: {_words(error)}") from error


def _as_written(text: str) -> Any:
    """The value of ``names`` with every scalar as its text: a class ``no`` is not false, ``1.0`` not a number."""
    return yaml.load(text, Loader=yaml.BaseLoader)["names"]  # noqa: S506, makes nothing but texts, lists and mappings


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}" if mark else ""


def _words(error: Exception) -> str:
    context, problem = getattr(error, "context", None), getattr(error, "problem", None)
    return ": ".join(part for part in (context, problem) if part) or str(error)[:200] or type(error).__name__


def is_ours(file: Path) -> bool:
    """Whether the text of a (damaged) YAML file has a key of ours."""
    try:
        return bool(_OURS.search(read_text(file, MAX_YAML_BYTES).text))
    except (OSError, UnicodeDecodeError):
        return False


def _names_a_split(key: str) -> bool:
    return key.isidentifier() and split_role(key) is not None


def _lists_images(key: str, value: Any) -> bool:
    """Whether a key of any name holds a list of images, as for a split called trainval, and not one of classes."""
    of_classes = any(word in key.lower() for word in ("name", "class", "label"))
    return isinstance(value, str) and value.lower().endswith(".txt") and "://" not in value and not of_classes


def _names(file: Path, names: Any) -> tuple[tuple[str, ...], list[Problem]]:
    """Names by id, from a list or from ``{0: person, ...}``; ids that are left out get a name of their own."""
    if isinstance(names, str) and names.lower().endswith((".txt", ".names")):
        listed = locate_folder(names, (file.parent,))
        if listed is None:
            raise DataError(f"{file}: key 'names': no file {names}")
        return read_class_list(listed)
    if isinstance(names, dict) and all(_is_id(key) for key in names):
        by_id = {int(key): _name(file, key, name) for key, name in names.items()}
        return tuple(by_id.get(index, stand_in(index)) for index in range(max(by_id, default=-1) + 1)), []
    if isinstance(names, list) and len(names) <= MAX_CLASSES:
        return tuple(_name(file, index, name) for index, name in enumerate(names)), []
    found = f"'{names[:60]}'" if isinstance(names, str) else f"a {type(names).__name__}"
    raise DataError(f"{file}: key 'names': expected a list of names or numbers with names, not {found}")


def _is_id(key: object) -> bool:
    return isinstance(key, int | str) and str(key).isdecimal() and len(str(key)) < 9 and int(key) < MAX_CLASSES


def _name(file: Path, key: object, name: object) -> str:
    """One name; its type is looked at before it is put into words, since it may be a nest of a billion aliases."""
    if not isinstance(name, str) or not name.strip():
        found = "an empty text" if isinstance(name, str) else f"a {type(name).__name__}"
        raise DataError(f"{file}: key 'names', class {str(key)[:20]}: expected a word, not {found}")
    return name.strip()


def _keypoints(file: Path, shape: object) -> int:
    """Numbers that follow each box, by ``kpt_shape: [points, numbers of each]``."""
    if shape is None:
        return 0
    if (
        isinstance(shape, list)
        and len(shape) == 2
        and all(isinstance(side, int) and 0 < side < 10_000 for side in shape)
    ):
        return int(shape[0] * shape[1])
    raise DataError(f"{file}: key 'kpt_shape': expected [points, 2 or 3], such as [17, 3]")


def _roots(file: Path, path: Any) -> tuple[Path, ...]:
    """The folders that ``train`` and ``val`` start from; exported files often name a folder of another machine."""
    named = locate_folder(path, (file.parent,)) if isinstance(path, str) else None
    return tuple(dict.fromkeys((named, file.parent))) if named and named.is_dir() else (file.parent,)


def _add_source(settings: YoloSettings, file: Path, key: str, value: Any, roots: tuple[Path, ...]) -> None:
    found = []
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            raise DataError(f"{file}: key '{key}': expected a folder or a text file, not a {type(text).__name__}")
        place = locate_folder(text, roots)
        if place is None:
            settings.missing[key] = (
                f"{file}: key '{key}': no folder or file {roots[0] / text[:200]}: correct 'path' or '{key}'"
            )
            return
        found.append(place)
    settings.sources[key] = tuple(found)


def read_darknet_settings(file: Path) -> YoloSettings:
    """The settings of darknet's ``obj.data``: lines ``train = ...``, ``valid = ...``, ``names = ...``.

    Raises:
        ForeignYamlError: the file has no such lines.
        DataError: the list of names cannot be read.
    """
    lines = (line.split("#")[0].partition("=") for line in _read(file).text.splitlines()[:1000])
    content = {key.strip().lower(): value.strip() for key, sign, value in lines if sign}
    if "names" not in content and "train" not in content:
        raise ForeignYamlError("no train and names")
    settings = YoloSettings()
    names = locate_folder(content["names"], (file.parent,)) if content.get("names") else None
    names = names or (locate_folder(Path(content["names"]).name, (file.parent,)) if content.get("names") else None)
    if names:
        settings.names, settings.problems = read_class_list(names)
    for key in ("train", "valid", "val", "test"):
        if content.get(key):
            _add_list(settings, file, key, content)
    return settings


def _add_list(settings: YoloSettings, file: Path, key: str, content: Mapping[str, str]) -> None:
    """A list of images; ``data/train.txt`` starts from the folder that darknet runs in, often above this one."""
    text = content[key]
    for tried in (text, Path(text.replace("\\", "/")).name):
        place = locate_folder(tried, (file.parent,))
        if place:
            settings.sources[key] = (place,)
            return
    settings.missing[key] = f"{file}: key '{key}': no list of images {text[:200]}"
