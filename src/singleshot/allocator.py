"""Memory that is freed and wanted again a moment later."""

from __future__ import annotations

import ctypes
import platform

# Numbers of glibc's mallopt(3), and the largest values that it takes as an int.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER_TRIM, _LARGEST_KEPT = 2**31 - 1, 2**30


def keep_freed_memory() -> None:
    """Have glibc keep freed memory of this process for the next batch instead of giving it back to the system.

    glibc gives back blocks of over 32 MiB at once, and the end of its heap when that has grown. A network's maps are
    such blocks: their pages are fetched and cleared again for every batch, which takes a fifth of the CPU time of the
    bundled detector, trained or run by torch. Other C libraries are left as they are.
    """
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER_TRIM)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
