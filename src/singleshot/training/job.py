"""What the processes of one job on this machine leave for each other, and for those that follow after a restart.

torchrun gives every process of a job the same name and parent; a folder that only this user can open is called after
both, and after the moment in which the parent began: in a container its number is always the same. Without torchrun
there is nothing to leave.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """The notes of a job.

    Attributes:
        notes: their folder; ``None`` where this process is alone.
        restarts: how often the job has been restarted.
    """

    notes: Path | None = None
    restarts: int = 0

    def begun(self) -> Path | None:
        """The folder of the run that the job had begun before it was restarted."""
        with suppress(OSError):
            if self.notes and self.restarts:
                return Path((self.notes / "folder").read_text(encoding="utf-8"))
        return None

    def begin(self, folder: Path) -> None:
        """From now on a restart continues the run in a folder."""
        if self.notes:
            (self.notes / "folder").write_text(str(folder.resolve()), encoding="utf-8")

    def tell(self, *, is_final: bool) -> bool:
        """Whether this process is the first that ends with an error since the last restart, and so says which.

        Args:
            is_final: whether a restart would only repeat it.
        """
        if self.notes is None:
            return True
        try:
            (self.notes / f"told-{self.restarts}").touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # twice is better than never
            return True
        if is_final:
            with suppress(OSError):
                (self.notes / "error").touch()
        return True

    def has_failed(self) -> bool:
        """Whether a process has told an error that a restart would only repeat."""
        return self.notes is not None and (self.notes / "error").exists()

    def forget(self) -> None:
        """Remove the notes."""
        if self.notes:
            shutil.rmtree(self.notes, ignore_errors=True)


def this_job() -> Job:
    """The job that this process belongs to."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return Job()
    return Job(notes_of(os.getppid(), name), int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)))


def notes_of(parent: int, name: str) -> Path | None:
    """The folder for the notes of a job, made where it is missing; ``None`` where another user's things are there.

    Args:
        parent: number of the process that starts the job's processes.
        name: of the job.
    """
    owner = os.getuid() if hasattr(os, "getuid") else 0
    own = "-".join([str(owner), str(parent), _beginning(parent), re.sub(r"[^A-Za-z0-9-]", "", name)[:40]])
    folder = Path(tempfile.gettempdir()) / f"singleshot-{own}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == owner)
    return folder if is_ours else None


def _beginning(process: int) -> str:
    """When a process began, in ticks since the system did; 0 where the system does not tell."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return "0"
