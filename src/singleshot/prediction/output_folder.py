"""The folder of one run's results: it holds what this run made, and no file of anyone else is replaced unasked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Annotated, Any, Self

from pydantic import BaseModel, Field

from singleshot.core.files import check_output
from singleshot.core.json_text import parse_json
from singleshot.core.leftovers import sole_writer, sweep
from singleshot.errors import ConfigError, OutputError
from singleshot.version import __version__

RECORD = ".singleshot-results"
"""File in a folder of results that lists what the run wrote, one JSON text per line after a line about the run."""


class ResultFolder:
    """Hands out the paths that a run may write, and records them before they are written.

    Args:
        path: the folder; made when it is missing.
        sources: files that the run reads: they are never written or removed.
        overwrite: whether files may be replaced; what an earlier run recorded is removed first.
        resume: continue the earlier run: its files stay, and `journal` says how far it came.
        how: settings that a run must share with the one that it continues.

    Raises:
        OutputError: it holds results of an earlier run, which may not be replaced, or one of the sources is a result;
            or another run is writing there; or there is nothing to continue, or other settings.
        OSError: it cannot be made or written.
    """

    def __init__(
        self,
        path: Path,
        sources: Sequence[Path] = (),
        overwrite: bool = False,
        *,
        resume: bool = False,
        how: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self._sources = sources
        self._overwrite = overwrite
        self._made: set[Path] = set()
        self._safe_folders: set[Path] = set()
        self._is_new, self._made_folder = not resume, not path.exists()
        self.journal = Journal()
        with ExitStack() as stack:
            self._record: IO[str] = (self._continued if resume else self._begun)(stack, dict(how or {}))
            self._open = stack.pop_all()

    def _begun(self, stack: ExitStack, how: dict[str, Any]) -> IO[str]:
        check_folder(self.path, (), self._sources, self._overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        self._be_sole_writer(stack)
        remove_results(self.path)
        record = stack.enter_context((self.path / RECORD).open("x", encoding="utf-8", errors="backslashreplace"))
        record.write(json.dumps({"singleshot": __version__} | ({"how": how} if how else {})) + "\n")
        record.flush()
        return record

    def _continued(self, stack: ExitStack, how: dict[str, Any]) -> IO[str]:
        if self.path.is_dir():
            self._be_sole_writer(stack)
        self.journal = read_journal(self.path, how)
        check_not_sources(list(recorded_files(self.path)), self._sources)
        self._made.update(file.relative_to(self.path) for file in recorded_files(self.path))
        os.truncate(self.path / RECORD, self.journal.size)
        return stack.enter_context((self.path / RECORD).open("a", encoding="utf-8", errors="backslashreplace"))

    def note_done(self, image: str, places: Mapping[str, int], error: str = "", missing: Sequence[str] = ()) -> None:
        """Write down that an image is done, how long the files are with it, and which files or folders miss it."""
        more: dict[str, Any] = ({"error": error} if error else {}) | ({"missing": list(missing)} if missing else {})
        self._note({"done": image, "at": dict(places)} | more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._open.close()
        if self._is_new and isinstance(error, ConfigError) and not any(map(self._is_written, self._made)):
            # Nothing began, so that the same call may be made again: it has left no results to replace or to continue.
            with suppress(OSError):
                (self.path / RECORD).unlink()
                if self._made_folder:
                    self.path.rmdir()

    def _is_written(self, relative: Path) -> bool:
        return (self.path / relative).exists()

    def _be_sole_writer(self, stack: ExitStack) -> None:
        sweep(self.path)
        stack.enter_context(sole_writer(self.path))

    def claim(self, relative: Path) -> Path:
        """The path to write a file at; it is this run's from now on.

        Raises:
            OutputError: a source lies there, or a file that this run did not make, or a link leads out of the folder.
        """
        target = self.path / relative
        if relative in self._made:
            return target
        if _identity(target) in self._source_ids:
            raise OutputError(f"{target}: is a photo of this run and would be overwritten: name another `out`")
        check_output(target, overwrite=self._overwrite)
        self._check_inside(target)
        self._note(str(relative))
        self._made.add(relative)
        return target

    @cached_property
    def _source_ids(self) -> set[tuple[int, int] | None]:
        return {identity for path in self._sources if (identity := _identity(path))}

    def _check_inside(self, target: Path) -> None:
        folder = target.parent
        if folder not in self._safe_folders:
            if not folder.resolve().is_relative_to(self.path.resolve()):
                raise OutputError(f"{target}: a link leads out of {self.path}: remove it, or name another `out`")
            self._safe_folders.add(folder)

    def _note(self, what: object) -> None:
        self._record.write(json.dumps(what) + "\n")
        self._record.flush()


@dataclass(frozen=True, slots=True)
class Journal:
    """How far an earlier run came.

    Attributes:
        done: images that were looked at, and why they could not be read where they could not.
        missing: of images that were not written everywhere, where they are missing: files and folders.
        places: length of each file with all of them.
        size: bytes of the record that hold.
    """

    done: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, frozenset[str]] = field(default_factory=dict)
    size: int = 0

    def done_in(self, top: str) -> dict[str, str]:
        """As ``done``, only those images that a file or folder does not miss."""
        return {image: error for image, error in self.done.items() if top not in self.missing.get(image, ())}

    def is_done(self, image: str) -> bool:
        """Whether nothing is left to do."""
        return image in self.done and image not in self.missing


def read_journal(folder: Path, how: Mapping[str, Any]) -> Journal:
    """What the record of a run says; its last line may be cut off, where the run was killed.

    Raises:
        OutputError: there is none, it is damaged, or it is of other settings.
    """
    try:
        data = (folder / RECORD).read_bytes()
    except OSError:
        raise OutputError(f"{folder}: holds no results to continue: leave `resume` out") from None
    size = data.rfind(b"\n") + 1
    head: dict[str, Any] = {}
    images: list[_LookedAt] = []
    for number, line in enumerate(data[:size].split(b"\n")[:-1], 1):
        try:
            entry = parse_json(line)
            if number == 1:
                head = dict(entry.get("how", {}))
            elif isinstance(entry, dict):
                images.append(_LookedAt.model_validate(entry))
        except (ValueError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{folder / RECORD}, line {number}: the record of the run is damaged: begin anew with another `out`, "
                "or replace the results with `overwrite=True`"
            ) from error
    missing = {image.done: image.missing for image in images}
    check_same(folder, head, how)
    return Journal(
        {image.done: image.error for image in images},
        images[-1].at if images else {},
        {image: tops for image, tops in missing.items() if tops},
        size,
    )


class _LookedAt(BaseModel):
    """An image in the record of a run; see `Journal`."""

    done: str
    at: dict[str, Annotated[int, Field(ge=0)]]
    error: str = ""
    missing: frozenset[str] = frozenset()


def check_same(folder: Path | str, head: Mapping[str, Any], how: Mapping[str, Any]) -> None:
    """Refuse to continue a run with other settings.

    Args:
        folder: of the run, for the message.
        head: its settings.
        how: those of the run that would continue it.

    Raises:
        OutputError: they differ; names the first that does.
    """
    for name, value in how.items():
        if head.get(name) != value and (name in head or not head):  # an earlier version did not note every setting
            raise OutputError(
                f"{folder}: was begun {_worded(name, head.get(name))}: continue so, not {_worded(name, value)}"
            )


def _worded(name: str, value: Any) -> str:
    if value is None:
        return f"without `{name}`"
    return f"with `{name}={','.join(map(str, value)) if isinstance(value, list) else value}`"


def new_folder(base: Path) -> Path:
    """A folder that does not exist yet: ``base``, else ``base-2``, ``base-3`` ...; it is made, so that it is ours."""
    number, path = 1, base
    while True:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            path = base.with_name(f"{base.name}-{number}")
        else:
            return path


def check_folder(path: Path, tops: Iterable[str], sources: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Refuse a folder whose files a run would have to replace without being allowed to.

    Args:
        path: the folder; it need not exist.
        tops: what will be written directly in it, files and folders.
        sources: files that the run reads.
        overwrite: whether files may be replaced.

    Raises:
        OutputError: names what is in the way, and what to do.
    """
    remedy = "name another `out`, or replace it with `overwrite=True`"
    if os.path.lexists(path) and not os.path.isdir(path):
        what = "is a file" if os.path.exists(path) else f"is a link to {os.readlink(path)}, which does not exist"
        raise OutputError(f"{path}: {what}: name a folder by `out`")
    recorded = list(recorded_files(path))
    if not overwrite:
        if os.path.lexists(path / RECORD):
            raise OutputError(f"{path}: holds the results of an earlier run: {remedy}")
        for top in tops:
            inside = path / top
            if os.path.lexists(inside) and not (inside.is_dir() and not any(inside.iterdir())):
                raise OutputError(f"{inside}: exists already: {remedy}")
    check_not_sources(recorded, sources)


