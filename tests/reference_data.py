"""Where the reference data is."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def reference_folder() -> Path:
    """Folder of golden outputs, real images and foreign weights: ``SINGLESHOT_REFERENCE``, else ``../shared``."""
    return Path(os.environ.get("SINGLESHOT_REFERENCE", ROOT.parent / "shared"))
