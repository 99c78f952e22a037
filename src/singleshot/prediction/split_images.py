"""The images of a data set's split, labelled or not."""

from __future__ import annotations

from pathlib import Path

from singleshot.data.opening import open_found
from singleshot.data.recognise import recognise
from singleshot.errors import ImageError
from singleshot.prediction.sources import FoundImages

LOST = ("missing-image", "unreadable-image")


def split_images(path: str | Path, split: str) -> FoundImages:
    """List the images of a split, those without labels too (VOC2012's test), in the data set's order.

    Args:
        path: of the data set.
        split: one, several joined by ``+``, or ``all``.

    Raises:
        DataError: there is no such data set or split.
        ImageError: it has no image.
    """
    found = recognise(Path(path), "auto")
    dataset = open_found(found, None if split == "all" else split, lenient=True)
    images = list(dict.fromkeys([*(sample.image_path for sample in dataset), *dataset.unlabelled]))
    lost = [str(problem) for problem in dataset.problems if problem.kind in LOST]
    if not images:
        raise ImageError(f"{path}: split '{split}' has no image" + (f": {lost[0]}" if lost else ""))
    return FoundImages(images, list(dataset.notes), lost)
