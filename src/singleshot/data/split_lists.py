"""Write which image is in which split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from singleshot.core.files import check_output, write_atomically
from singleshot.data.opening import open_found
from singleshot.data.recognise import own_splits, recognise
from singleshot.data.splitting import PARTS
from singleshot.images.packed import find_container


@dataclass(frozen=True)
class SplitLists:
    """What was written.

    Attributes:
        files: images of each list.
        notes: what was decided: how a data set without splits was divided.
    """

    files: dict[Path, int]
    notes: tuple[str, ...]


def write_lists(
    path: str | Path,
    out: str | Path | None = None,
    format: str = "auto",
    *,
    overwrite: bool = False,
) -> SplitLists:
    """Write a text file for each split of a data set, with the absolute path of an image a line.

    Args:
        path: see `singleshot.data.open`.
        out: the folder; ``None`` is ``NAME_split`` in the current one.
        format: see `singleshot.data.open`.
        overwrite: whether lists of these names may be replaced.

    Raises:
        DataError: the data cannot be read.
        OutputError: a list exists.
    """
    found = recognise(Path(path), format)
    parts = {name: open_found(found, name, lenient=True) for name in own_splits(found) or PARTS}
    folder = Path(out) if out is not None else Path(f"{Path(path).resolve().stem}_split")
    targets = {name: check_output(folder / f"{name}.txt", overwrite=overwrite) for name in parts}
    for name, part in parts.items():
        write_atomically(targets[name], "".join(f"{sample.image_path.absolute()}\n" for sample in part))
    notes = dict.fromkeys(note for part in parts.values() for note in part.notes)
    packed = (inside[0] for part in parts.values() for sample in part if (inside := find_container(sample.image_path)))
    if container := next(packed, None):
        notes[f"the lists name images inside {container}, which other programs do not find: convert the data first"] = (
            None
        )
    return SplitLists({targets[name]: len(part) for name, part in parts.items()}, tuple(notes))
