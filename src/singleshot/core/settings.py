"""Typed settings that travel inside weights files and recipes. Pure pydantic: importing this never imports torch.

Every difference between the reference systems (Caffe, ssd.pytorch, torchvision, MXNet, TF) that changes a number is
a field here, and one implementation reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from singleshot.core.nms_kinds import NMS_KINDS
from singleshot.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

MAX_SIDE = 4096
"""Pixels of a side of the network input: what a file says is allocated."""

MAX_LEVELS = 64
MAX_BOXES_PER_CELL = 1024

Side = Annotated[int, Field(gt=0, le=MAX_SIDE)]
SizeHW = tuple[Side, Side]
"""(height, width) in pixels."""

# What float32 can compute with, far beyond what any detector has.
Finite = Annotated[float, Field(ge=-1e9, le=1e9)]
Positive = Annotated[float, Field(ge=1e-9, le=1e9)]

UnitFloat = Annotated[float, Field(ge=0.0, le=1.0)]


class Frozen(BaseModel):
    """A setting: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Variances(NamedTuple):
    """What the (centre x, centre y, width, height) regression targets are divided by (Caffe's ``variance``)."""

    cx: Positive = 0.1
    cy: Positive = 0.1
    w: Positive = 0.2
    h: Positive = 0.2


def _each_side(variances: Any) -> Any:
    """(centre, size), as the articles and ssd.pytorch write it, means both centres and both sides."""
    if not isinstance(variances, Sequence) or isinstance(variances, str) or len(variances) == 4:
        return variances
    if len(variances) != 2:
        raise ValueError(f"must be 4 numbers (cx, cy, w, h), or 2 (centre, size), not {len(variances)}")
    centre, size = variances
    return (centre, centre, size, size)


class AnchorLevel(Frozen):
    """Default boxes of one feature map.

    Attributes:
        shapes_wh: (width, height) of each box of a cell, as fractions of the image, in the order of the channels.
        step_hw: spacing of the centres in y and x as fractions of the image; ``None`` divides the image by the map.
        offset_yx: where in its cell a centre lies; ``None`` is that of all levels.
    """

    shapes_wh: Annotated[tuple[tuple[float, float], ...], Field(max_length=MAX_BOXES_PER_CELL)]
    step_hw: tuple[Positive, Positive] | None = None
    offset_yx: tuple[Finite, Finite] | None = None


class AnchorConfig(Frozen):
    """Default boxes of all feature maps, finest first (SSD section 2.2).

    Attributes:
        levels: one entry per feature map.
        reference_hw: input size that ``step_hw`` was written for; at any other size the real map shape decides.
            ``None`` uses ``step_hw`` at every size.
        offset_yx: where in its cell a centre lies.
        clip: ``none``; ``corner`` clamps corners to the image (Caffe ``clip: true``, MXNet); ``centre`` clamps
            (cx, cy, w, h) as numbers (ssd.pytorch, lufficc); ``size`` clamps only (w, h) (torchvision).
        layout: ``cell`` orders a level by row, column, shape; ``shape`` by shape, row, column (NVIDIA).
        aspect: ``image`` reads widths as fractions of the width; ``map`` multiplies widths by map height / map width
            (MXNet), so that boxes of ratio 1 stay square in the map's pixels.
    """

    levels: Annotated[tuple[AnchorLevel, ...], Field(max_length=MAX_LEVELS)]
    reference_hw: SizeHW | None = None
    offset_yx: tuple[Finite, Finite] = (0.5, 0.5)
    clip: Literal["none", "corner", "centre", "size"] = "none"
    layout: Literal["cell", "shape"] = "cell"
    aspect: Literal["image", "map"] = "image"

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        """Number of default boxes in a cell of each level."""
        return tuple(len(level.shapes_wh) for level in self.levels)


class CoderConfig(Frozen):
    """How box codes relate to boxes (SSD eq. 2).

    Attributes:
        variances: what targets are divided by, in the order cx, cy, w, h; two numbers are (centre, size).
        order: order of the four codes; TF writes (ty, tx, th, tw).
        max_log_ratio: codes of width and height are limited to this before exp; ``None`` does not limit.
    """

    variances: Annotated[Variances, BeforeValidator(_each_side)] = Variances()
    order: Literal["xywh", "yxhw"] = "xywh"
    max_log_ratio: float | None = math.log(1000 / 16)


