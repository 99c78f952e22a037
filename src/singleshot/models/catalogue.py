"""Detectors by name. Importing this never imports torch.

A catalogue name gives a whole ``ModelSpec`` for any class names and any input size; the anchors of a recipe are
fractions of the image, so they follow the size. The rows are in ``zoo``, one file for each family.
"""

from __future__ import annotations

from collections.abc import Sequence

from singleshot.core.registry import Registry
from singleshot.core.settings import SizeHW
from singleshot.errors import ConfigError
from singleshot.models.config import ModelSpec
from singleshot.models.zoo import dssd, mxnet, refinedet, ssd, ssdlite, tdm
from singleshot.models.zoo.common import Model

MODELS: Registry[Model] = Registry("model", {}, listing="'singleshot models'")
"""Rows by name; other installed packages add theirs with entry points of the group ``singleshot.models``."""

for _row in (*ssd.MODELS, *ssdlite.MODELS, *dssd.MODELS, *tdm.MODELS, *refinedet.MODELS, *mxnet.MODELS):
    MODELS.register(_row.name)(_row)


def model_names() -> tuple[str, ...]:
    """Names of all detectors, family by family."""
    return MODELS.names()


def model_entry(name: str) -> Model:
    """The row of a name.

    Raises:
        ConfigError: there is none; the message names similar ones.
    """
    return MODELS.get(name)


def model_spec(name: str, class_names: Sequence[str], size_hw: SizeHW | None = None) -> ModelSpec:
    """Everything about a detector besides its numbers.

    Args:
        name: of the catalogue.
        class_names: public classes 0..C-1.
        size_hw: network input; ``None`` takes the one it was designed for. Sides need not be equal.

    Raises:
        ConfigError: no such model, or class names that repeat.
    """
    row = model_entry(name)
    names = tuple(class_names)
    repeated = sorted({one for one in names if names.count(one) > 1})
    if repeated:
        raise ConfigError(f"class_names must differ; repeated: {', '.join(repeated)}")
    return row.spec(names, size_hw or row.size_hw)
