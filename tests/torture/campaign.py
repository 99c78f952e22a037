"""Many executions of many readers, each reader in a process of its own that may die, hang or take memory."""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torture.guided import fuzz
from torture.target import Bench, Files, Target, minimised, peak_bytes

LIMIT_BYTES = 3 * 2**30
"""Address space of a process beyond what it begins with: more ends in a `MemoryError`, not in a dead machine."""
DEAD_S = 300.0
"""A process that finishes no execution in so long hangs where no signal reaches it."""
MOST_KEPT = 40
"""Different findings of a reader that are minimised and written down."""
KINDS = ("result", "refused", "untyped", "unnamed", "hang", "memory", "crash")


@dataclass
class Row:
    """A reader's row of the table.

    Attributes:
        name: of the reader.
        kinds: how often each outcome was.
        findings: the first input of each, and what it gave.
        peak_bytes: most memory beyond what the process began with.
        slowest_s: of one execution, seconds of the processor.
    """

    name: str
    kinds: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[int, str]] = field(default_factory=dict)
    peak_bytes: int = 0
    slowest_s: float = 0.0

    @property
    def executions(self) -> int:
        return self.kinds.total()

    @property
    def untyped(self) -> int:
        return self.kinds["untyped"] + self.kinds["unnamed"]


class Shared:
    """What parent and child both see, also when the child is dead."""

    _FORM = struct.Struct(f"<Qdd Q{len(KINDS)}Q")

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, self._FORM.size)
        self.number, self.began, self.slowest_s, self.peak = 0, 0.0, 0.0, 0
        self.counts = [0] * len(KINDS)

    def write(self) -> None:
        self._map[:] = self._FORM.pack(self.number, self.began, self.slowest_s, self.peak, *self.counts)

    def read(self) -> None:
        self.number, self.began, self.slowest_s, self.peak, *self.counts = self._FORM.unpack(self._map[:])


@dataclass(frozen=True)
class Campaign:
    """How much is tried.

    Attributes:
        seed: of all that is random.
        seconds: for one reader.
        executions: of one reader at most.
        out: where inputs of findings are written.
        guided: whether atheris chooses what is damaged further; an input has then no number.
    """

    seed: object
    seconds: float
    executions: int
    out: Path
    guided: bool = False

    def run(self, target: Target) -> Row:
        """One reader; a process that dies is begun again behind the input that it died of."""
        row, number, end = Row(target.name), 0, time.monotonic() + self.seconds
        target.inputs  # noqa: B018  made before the fork: once
        while number < self.executions and time.monotonic() < end:
            shared, bench = Shared(), Bench()
            with tempfile.TemporaryFile() as told:
                child = os.fork()
                if child == 0:
                    self._child(target, number, end, _Child(self, target, bench, shared, told.fileno()))
                status = _wait(child, shared)
                deadly = bench.unfinished() if status else {}
                bench.close()
                told.seek(0)
                for line in told.read().splitlines():
                    where, of, text = json.loads(line)
                    row.findings.setdefault(where, (of, text))
            shared.read()
            row.kinds.update(dict(zip(KINDS, shared.counts, strict=True)))
            row.slowest_s = max(row.slowest_s, shared.slowest_s)
            row.peak_bytes = max(row.peak_bytes, shared.peak)
            number = shared.number + 1
            if status:
                kind = "hang" if status == signal.SIGKILL else "crash"
                row.kinds[kind] += 1
                row.findings.setdefault(f"{kind}, signal or status {status}", (shared.number, "the process ended"))
                self.keep(target, f"{kind} {status}", deadly)
        return row

    def _child(self, target: Target, first: int, end: float, child: _Child) -> None:
        code = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1), os.dup2(quiet, 2)
            _limit_memory()
            if self.guided:
                left, runs = end - time.monotonic(), min(self.executions, 2**31 - 1)
                fuzz(target, child.execute, f"{self.seed}/{first}", left, runs, child.bench.folder)
            for number in range(first, self.executions):
                if time.monotonic() > end:
                    break
                child.execute(target.damaged(self.seed, number), number)
            code = 0
        finally:
            os._exit(code)

    def keep(self, target: Target, where: str, files: Files) -> None:
        name = "".join(letter if letter.isalnum() else "-" for letter in f"{target.name}-{where}")[:120]
        for key, content in files.items():
            path = self.out / name / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class _Child:
    """The process that reads: what it counts, and what it has found."""

    def __init__(self, campaign: Campaign, target: Target, bench: Bench, shared: Shared, told: int) -> None:
        self.campaign, self.target, self.bench, self.shared = campaign, target, bench, shared
        self._told = told
        self._seen: set[str] = set()
        self._at_first = peak_bytes()

    def execute(self, files: Files, number: int | None = None) -> None:
        """One execution; a new finding is told, minimised and kept."""
        shared = self.shared
        shared.number, shared.began = shared.number + 1 if number is None else number, time.monotonic()
        shared.write()
        start = time.process_time()
        outcome = self.bench.run(self.target, files)
        shared.slowest_s = max(shared.slowest_s, time.process_time() - start)
        shared.peak = max(shared.peak, peak_bytes() - self._at_first)
        shared.counts[KINDS.index(outcome.kind)] += 1
        shared.began = 0.0
        shared.write()
        if outcome.is_finding and outcome.where not in self._seen and len(self._seen) < MOST_KEPT:
            self._seen.add(outcome.where)
            os.write(self._told, json.dumps([outcome.where, shared.number, outcome.text[:300]]).encode() + b"\n")
            less = minimised(self.bench, self.target, files, outcome.where)
            self.campaign.keep(self.target, outcome.where, less)


def _wait(child: int, shared: Shared) -> int:
    """The signal or status that ended a process; 0 where all is well."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return abs(os.waitstatus_to_exitcode(status))
        shared.read()
        if shared.began and time.monotonic() - shared.began > DEAD_S:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return int(signal.SIGKILL)
        time.sleep(0.05)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        limit = pages * mmap.PAGESIZE + LIMIT_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


HEADS = (
    "reader",
    "executions",
    "read",
    "refused",
    "crashes",
    "untyped",
    "hangs",
    "over 1 GiB",
    "most memory",
    "slowest",
)


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown, and their sum."""
    lines = ["| " + " | ".join(HEADS) + " |", "|---|" + "---:|" * (len(HEADS) - 1)]
    total = Row("**all**")
    for row in rows:
        total.kinds.update(row.kinds)
        total.peak_bytes, total.slowest_s = max(total.peak_bytes, row.peak_bytes), max(total.slowest_s, row.slowest_s)
    for row in [*rows, total]:
        kinds = row.kinds
        cells = [
            row.name,
            f"{row.executions:,}",
            f"{kinds['result']:,}",
            f"{kinds['refused']:,}",
            kinds["crash"],
            row.untyped,
        ]
        cells += [kinds["hang"], kinds["memory"], f"{row.peak_bytes / 2**20:.0f} MiB", f"{row.slowest_s:.2f} s"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
