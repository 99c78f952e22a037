"""How a network is put together, and everything else a weights file must say. Pure pydantic, no torch.

Kinds are names of ``models.registry``, which other installed packages add to; building a network checks them.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from singleshot.core.settings import (
    MAX_LEVELS,
    AnchorConfig,
    CoderConfig,
    Frozen,
    Positive,
    PostprocessConfig,
    PreprocessConfig,
    UnitFloat,
)

MAX_CHANNELS = 65536
MAX_CLASSES = 65535
MAX_LAYERS = 10_000

PositiveInt = Annotated[int, Field(gt=0, le=MAX_CHANNELS)]
"""A number of channels, or of something that there are fewer of."""

Window = Annotated[int, Field(gt=0, le=1024)]
Pair = tuple[Window, Window]
"""(vertical, horizontal)."""


class GraphLayer(Frozen):
    """One layer of a network that is described layer by layer (an imported Caffe model).

    Attributes:
        name: of the layer, of what it gives, and of its parameters.
        kind: what it does. ``scale`` multiplies and shifts every channel; ``power`` is
            ``(shift + scale * x) ** power``.
        inputs: names of the layers that it reads; ``""`` is what the whole graph reads.
        channels: that it gives (convolutions), or 0 for as many as the place in the network asks for.
        kernel_hw, stride_hw, padding_hw, dilation_hw: of convolutions and pools.
        groups, bias: of convolutions; ``bias`` also of ``scale``.
        ceil: pools round their size up (Caffe).
        eps: of ``batch_norm``.
        values: slope of ``relu``, one factor per input of ``sum``, or (power, scale, shift).
    """

    name: str
    kind: Literal[
        "conv", "deconv", "max_pool", "avg_pool", "global_max_pool", "global_avg_pool", "batch_norm", "scale", "relu",
        "relu6", "prelu", "elu", "sigmoid", "tanh", "power", "sum", "product", "max", "concat", "l2_norm",
    ]  # fmt: skip
    inputs: tuple[str, ...]
    channels: Annotated[int, Field(ge=0, le=MAX_CHANNELS)] = 0
    kernel_hw: Pair = (1, 1)
    stride_hw: Pair = (1, 1)
    padding_hw: tuple[Annotated[int, Field(ge=0, le=1024)], Annotated[int, Field(ge=0, le=1024)]] = (0, 0)
    dilation_hw: Pair = (1, 1)
    groups: PositiveInt = 1
    bias: bool = True
    ceil: bool = True
    eps: float = 1e-5
    values: tuple[float, ...] = ()


class BackboneConfig(Frozen):
    """A registered backbone and where it is tapped.

    Attributes:
        name: registered name; variants that differ in their layers are names of their own.
        taps: layer names whose outputs are sources, finest first; empty takes the backbone's default taps.
        in_channels: channels of the input image.
        layers: of the backbone ``graph``, which is nothing but them.
        batch_norm_eps: of its BatchNorms; ``None`` is the backbone's own.
        growth: channels that every unit of a DenseNet appends; ``None`` is the backbone's own.
        units: units in each stage of a DenseNet; empty is the backbone's own.
    """

    name: str
    taps: tuple[str, ...] = ()
    in_channels: PositiveInt = 3
    layers: Annotated[tuple[GraphLayer, ...], Field(max_length=MAX_LAYERS)] = ()
    batch_norm_eps: Annotated[float, Field(gt=0, le=1)] | None = None
    growth: Annotated[int, Field(gt=0, le=1024)] | None = None
    units: Annotated[tuple[Annotated[int, Field(gt=0, le=1024)], ...], Field(max_length=8)] = ()

    @model_validator(mode="after")
    def _of_a_densenet(self) -> BackboneConfig:
        if (self.growth or self.units) and "densenet" not in self.name:
            raise ValueError(
                f"growth and units are a DenseNet's, not of '{self.name}': leave them out, or name densenet"
            )
        return self


class ExtraBlock(Frozen):
    """One block appended to the last source; its output is the next source (SSD "extra feature layers").

    Attributes:
        kind: of the registry. ``conv``: 1x1 then k x k (SSD). ``separable``: 1x1, depthwise k x k, 1x1 (SSDLite).
            ``inverted_residual``: MobileNetV2 block with linear output. ``residual``: ResNet bottleneck with a
            projection shortcut (DSSD, RefineDet); ``residual_preact``: its pre-activation form (mxnet-dssd).
            ``single``: one k x k convolution without the 1x1.
        mid_channels: channels of the first 1x1.
        out_channels: channels of the source.
        kernel, stride: of the k x k convolution.
        padding: symmetric, or ``same`` (TF: what is missing goes to the end).
        batch_norm: BatchNorm after every convolution; convolutions then have no bias.
        activation: after every convolution.
        squeeze: channels of a squeeze-and-excitation gate before the activation of the depthwise convolution (lufficc's
            MobileNetV3); 0 builds none.
        window: which convolutions of a ``residual`` block have the kernel, stride and padding: the ``middle`` one (and
            the shortcut, where the size changes), or both ``branches``' first, before a 3x3 (DSSD's scripts).
        fire: (squeeze, expand) channels of a SqueezeNet module that runs first and is no source (pytorch-ssd).
    """

    kind: str = "conv"
    mid_channels: PositiveInt
    out_channels: PositiveInt
    kernel: Window = 3
    stride: Window = 2
    padding: Annotated[int, Field(ge=0, le=1024)] | Literal["same"] = 1
    batch_norm: bool = False
    activation: Literal["relu", "relu6", "hardswish"] = "relu"
    squeeze: Annotated[int, Field(ge=0, le=MAX_CHANNELS)] = 0
    window: Literal["middle", "branches"] = "middle"
    fire: tuple[PositiveInt, PositiveInt] | None = None


class L2NormConfig(Frozen):
    """L2 normalisation over channels with a learned scale (ParseNet; SSD section 3.1).

    Attributes:
        init: first value of the scale.
        eps: added ``inside`` the root (Caffe, MXNet) or ``outside`` it (ssd.pytorch), or the ``max`` of both
            (torchvision).
        batch_norm: a BatchNorm stands in its place (pytorch-ssd's VGG).
    """

    init: float = 20.0
    eps: Literal["inside", "outside", "max"] = "inside"
    batch_norm: bool = False


class NeckConfig(Frozen):
    """What happens between the sources and the heads.

    Attributes:
        kind: of the registry: ``none`` (SSD), ``dssd``, ``tdm``, ``tdm_dssd`` (mxnet-dssd runs one after the other),
            ``tcb`` (RefineDet) ...
        channels: width of the neck; ``None`` follows the dialect's rule.
        levels: which levels take part, finest first; empty means all that can.
        dialect: ``paper`` or ``mxnet`` (mxnet-dssd's form).
        fusion: how DSSD joins deep and lateral maps.
        output_conv: TDM's 1x1 convolution after the concatenation.
        batch_norm: BatchNorm after the neck's convolutions (RefineDet ResNet).
        deconvolution_norm: BatchNorm after RefineDet's transposed convolutions, too.
        deconvolution_bias: biases in DSSD's transposed convolutions, as in the authors' scripts.
        upsampling: (kernel, stride) of the transposed convolution from each level to the next finer one, finest level
            first; empty means (2, 2) everywhere.
        l2_norms: normalisation between TDM and what follows it (mxnet-dssd), one entry per source, finest first.
    """

    kind: str = "none"
    channels: PositiveInt | None = None
    levels: tuple[bool, ...] = ()
    dialect: Literal["paper", "mxnet"] = "paper"
    fusion: Literal["product", "sum"] = "product"
    output_conv: bool = True
    batch_norm: bool = False
    deconvolution_norm: bool = False
    deconvolution_bias: bool = False
    upsampling: tuple[Pair, ...] = ()
    l2_norms: tuple[L2NormConfig | None, ...] = ()


class HeadConfig(Frozen):
    """The two predictors of each source.

    Attributes:
        kind: of the registry: ``conv`` (one convolution, SSD), ``separable`` (depthwise 3x3, then 1x1; SSDLite),
            ``graph`` (``box_layers`` and ``logit_layers``) ...
        logits: columns of the class logits, background included.
        boxes_per_cell: default boxes per cell of each source; equals the anchors'.
        kernel: of the predictors of kind ``conv``; 1 in some of TensorFlow's.
        kernels: the same for each source, finest first, where they differ (DSSD's scripts); empty means ``kernel``.
        layout: how channels are read: ``cell`` (row, column, box) or ``shape`` (box, row, column; NVIDIA).
        prediction_module: of the registry: DSSD figure 2: ``none`` (a), ``b``, ``c``, ``d``; ``residual``, whose middle
            convolution is 3x3 (RefineDet ResNet); ``mxnet``, mxnet-dssd's linear form ...
        module_channels: output channels of the prediction module.
        module_levels: which maps have a prediction module, finest first; empty means all.
        intermediate_channels: mxnet-ssd's ``interm_layer``: a 3x3 convolution before both predictors; 0 builds none.
        depthwise_bias: separable heads with a bias in the depthwise convolution (lufficc).
        depthwise_norm: BatchNorm after the depthwise convolution of separable heads.
        activation: after the depthwise convolution of separable heads.
        last_plain: the last source of a separable head has a plain 1x1 predictor (lufficc, qfgaohao).
        objectness: add RefineDet's anchor refinement heads on the sources before the neck.
        box_layers, logit_layers: the two predictors of each source of a ``graph`` head, layer by layer.
    """

    kind: str = "conv"
    logits: Annotated[int, Field(ge=1, le=MAX_CLASSES + 1)]
    boxes_per_cell: tuple[PositiveInt, ...]
    kernel: Window = 3
    kernels: tuple[Window, ...] = ()
    layout: Literal["cell", "shape"] = "cell"
    prediction_module: str = "none"
    module_channels: PositiveInt = 1024
    module_levels: tuple[bool, ...] = ()
    intermediate_channels: Annotated[int, Field(ge=0, le=MAX_CHANNELS)] = 0
    depthwise_bias: bool = False
    depthwise_norm: bool = True
    activation: Literal["relu", "relu6"] = "relu6"
    last_plain: bool = False
    objectness: bool = False
    box_layers: tuple[tuple[GraphLayer, ...], ...] = ()
    logit_layers: tuple[tuple[GraphLayer, ...], ...] = ()


class NetworkConfig(Frozen):
    """Backbone, extra blocks, normalisation, neck and head of one detector.

    Attributes:
        l2_norms: one entry per source, finest first; missing entries mean none.
        batch_norm_eps: of every BatchNorm that singleshot adds (extras, neck, heads).
    """

    backbone: BackboneConfig
    extras: Annotated[tuple[ExtraBlock, ...], Field(max_length=MAX_LEVELS)] = ()
    l2_norms: tuple[L2NormConfig | None, ...] = ()
    neck: NeckConfig = NeckConfig()
    head: HeadConfig
    batch_norm_eps: float = 1e-5


class Provenance(Frozen):
    """Where weights come from, for people who must account for them."""

    source: str = ""
    licence: str = ""
    notes: str = ""
    sha256: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)


class ObjectSizes(Frozen):
    """How large the objects were that a detector learnt from: 10th, 50th and 90th percentile of their sides.

    A side is the square root of a box's area.

    Attributes:
        pixels: in pixels of the pictures.
        shares: of the side (again of the area's root) of what the network saw: the picture, or a tile of it.
    """

    pixels: tuple[Positive, Positive, Positive]
    shares: tuple[Positive, Positive, Positive]


class ModelSpec(Frozen):
    """Everything a weights file says besides its numbers; enough to rebuild and use the detector.

    Attributes:
        name: catalogue name of the architecture.
        network: how the network is built.
        anchors, coder, preprocess, postprocess: the dialect that the weights were trained in.
        class_names: public classes 0..C-1.
        class_ids: the training data's own ids by class (COCO category ids); empty when they equal the index.
        objects: of the training, where that is known.
        default_score: least confidence of a detection where a user asks for none.
    """

    name: str
    network: NetworkConfig
    anchors: AnchorConfig
    coder: CoderConfig = CoderConfig()
    preprocess: PreprocessConfig
    postprocess: PostprocessConfig = PostprocessConfig()
    class_names: tuple[str, ...]
    class_ids: tuple[Annotated[int, Field(ge=-(2**63), lt=2**63)], ...] = ()
    provenance: Provenance = Provenance()
    objects: ObjectSizes | None = None
    default_score: UnitFloat = 0.3

    @model_validator(mode="after")
    def _parts_agree(self) -> ModelSpec:
        if self.network.head.boxes_per_cell != self.anchors.boxes_per_cell:
            raise ValueError(
                f"network.head.boxes_per_cell is {self.network.head.boxes_per_cell} but anchors.levels have "
                f"{self.anchors.boxes_per_cell} boxes per cell: make them equal"
            )
        columns = self.postprocess.class_columns or tuple(range(1, len(self.class_names) + 1))
        if len(columns) != len(self.class_names):
            raise ValueError(
                f"postprocess.class_columns names {len(columns)} columns for {len(self.class_names)} class_names"
            )
        if not all(math.isfinite(side) for level in self.anchors.levels for box in level.shapes_wh for side in box):
            raise ValueError("anchors.levels.shapes_wh holds sides that are not finite")
        if len(set(columns)) != len(columns):
            raise ValueError("postprocess.class_columns names a column twice")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError("class_names must differ")
        if self.class_ids and len(self.class_ids) != len(self.class_names):
            raise ValueError(f"class_ids has {len(self.class_ids)} entries for {len(self.class_names)} class_names")
        if columns and max(columns) >= self.network.head.logits:
            raise ValueError(
                f"network.head.logits is {self.network.head.logits}, too few for {len(self.class_names)} classes "
                "plus background"
            )
        return self
