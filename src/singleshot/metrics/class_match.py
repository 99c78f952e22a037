"""Which class of a model is which class of a data set: by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from singleshot.errors import DataError

SYNONYMS = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""VOC's names of classes that COCO calls otherwise, when spaces and case are left out."""


@dataclass(frozen=True, slots=True)
class ClassMatch:
    """The classes that a model and a data set share, in the data set's order.

    Attributes:
        names: the data set's names, ``[S]``.
        model_ids: class id of each in the model.
        data_ids: class id of each in the data set.
        only_model: classes that the data set does not have; their detections do not count.
        only_data: classes that the model does not know; their objects do not count.
    """

    names: tuple[str, ...]
    model_ids: tuple[int, ...]
    data_ids: tuple[int, ...]
    only_model: tuple[str, ...]
    only_data: tuple[str, ...]

    def model_to_shared(self, count: int) -> np.ndarray:
        """Shared class id by class id of the model, -1 where there is none, ``[count]``."""
        return _inverse(self.model_ids, count)

    def data_to_shared(self, count: int) -> np.ndarray:
        """Shared class id by class id of the data set, -1 where there is none, ``[count]``."""
        return _inverse(self.data_ids, count)


def match_classes(model_names: Sequence[str], data_names: Sequence[str]) -> ClassMatch:
    """Match classes by name; case, spaces, ``-`` and ``_`` do not matter, and VOC's names equal COCO's.

    Raises:
        DataError: no class is shared; the message shows both lists and the nearest names.
    """
    by_key = {_key(name): index for index, name in reversed(list(enumerate(model_names)))}
    pairs = [(by_key.get(_key(name)), index) for index, name in enumerate(data_names)]
    shared = [(model, data) for model, data in pairs if model is not None]
    if not shared:
        raise DataError(_nothing_shared(model_names, data_names))
    used = {model for model, _ in shared}
    return ClassMatch(
        names=tuple(data_names[data] for _, data in shared),
        model_ids=tuple(model for model, _ in shared),
        data_ids=tuple(data for _, data in shared),
        only_model=tuple(name for index, name in enumerate(model_names) if index not in used),
        only_data=tuple(data_names[data] for model, data in pairs if model is None),
    )


def _key(name: str) -> str:
    plain = re.sub(r"[\s_-]+", "", name).casefold()
    return SYNONYMS.get(plain, plain)


def _inverse(ids: Sequence[int], count: int) -> np.ndarray:
    table = np.full(count, -1, dtype=np.int64)
    table[list(ids)] = np.arange(len(ids))
    return table


def _nothing_shared(model_names: Sequence[str], data_names: Sequence[str]) -> str:
    near = {name: difflib.get_close_matches(name, model_names, n=1, cutoff=0.6) for name in data_names}
    hints = [f"'{name}' of the data is nearest to '{found[0]}' of the model" for name, found in near.items() if found]
    return (
        f"the model and the data set share no class. The model knows {_some(model_names)}; the data set has "
        f"{_some(data_names)}. " + (f"{'; '.join(hints[:5])}: rename one of them. " if hints else "")
        + "Evaluate a model that was trained on these classes, or train one: singleshot train DATA"
    )  # fmt: skip


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "none") + more
