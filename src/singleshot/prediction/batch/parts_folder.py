"""A folder of part files, on this machine or in an object store: each is there whole, or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singleshot.core.lazy import lazy_module
from singleshot.core.leftovers import hidden_path, is_hidden
from singleshot.errors import ConfigError, OutputError
from singleshot.prediction.output_folder import RECORD, ResultFolder, check_folder, check_same
from singleshot.version import __version__

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.fs as filesystems
    import pyarrow.parquet as tables
else:
    pyarrow, tables = lazy_module("pyarrow"), lazy_module("pyarrow.parquet")
    filesystems = lazy_module("pyarrow.fs")

TOP = "detections.parquet"
"""The folder of the parts: what reads the one file of a run without an engine reads it by the same name."""

_PART = re.compile(r"part-\d{10,}-[0-9a-f]{12}\.parquet")
"""As `Slice.part` calls them."""


def is_uri(place: str) -> bool:
    """Whether a place is an address (``s3://bucket/photos``) rather than a path."""
    return "://" in place


@dataclass(frozen=True, slots=True)
class PartsFolder:
    """Where the parts of a job go; pickled to every worker.

    Attributes:
        out: the folder of the job, a path or an address.
        files: a pyarrow file system.
        path: of the folder there.
    """

    out: str
    files: Any
    path: str

    @classmethod
    def at(cls, out: str) -> PartsFolder:
        """The folder at a path or an address.

        Raises:
            OutputError: no such file system.
        """
        if not is_uri(out):
            return cls(out, filesystems.LocalFileSystem(), str(Path(out).absolute()))
        try:
            files, path = filesystems.FileSystem.from_uri(out)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise OutputError(f"{out}: {str(error).splitlines()[0]}: name another `out`") from None
        return cls(out, files, path.rstrip("/"))

    def place(self, name: str) -> str:
        """A part, for people."""
        return f"{self.out.rstrip('/')}/{TOP}/{name}"

    def write(self, name: str, table: Any) -> None:
        """Write a part by way of another name. Whoever writes it again writes the same.

        Raises:
            OSError: it cannot be written.
        """
        folder = f"{self.path}/{TOP}"
        draft = f"{folder}/{hidden_path(Path()).name}"
        self.files.create_dir(folder)
        try:
            tables.write_table(table, draft, filesystem=self.files, compression="zstd")
            self.files.move(draft, f"{folder}/{name}")
        except BaseException:
            with suppress(OSError):
                self.files.delete_file(draft)
            raise

    def done(self) -> set[str]:
        """The parts that are there."""
        return {name for name in self._names() if not name.startswith(".")}

    def sweep(self) -> None:
        """Remove what killed workers left half written."""
        for name in self._names():
            if is_hidden(name):
                with suppress(OSError):
                    self.files.delete_file(f"{self.path}/{TOP}/{name}")

    def _names(self) -> list[str]:
        chosen = filesystems.FileSelector(f"{self.path}/{TOP}", allow_not_found=True)
        return [info.base_name for info in self.files.get_file_info(chosen)]

    @contextmanager
    def held(
        self, parts: Sequence[str], how: Mapping[str, Any], sources: Sequence[Path], overwrite: bool, resume: bool
    ) -> Iterator[None]:
        """Take the folder for a job: note its settings and what it will write. An address is not locked.

        Args:
            parts: names of all parts.
            how: settings that a job shares with the one that it continues.
            sources: files that the job reads.
            overwrite: whether an earlier run's results may be replaced.
            resume: continue the earlier run.

        Raises:
            OutputError: results of an earlier run are there; with ``resume``, there are none or they are of others
                settings; or another run is writing there.
        """
        if is_uri(self.out):
            self._begin_remote(how, overwrite, resume)
            self._check_parts(parts)
            try:
                yield
            except ConfigError:  # nothing began, so that the same call may be made again, as with `ResultFolder`
                if not resume and not self._names():
                    with suppress(OSError):
                        self.files.delete_file(f"{self.path}/{RECORD}")
                raise
            return
        if not resume:
            check_folder(Path(self.out), [TOP], sources, overwrite)
        with ResultFolder(Path(self.out), sources, overwrite, resume=resume, how=how) as folder:
            for name in parts:
                folder.claim(Path(TOP, name))
            self._check_parts(parts)
            yield

    def _check_parts(self, parts: Sequence[str]) -> None:
        self.sweep()
        if strangers := self.done() - set(parts):
            found = f"{self.place(min(strangers))}: is no part of this job"
            raise OutputError(f"{found}, and would be read as one: remove it, or name another `out`")

    def _head(self) -> Mapping[str, Any]:
        """The settings of the job that is there.

        Raises:
            OutputError: there is none.
        """
        try:
            with self.files.open_input_stream(f"{self.path}/{RECORD}") as record:
                head: Mapping[str, Any] = json.loads(record.read().splitlines()[0])["how"]
        except (OSError, ValueError, KeyError, IndexError):
            raise OutputError(f"{self.out}: holds no results to continue: leave `resume` out") from None
        return head

    def _begin_remote(self, how: Mapping[str, Any], overwrite: bool, resume: bool) -> None:
        if resume:
            check_same(self.out, self._head(), how)
            return
        is_there = self.files.get_file_info(f"{self.path}/{RECORD}").type == filesystems.FileType.File
        if (is_there or self._names()) and not overwrite:
            remedy = "name another `out`, or replace it with `overwrite=True`"
            raise OutputError(f"{self.out}: holds the results of an earlier run: {remedy}")
        for name in filter(_PART.fullmatch, self._names()):
            self.files.delete_file(f"{self.path}/{TOP}/{name}")
        self.files.create_dir(self.path)
        with self.files.open_output_stream(f"{self.path}/{RECORD}") as record:
            record.write(json.dumps({"singleshot": __version__, "how": dict(how)}).encode() + b"\n")
