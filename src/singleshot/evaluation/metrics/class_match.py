"""Which class of a model is which class of a data set: by name."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
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
        loose: (model's name, data set's name) of the classes that are spelt differently, of those in ``names``.
    """

    names: tuple[str, ...]
    model_ids: tuple[int, ...]
    data_ids: tuple[int, ...]
    only_model: tuple[str, ...]
    only_data: tuple[str, ...]
    loose: tuple[tuple[str, str], ...] = ()

    def model_to_shared(self, count: int) -> np.ndarray:
        """Shared class id by class id of the model, -1 where there is none, ``[count]``."""
        return _inverse(self.model_ids, count)

    def data_to_shared(self, count: int) -> np.ndarray:
        """Shared class id by class id of the data set, -1 where there is none, ``[count]``."""
        return _inverse(self.data_ids, count)


def match_classes(model_names: Sequence[str], data_names: Sequence[str]) -> ClassMatch:
    """Match classes by name: equal names first, then names that are the same but for their spelling.

    Case, spaces, ``-``, ``_`` and the Unicode form are spelling, and VOC's names are COCO's (`SYNONYMS`). Two names of
    one side that differ in nothing else are different classes: neither is then matched by anything but its exact name.

    Raises:
        DataError: no class is shared; the message shows both lists and the nearest names.
    """
    partner = _equal_names(model_names, data_names)
    loose = _loose_names(model_names, data_names, partner)
    partner |= loose
    if not partner:
        raise DataError(_nothing_shared(model_names, data_names))
    shared = sorted(partner)
    used = set(partner.values())
    return ClassMatch(
        names=tuple(data_names[data] for data in shared),
        model_ids=tuple(partner[data] for data in shared),
        data_ids=tuple(shared),
        only_model=tuple(name for index, name in enumerate(model_names) if index not in used),
        only_data=tuple(name for index, name in enumerate(data_names) if index not in partner),
        loose=tuple((model_names[model], data_names[data]) for data, model in sorted(loose.items())),
    )


def _equal_names(model_names: Sequence[str], data_names: Sequence[str]) -> dict[int, int]:
    """The model's class by class of the data set with the very same name."""
    by_name = {name: index for index, name in reversed(list(enumerate(model_names)))}
    return {index: by_name[name] for index, name in enumerate(data_names) if name in by_name}


def _loose_names(model_names: Sequence[str], data_names: Sequence[str], partner: Mapping[int, int]) -> dict[int, int]:
    """The model's class by class of the data set where only the spelling differs and neither side has another such."""
    model, data = _by_key(model_names), _by_key(data_names)
    single = (key for key in data if len(data[key]) == len(model.get(key, ())) == 1)
    return {data[key][0]: model[key][0] for key in single if data[key][0] not in partner}


def _by_key(names: Sequence[str]) -> dict[str, list[int]]:
    """Class ids by what is left of their names without spelling."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        found.setdefault(_key(name), []).append(index)
    return found


def _key(name: str) -> str:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    plain = re.sub(r"[\s_-]+", "", folded) or folded  # a name may be nothing but a dash
    return SYNONYMS.get(plain, plain)


def _inverse(ids: Sequence[int], count: int) -> np.ndarray:
    table = np.full(count, -1, dtype=np.int64)
    table[list(ids)] = np.arange(len(ids))
    return table


def _nothing_shared(model_names: Sequence[str], data_names: Sequence[str]) -> str:
    by_key = {_key(name): name for name in reversed(model_names)}
    near = {name: difflib.get_close_matches(_key(name), by_key, n=1, cutoff=0.6) for name in data_names}
    hints = [
        f"'{name}' of the data is nearest to '{by_key[found[0]]}' of the model" for name, found in near.items() if found
    ]
    return (
        f"the model and the data set share no class. The model knows {_some(model_names)}; the data set has "
        f"{_some(data_names)}. " + (f"{'; '.join(hints[:5])}: rename one of them. " if hints else "")
        + "Evaluate a model that was trained on these classes, or train one: singleshot train DATA"
    )  # fmt: skip


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "none") + more
