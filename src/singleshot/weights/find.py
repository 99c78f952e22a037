"""The weights file that a user means: a bundled name, or a path."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from singleshot.core.files import is_regular
from singleshot.errors import WeightsError
from singleshot.images.read import nearest_hint
from singleshot.weights.bundled import bundled_names, bundled_path


def find_weights(weights: str | os.PathLike[str]) -> Path:
    """The file that a name or a path means.

    Raises:
        WeightsError: there is none; the message names the nearest.
    """
    path, names = Path(weights), bundled_names()
    if str(weights) in names:
        return bundled_path(str(weights))
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder: name a .safetensors file in it, or use 'singleshot import {path}'")
    if path.exists():
        if not is_regular(path):
            raise WeightsError(f"{path}: a pipe or a device, not a weights file")
        return path
    if path.suffix or len(path.parts) > 1:
        raise WeightsError(f"{path}: no such weights file{nearest_hint(path)}")
    near = difflib.get_close_matches(str(weights), names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise WeightsError(f"no weights '{weights}'.{hint} Give a bundled name ({', '.join(names)}) or the path of a file")