class MatchConfig(Frozen):
    """Which anchor learns which object (SSD section 2.2, "Matching strategy").

    Attributes:
        positive_iou: an anchor takes its best object from this IoU on; ``None`` stops after the forced step.
        compare: ``>=`` (Caffe, ssd.pytorch, torchvision) or ``>`` (MXNet).
        forced: how each object gets an anchor. ``bipartite``: greedily the largest IoU among free anchors and free
            objects (Caffe, MXNet). ``last_wins``: each object's best anchor; a shared one goes to the last object
            (ssd.pytorch, lufficc, torchvision). ``none``: no forced step.
        min_forced_iou: the bipartite step needs an IoU above this.
        ties: ``near``: IoUs that differ by less than rounding could make them differ are equal, and the lowest index
            decides: unit, device and place of the boxes change nothing. ``literal``: as the floats compare, which is
            what MXNet, Caffe and the ports do.
        assign: ``anchors``: by the IoU of anchors and objects, as said above. ``predictions``: each object takes the
            anchors that predict it best so far (task alignment, arXiv 2108.07755), see `multibox.alignment`; the
            settings above then decide only which anchor an object falls back on.
        candidates: anchors that an object takes at most with ``assign: predictions``.
        score_power, iou_power: weight of score and IoU in how good a prediction is, as exponents.
    """

    positive_iou: UnitFloat | None = 0.5
    compare: Literal[">=", ">"] = ">="
    forced: Literal["bipartite", "last_wins", "none"] = "bipartite"
    min_forced_iou: float = 1e-6
    ties: Literal["near", "literal"] = "near"
    assign: Literal["anchors", "predictions"] = "anchors"
    candidates: Annotated[int, Field(gt=0)] = 10
    score_power: Annotated[float, Field(ge=0)] = 0.5
    iou_power: Annotated[float, Field(ge=0)] = 4.0


class ClassLosses(Protocol):
    """Classification loss of each row.

    Args:
        logits: ``[S, K]``, background in column 0.
        columns: target column, 0 for background, ``[S]`` int64.
        config: its smoothing, balance and focus.

    Returns:
        ``[S]``.
    """

    def __call__(self, logits: Tensor, columns: Tensor, config: LossConfig, /) -> Tensor:  # noqa: D102
        ...


class QualityLosses(Protocol):
    """Classification loss of each row whose target is no 1 but how good the predicted box is.

    Args:
        logits, columns, config: as for `ClassLosses`.
        quality: target of the right class, 0..1, ``[S]``; 0 for background.

    Returns:
        ``[S]``.
    """

    def __call__(  # noqa: D102
        self, logits: Tensor, columns: Tensor, config: LossConfig, quality: Tensor, /
    ) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class ClassLoss:
    """A classification loss that ``LossConfig.classification`` may name.

    Attributes:
        per_row: loss of each row; for a loss that learns quality ``None``.
        hardness: loss of each anchor if it were background, ``[..., K]`` -> ``[...]``, by which negatives are mined;
            ``None``: nothing is mined, every eligible anchor learns background.
        score_function: how inference reads the logits of a network that learnt with it.
        by_quality: loss of each row in place of ``per_row``, whose target is the IoU of the predicted box.
    """

    per_row: ClassLosses | None
    hardness: Callable[[Tensor], Tensor] | None = None
    score_function: Literal["softmax", "sigmoid"] = "sigmoid"
    by_quality: QualityLosses | None = None


class BoxLoss(Protocol):
    """Box loss of each row that ``LossConfig.box`` may name.

    Args:
        codes: predicted, ``[S, 4]``.
        boxes_xyxy: the anchors' objects, ``[S, 4]``.
        anchors_cxcywh: ``[S, 4]``.
        coder: how codes and boxes relate.
        config: its settings.

    Returns:
        ``[S]``.
    """

    def __call__(  # noqa: D102
        self, codes: Tensor, boxes_xyxy: Tensor, anchors_cxcywh: Tensor, coder: CoderConfig, config: LossConfig, /
    ) -> Tensor: ...


CLASS_LOSSES: Registry[ClassLoss] = Registry(
    "class loss", dict.fromkeys(("softmax", "sigmoid", "focal", "quality_focal"), "singleshot.multibox.class_losses")
)
BOX_LOSSES: Registry[BoxLoss] = Registry(
    "box loss", dict.fromkeys(("smooth_l1", "giou", "diou", "ciou"), "singleshot.multibox.box_losses")
)


