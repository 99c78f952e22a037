"""Memory that is freed and wanted again a moment later."""

from __future__ import annotations

import ctypes
import platform

# Numbers of glibc's mallopt(3), and the largest values that it takes as an int.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
EVERYTHING, LARGEST_KEPT = 2**31 - 1, 2**30
# Blocks up to this come from a heap in time, if nobody asks for more (glibc's DEFAULT_MMAP_THRESHOLD_MAX).
LARGEST_USUAL = 2**25

_kept = 0


def keep_freed_memory(at_most: int = EVERYTHING) -> None:
    """Have glibc keep freed memory of this process for the next batch instead of giving it back to the system.

    glibc gives back blocks of over 32 MiB at once, and the end of a heap when that has grown to a few MB. A network's
    maps are such blocks: their pages are fetched and cleared again for every batch, which takes a fifth of the CPU time
    of the bundled detector, trained or run by torch. Decoded photos lie at the end of a heap: 3 to 5 % of a prediction.
    Other C libraries are left as they are.

    Args:
        at_most: bytes at the end of each heap (a thread has one); blocks of over 32 MiB are then given back as usual. A
            call never takes back what an earlier one asked for.
    """
    global _kept
    if at_most > _kept and platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        _kept = at_most
        libc = ctypes.CDLL(None)
        libc.mallopt(TRIM_THRESHOLD, at_most)
        libc.mallopt(MMAP_THRESHOLD, LARGEST_KEPT if at_most == EVERYTHING else LARGEST_USUAL)
