"""Readers of untrusted bytes, given damaged ones: `make torture`, and a short form among the tests.

`targets` lists the readers, one row each; `damage` and `structures` make of a small valid file a damaged one, always
the same for a seed and a number; `target` says what a reader may do with it; `campaign` runs it in processes that may
die.
"""

from __future__ import annotations

import sys
from pathlib import Path

for _room in ("interop", "data", "images"):  # the tests' own writers of files
    _folder = str(Path(__file__).parents[1] / _room)
    if _folder not in sys.path:
        sys.path.append(_folder)
