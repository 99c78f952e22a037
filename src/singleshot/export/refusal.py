"""Why a format cannot carry a detector, where several formats say the same."""

from __future__ import annotations

from singleshot.export.info import ExportInfo

FIXED_NMS = ("greedy", "none")
"""What has a form without loops over detections in Python."""


def needs_fixed_nms(info: ExportInfo) -> str | None:
    """A graph from pictures to detections holds greedy NMS or none."""
    nms = info.spec.postprocess.nms
    if info.level != "end2end" or nms in FIXED_NMS:
        return None
    return f"its NMS is '{nms}', and a graph holds 'greedy' or 'none': `level='decoded'` leaves NMS to the caller"
