"""What is wrong with a data set, record by record, and what was done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from singleshot.errors import DataError

BadData = Literal["skip", "error"]
"""``skip`` mends or leaves out bad records and reports them; ``error`` refuses the data set."""

Action = Literal["noted", "repaired", "skipped"]
"""``noted``: nothing changed. ``repaired``: a label was changed. ``skipped``: an object or an image was left out."""

EXAMPLES_IN_ERROR = 10

HARMLESS = frozenset({"edge", "no-size", "size-swapped", "tiny"})
"""Kinds that change nothing: `summarise` leaves them to ``data check``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One record that is not as it should be.

    Attributes:
        file: the annotation file, or the image where the image itself is at fault.
        line: line in ``file``, 1 is the first; ``None`` where lines say nothing (an image, a file as a whole).
        kind: short name of the fault, the same for all faults of its sort (``"outside"``, ``"missing-image"`` ...).
        action: what was done.
        message: what is wrong, with the values.
        image: the image that it is about, where that is known; no part of what the problem is.
    """

    file: Path
    line: int | None
    kind: str
    action: Action
    message: str
    image: Path | None = field(default=None, compare=False)

    @property
    def where(self) -> str:
        """``file:line``, or ``file`` alone."""
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.where}: {self.message} [{self.kind}, {self.action}]"


def count_kinds(problems: Sequence[Problem]) -> dict[tuple[str, Action], int]:
    """How many problems there are of each (kind, action): skipped first, then repaired, the most frequent first."""
    order = ("skipped", "repaired", "noted")
    counted = Counter((problem.kind, problem.action) for problem in problems)
    return dict(sorted(counted.items(), key=lambda item: (order.index(item[0][1]), -item[1], item[0][0])))


def summarise(problems: Sequence[Problem]) -> list[str]:
    """A line for each kind worth knowing before any work: how many, what was done, and the first of them."""
    lines = []
    for (kind, action), count in count_kinds(problems).items():
        if kind not in HARMLESS:
            first = next(problem for problem in problems if (problem.kind, problem.action) == (kind, action))
            which = "" if count == 1 else ", the first"
            lines.append(f"{kind}: {count} {action}{which}: {first.where}: {first.message}")
    return lines


def refuse(problems: Sequence[Problem], where: Path) -> None:
    """Raise when a label had to be changed or left out (``bad_data="error"``).

    Raises:
        DataError: naming the first problems with file and line, and how to go on.
    """
    bad = [problem for problem in problems if problem.action != "noted"]
    if not bad:
        return
    shown = "\n  ".join(str(problem) for problem in bad[:EXAMPLES_IN_ERROR])
    more = f"\n  ... and {len(bad) - EXAMPLES_IN_ERROR} more" if len(bad) > EXAMPLES_IN_ERROR else ""
    raise DataError(
        f"{where}: {len(bad)} bad records:\n  {shown}{more}\n"
        "Mend the files (`singleshot data check` lists everything), or go on without them by `bad_data='skip'`."
    )


def guessed_encoding(file: Path, encoding: str) -> Problem:
    """The note that a text neither says its encoding nor is UTF-8."""
    message = f"does not say its encoding and is not UTF-8: read as {encoding}; save it as UTF-8 if words look wrong"
    return Problem(file, None, "encoding", "noted", message)