class LossConfig(Frozen):
    """The multibox loss (SSD eq. 1 to 3).

    Attributes:
        classification: ``softmax`` or ``sigmoid`` cross-entropy with hard negative mining; ``focal`` without, or
            ``quality_focal``, whose target is the predicted box's IoU; or another of `CLASS_LOSSES`.
        box: ``smooth_l1`` on codes, ``giou`` / ``diou`` / ``ciou`` on decoded boxes, or another of `BOX_LOSSES`.
        smooth_l1_beta: where smooth L1 turns from quadratic to linear.
        negative_ratio: mined negatives per positive.
        min_negatives: mined negatives of an image are at least this many, so that background images teach.
        negative_iou: only anchors whose best IoU is below this may be mined (Caffe ``neg_overlap``); means
            nothing with ``match.assign: predictions``.
        box_weight: alpha of eq. 1.
        focal_alpha, focal_gamma: RetinaNet's balance and focus; the focus of ``quality_focal``, too.
        label_smoothing: part of the probability given to the other classes (softmax only).
    """

    classification: Annotated[str, AfterValidator(lambda name: CLASS_LOSSES.check(name))] = "softmax"
    box: Annotated[str, AfterValidator(lambda name: BOX_LOSSES.check(name))] = "smooth_l1"
    smooth_l1_beta: Annotated[float, Field(gt=0)] = 1.0
    negative_ratio: Annotated[float, Field(ge=0)] = 3.0
    min_negatives: Annotated[int, Field(ge=0)] = 3
    negative_iou: UnitFloat = 0.5
    box_weight: Annotated[float, Field(ge=0)] = 1.0
    focal_alpha: UnitFloat = 0.25
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    label_smoothing: UnitFloat = 0.0


class PreprocessConfig(Frozen):
    """From an RGB uint8 image to the network input: resize, then ``(pixel * scale - mean) / std``.

    Attributes:
        size_hw: network input size; the aspect ratio is not kept (SSD).
        resize: ``linear``: OpenCV bilinear on uint8, half-pixel centres (Caffe, ssd.pytorch). ``linear_float``: the
            same on float32 without rounding (torchvision tensors). ``linear_legacy``: TF 1 bilinear on float32,
            source = destination * in / out. ``linear_antialias``: PIL / torchvision-PIL bilinear with antialiasing.
        channel_order: order in which the network sees the channels; mean and std are in this order.
        scale: factor on 0..255 pixels.
        mean, std: per channel, after ``scale``.
    """

    size_hw: SizeHW
    resize: Literal["linear", "linear_float", "linear_legacy", "linear_antialias"] = "linear"
    channel_order: Literal["rgb", "bgr"] = "rgb"
    scale: Finite = 1.0
    mean: tuple[Finite, Finite, Finite] = (123.0, 117.0, 104.0)
    std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)


ALL_DETECTIONS = 100_000
"""So many are asked of a network where only some classes are kept: the others' must not use up the places."""


class PostprocessConfig(Frozen):
    """From head outputs to detections (SSD section 2.2, ``DetectionOutput``).

    Attributes:
        score_function: ``softmax`` over all columns, or independent ``sigmoid`` (TF).
        class_columns: the logit column of each public class 0..C-1; ``None`` means column c + 1 (0 is background).
        score_threshold: scores must be above this.
        candidates: ``per_class``: every (anchor, class) pair is a candidate. ``best_class``: an anchor stands only for
            its best class (MXNet).
        pre_nms_top_k: best candidates that enter NMS; ``None`` takes all.
        top_k_scope: of each ``class`` (Caffe and most), or of all classes of an ``image`` together (MXNet).
        nms: ``greedy`` (exact), ``soft_linear`` / ``soft_gaussian`` (arXiv 1704.04503), ``none``, or one that another
            package adds to `NMS_KINDS`.
        nms_iou: overlap above which the weaker box is suppressed.
        nms_compare: ``>`` keeps boxes at exactly ``nms_iou`` (Caffe); ``>=`` does not (MXNet, NVIDIA).
        nms_union_eps: added to every union, as a fraction of the input's area (pytorch-ssd: 1e-5).
        class_agnostic: suppress across classes.
        soft_nms_sigma: width of the gaussian of soft NMS.
        max_per_class: boxes kept of one class after NMS; ``None`` keeps all.
        max_detections: boxes kept of one image, best first.
        clip: clamp boxes to the image ``before`` or ``after`` NMS, or ``none``.
        min_objectness: anchors whose first-stage object probability is not above this are dropped (RefineDet).
    """

    score_function: Literal["softmax", "sigmoid"] = "softmax"
    class_columns: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    score_threshold: UnitFloat = 0.01
    candidates: Literal["per_class", "best_class"] = "per_class"
    pre_nms_top_k: Annotated[int, Field(gt=0)] | None = 400
    top_k_scope: Literal["class", "image"] = "class"
    nms: Annotated[str, AfterValidator(NMS_KINDS.check)] = "greedy"
    nms_iou: UnitFloat = 0.45
    nms_compare: Literal[">", ">="] = ">"
    nms_union_eps: UnitFloat = 0.0
    class_agnostic: bool = False
    soft_nms_sigma: Annotated[float, Field(gt=0)] = 0.5
    max_per_class: Annotated[int, Field(gt=0)] | None = None
    max_detections: Annotated[int, Field(gt=0)] = 200
    clip: Literal["none", "before", "after"] = "after"
    min_objectness: UnitFloat = 0.01
