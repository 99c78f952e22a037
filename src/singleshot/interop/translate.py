"""What all importers of state dicts share: from a foreign state dict and a translation to ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray
from torch import Tensor

from singleshot.core.class_names import COCO_IDS, COCO_NAMES, VOC_NAMES
from singleshot.errors import WeightsError
from singleshot.interop.fill import Imported, Part, fill
from singleshot.models.config import ModelSpec
from singleshot.weights.file import COUNTER
from singleshot.weights.network import parameter_shapes

Shapes = Mapping[str, tuple[int, ...]]
"""Names and shapes of a state dict: all that an importer needs to see."""

COCO_COLUMNS = 91
"""Background and one column per COCO category id."""


class Translation(NamedTuple):
    """What a foreign state dict is.

    Attributes:
        spec: the detector, in the foreign system's dialect.
        rename: our parameter name -> theirs.
        grouped_by_code: channels of the heads are counted code by code (class by class), not box by box (NVIDIA).
        notes: what a person should know, one sentence each.
    """

    spec: ModelSpec
    rename: Callable[[str], str]
    grouped_by_code: bool = False
    notes: tuple[str, ...] = ()


class Classes(NamedTuple):
    """Public classes of a foreign detector, as `ModelSpec` says them."""

    names: tuple[str, ...]
    ids: tuple[int, ...] = ()
    columns: tuple[int, ...] | None = None


def classes_of(columns: int) -> Classes:
    """The classes that so many logit columns, background included, are known to mean; else numbered ones.

    21 are VOC's, 81 COCO's in order, 91 COCO's category ids (torchvision, TensorFlow).
    """
    if columns == len(VOC_NAMES) + 1:
        return Classes(VOC_NAMES)
    if columns == len(COCO_NAMES) + 1:
        return Classes(COCO_NAMES, COCO_IDS)
    if columns == COCO_COLUMNS:
        return Classes(COCO_NAMES, COCO_IDS, COCO_IDS)
    return Classes(tuple(f"class_{index}" for index in range(1, columns)))


def changed(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """A spec with some parts replaced, validated again.

    Args:
        spec: to start from.
        changes: whole parts, or for ``network``, ``coder``, ``preprocess`` and ``postprocess`` a dict of fields.
    """
    parts = {
        name: getattr(spec, name).model_copy(update=value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return ModelSpec.model_validate(spec.model_copy(update=parts).model_dump())


def best_per_class(count: int, columns: int) -> dict[str, Any]:
    """Changes of the postprocessing where so many candidates of every class count, and no limit over all has effect."""
    return {"pre_nms_top_k": count, "max_detections": count * (columns - 1), "clip": "none"}


def with_classes(spec: ModelSpec, columns: int) -> ModelSpec:
    """A spec whose head has so many logit columns, with the classes that they mean."""
    classes = classes_of(columns)
    head = spec.network.head.model_copy(update={"logits": columns})
    return changed(
        spec,
        network={"head": head},
        postprocess={"class_columns": classes.columns},
        class_names=classes.names,
        class_ids=classes.ids,
    )


def with_names(spec: ModelSpec, names: Sequence[str], origin: object) -> ModelSpec:
    """A spec with a user's class names: one per logit column (a first ``background`` may be left out), or known class.

    Raises:
        WeightsError: their number does not fit, or one comes twice.
    """
    columns = spec.network.head.logits
    if len(names) == columns and names[0].strip("_ ").lower() == "background":
        names = names[1:]  # as in the label files of pytorch-ssd and TensorFlow
    if len(set(names)) != len(names):
        raise WeightsError(f"{origin}: class names must differ; given: {', '.join(names)}")
    if len(names) == columns - 1:
        return changed(spec, class_names=tuple(names), class_ids=(), postprocess={"class_columns": None})
    if len(names) == len(spec.class_names):
        return changed(spec, class_names=tuple(names))
    raise WeightsError(
        f"{origin}: {len(names)} class names for a detector of {columns - 1} classes (without background)"
    )


def with_pixels(spec: ModelSpec, mean: Sequence[float] | None, scale: float | None) -> ModelSpec:
    """A spec with another mean (in pixels of 0..255) and factor; ``None`` keeps."""
    own = spec.preprocess
    factor = own.scale if scale is None else scale
    pixels = tuple(value / own.scale for value in own.mean) if mean is None else tuple(mean)
    if mean is None and scale is None:
        return spec
    return changed(spec, preprocess={"scale": factor, "mean": tuple(value * factor for value in pixels)})


def columns_of(shapes: Shapes, logits: str, boxes: str, origin: object) -> int:
    """Logit columns, from the output channels of one level's two predictors.

    Args:
        shapes: of the state dict.
        logits, boxes: names of their biases or weights.
        origin: the file, for messages.

    Raises:
        WeightsError: the channels of the logits are no multiple of the boxes per cell.
    """
    channels, per_cell = shapes[logits][0], shapes[boxes][0] // 4
    if per_cell < 1 or channels % per_cell or channels == per_cell:
        raise WeightsError(
            f"{origin}: '{logits}' has {channels} outputs for {per_cell} boxes per cell: no whole classes"
        )
    return channels // per_cell


def renamer(prefixes: Mapping[str, str]) -> Callable[[str], str]:
    """A translation of names by the longest known beginning; whole names come first."""

    def rename(name: str) -> str:
        owner = name
        while owner not in prefixes:
            owner, dot, _ = owner.rpartition(".")
            if not dot:
                return name
        return prefixes[owner] + name[len(owner) :]

    return rename


def translate_by_mark(
    builders: Mapping[str, Callable[[Shapes, str], Translation]], shapes: Shapes, origin: str, what: str
) -> Translation:
    """The translation of the first builder whose parameter the state dict has.

    Raises:
        WeightsError: it has none of them.
    """
    for name, build in builders.items():
        if name in shapes:
            return build(shapes, origin)
    raise WeightsError(f"{origin}: a checkpoint of {what} that is not known")


def convert(
    translation: Translation, state: Mapping[str, Tensor | NDArray[Any]], origin: object, system: str
) -> Imported:
    """Fill the network of a translation.

    Args:
        translation: of these names and shapes.
        state: the foreign state dict.
        origin: the file, for messages.
        system: the importer, for the report.

    Raises:
        WeightsError: a parameter is missing, has another shape, or is not finite.
    """
    spec = translation.spec
    places = {ours: translation.rename(ours) for ours in parameter_shapes(spec.network)}
    parts = {
        ours: Part(state.get(theirs), theirs)
        for ours, theirs in places.items()
        if theirs in state or not ours.endswith(COUNTER)
    }
    spec, own, report = fill(spec, parts, state, system, origin, translation.notes)
    if translation.grouped_by_code:
        own |= {name: _regrouped(value, name, spec) for name, value in own.items() if name.startswith("head.")}
    return spec, own, report


def _regrouped(value: Tensor, name: str, spec: ModelSpec) -> Tensor:
    """Rows counted code by code, as rows counted box by box."""
    codes = 4 if name.startswith("head.boxes") else spec.network.head.logits
    return value.reshape(codes, -1, *value.shape[1:]).transpose(0, 1).reshape(value.shape).contiguous()
