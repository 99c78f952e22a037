"""YOLO: a text file of ``class cx cy w h`` lines for each image, in fractions of it; ``data.yaml`` or bare folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from singleshot.data.records import ImageFolder, ImageRecord, Records
from singleshot.errors import DataError
from singleshot.images import IMAGE_SUFFIXES

LOOKED_FOR = "YOLO: a data.yaml with names and train/val, images/ beside labels/, or *.txt labels beside images"
SPLITS = ("train", "val", "valid", "test")
YAML_NAMES = ("data", "dataset")
MAX_YAML_BYTES = 16 * 2**20
MAX_LABEL_BYTES = 64 * 2**20
MAX_CLASSES = 100_000


@dataclass(frozen=True)
class YoloLayout:
    """YOLO on disk.

    Attributes:
        sources: folders of images and text files that list images, by split; ``""`` where there are no splits.
        names: class names by id; ``None`` where the data set does not name its classes.
        keypoints: numbers that follow each box (pose labels).
    """

    sources: dict[str, tuple[Path, ...]]
    names: tuple[str, ...] | None
    keypoints: int = 0

    @property
    def splits(self) -> tuple[str, ...]:
        """Names such as ``train``."""
        return tuple(name for name in self.sources if name)

    def read(self, split: str | None) -> Records:
        """The records of ``split`` (several joined by ``+``), or of every source."""
        wanted = list(self.sources) if split is None else split.split("+")
        records = Records(fractions=True, states_sizes=False)
        first: dict[Path, Path] = {}
        for name in wanted:
            for source in self.sources[name]:
                images = _images_of(source)
                if images and not any(label_path(image).is_file() for image, _, _ in images):
                    message = (
                        f"no image has a label file (looked for {label_path(images[0][0])} ...): all are background"
                    )
                    records.add_problem(source, None, "no-labels", message, "noted")
                for image, file, line in images:
                    if image not in first:
                        first[image] = source
                        _read_image(records, image, (file, line), self.keypoints)
                    elif first[image] == source:  # in two sources it is no mistake: splits may overlap
                        records.add_problem(file, line, "duplicate-image", f"{image} is named twice", "noted")
        names = self.names if self.names is not None else self._numbered_names(records)
        records.class_names, records.class_ids = names, tuple(range(len(names)))
        return records

    def _numbered_names(self, records: Records) -> tuple[str, ...]:
        """Names made from the largest class id of all splits, for a data set without a list of names."""
        everything = records if not self.splits else YoloLayout(self.sources, ()).read(None)
        largest = max((label for label in everything.labels if isinstance(label, int)), default=-1)
        return tuple(f"class{index}" for index in range(largest + 1))


def find(path: Path) -> YoloLayout | None:
    """Recognise YOLO at ``path``: a YAML file, a folder with one, or folders of images and labels."""
    if path.is_file():
        return _from_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else None
    for file in sorted([*path.glob("*.yaml"), *path.glob("*.yml")], key=lambda file: (file.stem != "data", file.name)):
        layout = _from_yaml(file)
        if layout:
            return layout
    sources = _bare_sources(path)
    return YoloLayout(sources, _names_file(path)) if sources else None


def _from_yaml(file: Path) -> YoloLayout | None:
    """A layout from a YAML file with ``names``; ``None`` for other YAML files."""
    if file.stat().st_size > MAX_YAML_BYTES:
        return None
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        if file.stem not in YAML_NAMES:
            return None  # another program's file; it may use tags that only that program knows
        raise DataError(f"{file}: not valid YAML: {error}") from error
    if not isinstance(content, dict) or "names" not in content:
        return None
    names = _yaml_names(file, content["names"])
    if isinstance(content.get("nc"), int) and content["nc"] != len(names):
        raise DataError(f"{file}: nc is {content['nc']} but there are {len(names)} names: correct one of them")
    root = _yaml_root(file, content.get("path"))
    keys = [key for key, value in content.items() if value and (key in SPLITS or _is_list_file(value))]
    sources = {str(key): _yaml_sources(file, root, str(key), content[key]) for key in keys}
    sources = sources or _bare_sources(file.parent)
    if not sources:
        raise DataError(f"{file}: names no images: add 'train: images/train' (and val, test) with folders or lists")
    shape = content.get("kpt_shape")
    keypoints = shape[0] * shape[1] if isinstance(shape, list) and len(shape) == 2 else 0
    return YoloLayout(sources, names, keypoints)


def _is_list_file(value: Any) -> bool:
    """Whether a key of any name holds a list of images, as for a split called trainval."""
    return isinstance(value, str) and value.endswith(".txt") and "://" not in value


def _yaml_names(file: Path, names: Any) -> tuple[str, ...]:
    """Names by id, from a list or from ``{0: person, ...}``; ids that are left out get a name of their own."""
    if isinstance(names, dict) and all(isinstance(key, int) and 0 <= key < MAX_CLASSES for key in names):
        return tuple(str(names.get(index, f"class{index}")) for index in range(max(names, default=-1) + 1))
    if isinstance(names, list):
        return tuple(str(name) for name in names)
    raise DataError(f"{file}: key 'names': expected a list of names or numbers with names, not {names!r:.80}")


def _yaml_root(file: Path, path: Any) -> Path:
    """The folder that ``train`` and ``val`` start from; exported files often name a folder of another machine."""
    if isinstance(path, str):
        for root in (file.parent / path, Path(path)):
            if root.is_dir():
                return root
    return file.parent


def _yaml_sources(file: Path, root: Path, key: str, value: Any) -> tuple[Path, ...]:
    sources = []
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            raise DataError(f"{file}: key '{key}': expected a folder or a text file, not {text!r:.80}")
        # Some exports write ../train/images for a folder that lies beside the YAML file.
        tries = (root / text, file.parent / text, file.parent / text.removeprefix("../"))
        found = next((path for path in tries if path.exists()), None)
        if found is None:
            raise DataError(f"{file}: key '{key}': no folder or file {tries[0]}: correct 'path' or '{key}'")
        sources.append(found)
    return tuple(sources)


def _bare_sources(path: Path) -> dict[str, tuple[Path, ...]]:
    """Image folders beside label folders: ``images/train``, ``train/images``, ``images``, or images among labels."""
    split_first = {name: path / name / "images" for name in SPLITS if (path / name / "labels").is_dir()}
    split_last = {name: path / "images" / name for name in SPLITS if (path / "labels" / name).is_dir()}
    found: dict[str, tuple[Path, ...]]
    found = {name: (folder,) for name, folder in (split_first or split_last).items() if folder.is_dir()}
    if found:
        return found
    if (path / "images").is_dir() and (path / "labels").is_dir() and not any((path / "labels").glob("*.xml")):
        return {"": (path / "images",)}
    flat = {name: path / name if name else path for name in ("", *SPLITS)}
    return {name: (folder,) for name, folder in flat.items() if folder.is_dir() and _has_labels(folder)}


def _has_labels(folder: Path) -> bool:
    """Whether a folder holds an image with a label file of the same stem."""
    return any((folder / f"{stem}.txt").is_file() for stem, _ in ImageFolder(folder).stems()[:100])


def _names_file(path: Path) -> tuple[str, ...] | None:
    """Names by line of ``classes.txt`` or ``obj.names``."""
    for file in (path / "classes.txt", path / "labels" / "classes.txt", path / "obj.names"):
        if file.is_file():
            return tuple(line.strip() for line in file.read_text(errors="replace").splitlines() if line.strip())
    return None


def _images_of(source: Path) -> list[tuple[Path, Path, int | None]]:
    """(image, naming file, line) of each image that a folder holds (deeply) or a text file lists."""
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        return [(path, path, None) for path in paths]
    lines = enumerate(source.read_text(errors="replace").splitlines(), 1)
    return [(_listed(source, text.strip()), source, number) for number, text in lines if text.strip()]


def _listed(source: Path, text: str) -> Path:
    """A path of a list: relative to the list's folder when it begins with ``./`` or exists there."""
    path = Path(text)
    near = source.parent / path
    return near if text.startswith("./") or not path.is_file() or near.is_file() else path


