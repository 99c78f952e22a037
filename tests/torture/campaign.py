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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torture.target import Bench, Files, Outcome, Target, minimised, peak_bytes

LIMIT_BYTES = 3 * 2**30
"""Address space of a process beyond what it begins with: more ends in a `MemoryError`, not in a dead machine."""
DEAD_S = 60.0
"""A process that finishes no execution in so long hangs where no signal reaches it."""
_PLACE = struct.Struct("<Qd")
MOST_KEPT = 40
"""Different findings of a reader that are minimised and written down."""


@dataclass
class Row:
    """A reader's row of the table."""

    name: str
    executions: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[int, str]] = field(default_factory=dict)
    peak_bytes: int = 0
    slowest_s: float = 0.0

    @property
    def untyped(self) -> int:
        return self.kinds["untyped"] + self.kinds["unnamed"]


@dataclass(frozen=True)
class Campaign:
    """How much is tried.

    Attributes:
        seed: of all that is random.
        seconds: for one reader.
        executions: of one reader at most.
        out: where inputs of findings are written.
        guided: whether atheris steers by coverage where it is installed.
    """

    seed: object
    seconds: float
    executions: int
    out: Path
    guided: bool = False

    def run(self, target: Target, loop: Callable[[Target, Bench, Report], None] | None = None) -> Row:
        """One reader; a process that dies is begun again behind the input that it died of."""
        row, number, end = Row(target.name), 0, time.monotonic() + self.seconds
        target.inputs  # noqa: B018  made before the fork: once
        while number < self.executions and time.monotonic() < end:
            with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as shared:
                shared.truncate(_PLACE.size)
                place = mmap.mmap(shared.fileno(), _PLACE.size)
                child = os.fork()
                if child == 0:
                    self._child(target, number, end, place, told.fileno())
                status = self._wait(child, place)
                told.seek(0)
                for line in told.read().splitlines():
                    _add(row, json.loads(line))
                number = _PLACE.unpack(place[:])[0] + 1
                if status:
                    kind = "hang" if status == signal.SIGKILL else "crash"
                    row.kinds[kind] += 1
                    self._keep(target, f"{kind} {status}", target.damaged(self.seed, number - 1))
                    row.findings.setdefault(f"{kind} {status}", (number - 1, "the process ended"))
        return row

    def _wait(self, child: int, place: mmap.mmap) -> int:
        """The signal or status that ended a process; 0 where all is well."""
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status) and (os.WTERMSIG(status) or os.WEXITSTATUS(status))
            _, began = _PLACE.unpack(place[:])
            if began and time.monotonic() - began > DEAD_S:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return int(signal.SIGKILL)
            time.sleep(0.05)

    def _child(self, target: Target, first: int, end: float, place: mmap.mmap, told: int) -> None:
        code = 1
        bench = Bench()
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1), os.dup2(quiet, 2)
            _limit_memory()
            report = Report(told)
            at_first = peak_bytes()
            for number in range(first, self.executions):
                if time.monotonic() > end:
                    break
                place[:] = _PLACE.pack(number, time.monotonic())
                files = target.damaged(self.seed, number)
                start = time.process_time()
                outcome = bench.run(target, files)
                report.add(outcome, number, time.process_time() - start, peak_bytes() - at_first)
                if outcome.is_finding and report.is_new(outcome):
                    place[:] = _PLACE.pack(number, 0.0)
                    self._keep(target, outcome.where, minimised(bench, target, files, outcome.where))
            report.flush()
            code = 0
        finally:
            bench.close()
            os._exit(code)

    def _keep(self, target: Target, where: str, files: Files) -> None:
        name = "".join(letter if letter.isalnum() else "-" for letter in f"{target.name}-{where}")[:120]
        for key, content in files.items():
            path = self.out / name / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Report:
    """What a child tells its parent, line by line: it may die at any time."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._seen: set[str] = set()
        self._row: Counter[str] = Counter()
        self._slowest, self._peak = 0.0, 0

    def is_new(self, outcome: Outcome) -> bool:
        if outcome.where in self._seen or len(self._seen) >= MOST_KEPT:
            return False
        self._seen.add(outcome.where)
        return True

    def add(self, outcome: Outcome, number: int, took_s: float, peak: int) -> None:
        self._row[outcome.kind] += 1
        self._slowest, self._peak = max(self._slowest, took_s), max(self._peak, peak)
        if outcome.is_finding and outcome.where not in self._seen:
            self._tell({"where": outcome.where, "number": number, "text": outcome.text[:300]})
        if self._row.total() >= 500:
            self.flush()

    def flush(self) -> None:
        self._tell({"kinds": self._row, "slowest": self._slowest, "peak": self._peak})
        self._row.clear()

    def _tell(self, what: Mapping[str, object]) -> None:
        os.write(self._file, json.dumps(what).encode() + b"\n")


def _add(row: Row, told: Mapping[str, object]) -> None:
    if "where" in told:
        row.findings.setdefault(str(told["where"]), (int(told["number"]), str(told["text"])))
        return
    row.kinds.update(told["kinds"])
    row.executions = sum(row.kinds.values())
    row.slowest_s = max(row.slowest_s, float(told["slowest"]))
    row.peak_bytes = max(row.peak_bytes, int(told["peak"]))


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
        total.executions += row.executions
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
