"""What is tortured: a reader, small valid files for it, and what may happen."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, NamedTuple

from singleshot.errors import SingleshotError
from torture.damage import WORDS, Damage, damage_bytes
from torture.structures import structured

Files = Mapping[str, bytes]
"""Contents by relative path."""

HANG_S = 5.0
"""Seconds of the processor: a busy machine is no hang."""
MAX_BYTES = 2**30
"""Memory that a small file may take, above what the process had."""


@dataclass(frozen=True)
class Target:
    """A reader of untrusted bytes.

    Attributes:
        name: of the row in the table.
        seeds: makes small valid inputs.
        read: is given a folder that holds the files.
        how: damage that knows the format, by the end of a file's name; bytes are damaged besides.
        spared: ends of names of files that stay whole.
        words: of the format.
        errors: that may come; each must name a file, unless ``names_file`` says that there is none.
        names_file: whether errors name the file, or the folder it lies in.
        needs: modules without which the row is left out.
        slow: an execution takes so many times as long as others; the short form tries fewer.
    """

    name: str
    seeds: Callable[[], Sequence[Files]]
    read: Callable[[Path], Any]
    how: Mapping[str, Damage] = field(default_factory=dict)
    spared: tuple[str, ...] = ()
    words: tuple[bytes, ...] = ()
    errors: tuple[type[BaseException], ...] = (SingleshotError,)
    names_file: bool = True
    needs: tuple[str, ...] = ()
    slow: int = 1

    @cached_property
    def inputs(self) -> list[Files]:
        """The seeds, made once."""
        return list(self.seeds())

    def damaged(self, seed: object, number: int) -> Files:
        """The input of a number: the same for the same seed."""
        random = Random(f"{seed}/{self.name}/{number}")
        return self.worsened(random.choice(self.inputs), random)

    def worsened(self, files: Files, random: Random) -> Files:
        """One to four kinds of damage, mostly to one file."""
        out = dict(files)
        names = [name for name in out if not name.endswith(self.spared or "\0")]
        for _ in range(random.choice((1, 1, 1, 2, 2, 4))):
            name = random.choice(names)
            how = next((how for end, how in self.how.items() if name.endswith(end)), damage_bytes)
            if random.random() < 0.3:
                how = damage_bytes
            out[name] = structured(how, out[name], random, (*WORDS, *self.words))
        if len(names) > 1 and random.random() < 0.02:
            del out[random.choice(names)]
        return out


class Outcome(NamedTuple):
    """What a reader did.

    Attributes:
        kind: ``result``, ``refused``, or what it may not do: ``untyped``, ``unnamed``, ``hang``, ``memory``.
        where: exception and line, by which findings are the same; empty for what is allowed.
        text: of the error.
    """

    kind: str
    where: str = ""
    text: str = ""

    @property
    def is_finding(self) -> bool:
        return bool(self.where)


class Hang(BaseException):
    """The time is up."""


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises `Hang` after so many seconds of the processor."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    old = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


class Bench:
    """Runs readers on files in a folder in memory, each time another one: nothing is remembered by path."""

    def __init__(self) -> None:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="torture-", dir=base))
        self._numbers = itertools.count()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def unfinished(self) -> Files:
        """The files of an execution that its process did not survive."""
        folders = [path for path in self.folder.glob("t*") if path.is_dir()]
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for folder in folders
            for path in folder.rglob("*")
            if path.is_file()
        }

    def run(self, target: Target, files: Files) -> Outcome:
        """One execution."""
        folder = self.folder / f"t{next(self._numbers)}"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        before = peak_bytes()
        try:
            with deadline(HANG_S), warnings.catch_warnings():
                warnings.simplefilter("error")
                outcome = self._outcome(target, folder)
        except Hang as hang:
            outcome = Outcome("hang", f"hang at {_place(hang)}", f"over {HANG_S} s of the processor")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        grown = peak_bytes() - before
        if grown > MAX_BYTES:
            return Outcome("memory", f"memory {outcome.kind}", f"{grown:,} bytes more; {outcome.text}")
        return outcome

    def _outcome(self, target: Target, folder: Path) -> Outcome:
        try:
            target.read(folder)
        except target.errors as error:
            text = str(error)
            if any(isinstance(cause, MemoryError) for cause in _causes(error)):
                return Outcome("memory", f"MemoryError at {_place(error)}", text)
            if not text.strip() or (target.names_file and str(folder) not in text):
                return Outcome("unnamed", f"{type(error).__name__} without its file at {_place(error)}", text)
            return Outcome("refused", text=text)
        except Hang:
            raise
        except MemoryError as error:
            return Outcome("memory", f"MemoryError at {_place(error)}", "MemoryError")
        except BaseException as error:  # whatever it is, it is what is looked for
            return Outcome("untyped", f"{type(error).__name__} at {_place(error)}", f"{type(error).__name__}: {error}")
        return Outcome("result")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _place(error: BaseException) -> str:
    """The innermost line of ours."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/singleshot/" in f.filename]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename.rpartition('/singleshot/')[2]}:{last.lineno}"


def minimised(bench: Bench, target: Target, files: Files, where: str, tries: int = 400, seconds: float = 60) -> Files:
    """Smaller files that are the same finding: pieces are left out for as long as that holds."""
    out, end = dict(files), time.monotonic() + seconds
    for name in sorted(out, key=lambda name: -len(out[name])):
        step = max(len(out[name]) // 2, 1)
        while step and tries > 0 and time.monotonic() < end:
            at = 0
            while at < len(out[name]) and tries > 0 and time.monotonic() < end:
                tries -= 1
                less = out | {name: out[name][:at] + out[name][at + step :]}
                if bench.run(target, less).where == where:
                    out = less
                else:
                    at += step
            step //= 2
    return out