def label_path(image: Path) -> Path:
    """Where an image's labels are: the last folder ``images`` becomes ``labels``, else beside the image."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            swapped = Path(*parts[:index], "labels", *parts[index + 1 :]).with_suffix(".txt")
            beside = image.with_suffix(".txt")
            return beside if beside.is_file() and not swapped.is_file() else swapped
    return image.with_suffix(".txt")


def _read_image(records: Records, image: Path, named: tuple[Path, int | None], keypoints: int) -> None:
    """Append an image and its objects; an image without a label file is background."""
    file = label_path(image)
    records.images.append(ImageRecord(image, image.stem, *(named if named[1] else (file, None)), objects_file=file))
    try:
        if file.stat().st_size > MAX_LABEL_BYTES:
            raise ValueError(f"more than {MAX_LABEL_BYTES} bytes")
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        records.images.pop()
        records.add_problem(file, None, "unreadable-annotation", f"cannot be read: {error}")
        return
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.split():
            _read_line(records, file, number, words, keypoints)


def _read_line(records: Records, file: Path, number: int, words: list[str], keypoints: int) -> None:
    """Append the object of one line: a box, a box with a confidence, a box with key points, or a polygon."""
    try:
        values = [float(word) for word in words]
        label = int(values[0])
        if label != values[0] or not 0 <= label < MAX_CLASSES:
            raise ValueError(f"class '{words[0]}'")
    except (ValueError, OverflowError) as error:
        message = f"expected 'class cx cy w h', found '{' '.join(words)[:60]}' ({error})"
        records.add_problem(file, number, "bad-record", message)
        return
    if len(values) in (5, 6) or (keypoints and len(values) == 5 + keypoints):
        cx, cy, width, height = values[1:5]
        box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    elif len(values) >= 7 and len(values) % 2:
        xs, ys = values[1::2], values[2::2]
        box = (min(xs), min(ys), max(xs), max(ys))
    else:
        records.add_problem(file, number, "bad-record", f"{len(values)} numbers are neither a box (5) nor a polygon")
        return
    records.add_object(box, label, number)