def check_not_sources(written: Sequence[Path], sources: Iterable[Path]) -> None:
    """Refuse to replace or remove files that the run reads.

    Raises:
        OutputError: there is one; names it.
    """
    places = {identity: path for path in written if (identity := _identity(path))}
    for source in sources if places else ():
        if (identity := _identity(source)) in places:
            raise OutputError(
                f"{places[identity]}: is a source of this run and would be overwritten: name another `out`"
            )


def recorded_files(folder: Path) -> Iterator[Path]:
    """Files of an earlier run that are still there. A record can name nothing outside its folder."""
    try:
        lines = (folder / RECORD).read_text(encoding="utf-8").splitlines()[1:]
    except (OSError, UnicodeDecodeError):
        return
    root = folder.resolve()
    for line in lines:
        try:
            path = folder / json.loads(line)
            inside = path.parent.resolve().is_relative_to(root) and ".." not in path.parts
        except (ValueError, TypeError, OSError, RecursionError):  # the last line of a run that was killed
            continue
        if inside and os.path.lexists(path) and (path.is_symlink() or path.is_file()):
            yield path


def remove_results(folder: Path) -> None:
    """Remove what an earlier run recorded, the folders that this leaves empty, and the record."""
    folders: set[Path] = set()
    for path in list(recorded_files(folder)):
        path.unlink()
        folders.update(parent for parent in path.parents if parent.is_relative_to(folder) and parent != folder)
    for parent in sorted(folders, key=lambda path: -len(path.parts)):
        if not parent.is_symlink() and not any(parent.iterdir()):
            parent.rmdir()
    (folder / RECORD).unlink(missing_ok=True)


def holds_results(folder: str | os.PathLike[str]) -> bool:
    """Whether a run wrote its results into this folder."""
    return os.path.lexists(os.path.join(folder, RECORD))


def _identity(path: Path) -> tuple[int, int] | None:
    """Equal for two names of one file, through links and whatever case; ``None`` where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
