"""What an importer did with a foreign file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was mapped, left over and missing.

    Attributes:
        source: the system, as ``--from`` names it.
        architecture: what the file turned out to be.
        mapped: (our parameter, the source's names that it was made from).
        left_over: the source's names that nothing was made from.
        missing: our parameters that the file does not give; they keep a stated default.
        notes: what a person should know, one sentence each.
    """

    source: str
    architecture: str
    mapped: tuple[tuple[str, str], ...]
    left_over: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {self.architecture}",
            f"{len(self.mapped)} parameters mapped, {len(self.left_over)} left over, {len(self.missing)} missing",
        ]
        lines += [f"left over: {name}" for name in self.left_over]
        lines += [f"missing: {name}" for name in self.missing]
        return "\n".join([*lines, *self.notes])
