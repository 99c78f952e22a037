"""The page of a diagnosis: each kind of finding with its remedy, a table, and the first pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from singleshot.doctor.findings import Finding, Place, Severity
from singleshot.errors import ImageError
from singleshot.images.draw import draw_box, draw_label
from singleshot.images.lettering import Colour
from singleshot.images.read import read_image
from singleshot.report.page import Block, Figure, Figures, Section, Table, Text

MOST_ROWS, MOST_PICTURES = 200, 12
SIDE_PX = 480
CONTEXT = 1.5
"""A picture is cut to so many times the boxes that it is about, at most to its whole."""
LEAST_SHOWN_PX = 200
COLOURS: tuple[Colour, ...] = ((229, 57, 53), (24, 178, 107), (255, 176, 0), (86, 180, 233))


def finding_sections(
    kinds: Iterable[tuple[Severity, str, str, str, Sequence[Finding]]], head: Sequence[str]
) -> list[Section]:
    """What a page shows.

    Args:
        kinds: severity, kind, title, remedy and findings, the worst first.
        head: what was looked at.
    """
    kinds = list(kinds)
    overview: list[list[str | int | float | None]] = [
        [severity, kind, title, len(own), remedy] for severity, kind, title, remedy, own in kinds
    ]
    blocks: list[Block] = [Text("\n\n".join(head))]
    if overview:
        blocks.append(Table(["severity", "kind", "what", "findings", "remedy"], overview))
    sections = [Section("Overview", blocks)]
    for severity, kind, title, remedy, own in kinds:
        rows: list[list[str | int | float | None]] = [[item.where, item.message] for item in own[:MOST_ROWS]]
        more = f"The first {MOST_ROWS} of {len(own)}; the JSON has all." if len(own) > MOST_ROWS else ""
        parts: list[Block] = [Text(f"{remedy}.")]
        figures = _figures(own)
        if figures:
            parts.append(Figures(figures))
        sections.append(
            Section(f"{title[:1].upper()}{title[1:]} ({severity})", [*parts, Table(["where", kind], rows, more)])
        )
    return sections


def _figures(findings: Sequence[Finding]) -> list[Figure]:
    figures: list[Figure] = []
    for item in findings:
        for place in item.places:
            if len(figures) >= MOST_PICTURES:
                return figures
            picture = draw_place(place)
            if picture is not None:
                figures.append(Figure(picture, f"{place.image.name}: {item.message}"))
    return figures


def draw_place(place: Place) -> NDArray[np.uint8] | None:
    """The part of a picture that a finding is about, its boxes drawn; ``None`` where it cannot be read."""
    try:
        pixels = np.ascontiguousarray(read_image(place.image))
    except ImageError:
        return None
    boxes = np.array(place.boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    left, top, right, bottom = _window(boxes, pixels.shape[0], pixels.shape[1])
    part = pixels[top:bottom, left:right]
    scale = SIDE_PX / max(part.shape[:2])
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=kind), dtype=np.uint8)
    drawn = (boxes - [left, top, left, top]) * scale
    for index, (box, text) in enumerate(zip(drawn, place.labels, strict=True)):
        draw_box(part, box, COLOURS[index % len(COLOURS)], dashed=index > 0)
        draw_label(part, box, text, COLOURS[index % len(COLOURS)])
    return part


def _window(boxes: NDArray[np.float64], height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a part with all boxes and what is around them."""
    if not len(boxes):
        return 0, 0, width, height
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    half = max(float((high - low).max()) * CONTEXT, LEAST_SHOWN_PX) / 2
    centre = (low + high) / 2
    left, top = (int(max(0, value)) for value in np.floor(centre - half))
    right, bottom = (int(value) for value in np.ceil(centre + half))
    return (
        min(left, width - 1),
        min(top, height - 1),
        min(max(right, left + 1), width),
        min(max(bottom, top + 1), height),
    )
