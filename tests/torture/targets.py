"""All readers: a new one is a row of one of these tables."""

from __future__ import annotations

from importlib.util import find_spec

from torture import targets_exported, targets_images, targets_labels, targets_runs, targets_service, targets_weights
from torture.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for room in (targets_images, targets_labels, targets_weights, targets_exported, targets_runs, targets_service)
    for target in room.TARGETS
    if all(find_spec(module) for module in target.needs)
}
