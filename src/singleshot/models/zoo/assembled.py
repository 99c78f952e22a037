"""A detector put together from a backbone's name and lists per level: mxnet-ssd's configuration surface. No torch.

``AssembledConfig`` has the entries of mxnet-ssd's ``symbol_factory`` and mxnet-dssd's additions, typed and checked;
``to_spec`` turns them into a ``ModelSpec``. Anchors, matching order and detection follow MXNet's operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from singleshot.core.files import write_atomically
from singleshot.core.setting_errors import explain_settings
from singleshot.core.settings import Frozen, PostprocessConfig, PreprocessConfig, SizeHW, UnitFloat
from singleshot.core.yaml_files import read_mapping
from singleshot.errors import ConfigError
from singleshot.models.config import (
    BackboneConfig,
    ExtraBlock,
    HeadConfig,
    L2NormConfig,
    ModelSpec,
    NeckConfig,
    NetworkConfig,
    PositiveInt,
)
from singleshot.models.registry import BACKBONES, NECKS, PREDICTION_MODULES
from singleshot.models.zoo.box_shapes import mxnet_anchors, mxnet_sizes
from singleshot.models.zoo.common import upsampling
from singleshot.models.zoo.mxnet_networks import backbone_name

ALL_BOXES = 100_000
"""More than any of these networks has."""

MEAN_RGB = (123.0, 117.0, 104.0)
PREACT_EPS = 2e-5
"""Of the BatchNorms in mxnet-dssd's residual extra blocks; its neck has an eps of its own."""

Numbers = tuple[float, ...]
Size = Annotated[float, Field(gt=0)]
Switch = Literal[1, -1]


class AssembledConfig(Frozen):
    """A detector as lists with one entry per source, finest first.

    Attributes:
        network: registered backbone, or mxnet-ssd's name of it; ``resnet50`` is MXNet's where ``from_layers`` has
            MXNet's names.
        num_layers: of the network ``resnet``.
        units, growth_rate: units of each stage of the network ``densenet`` and the channels that each appends.
        input_size_hw: the size that it is meant for; others work.
        from_layers: what each source is: the name of a backbone layer, or ``""`` for a block appended to the source
            before it.
        num_filters: channels of each appended block. At a tap, -1 or its channels: the backbone knows them.
        strides, pads: of the 3x3 convolution of each appended block; -1 at taps.
        kernels: its kernel where it is not 3 (the last block of Caffe's SSD512 has 4); empty means 3 everywhere.
        min_filter: the 1x1 convolution of an appended block has ``max(min_filter, num_filters // 2)`` channels.
        residual_extras: pre-activation residual units as appended blocks (mxnet-dssd's ``use_res_unit``).
        sizes: box sizes of each source as fractions of the image, or one ``[lowest, highest]`` for all of them, which
            two sources, or one, cover whole.
        ratios: width / height of the boxes of each source, or one list for all. Every size has a box of the first
            ratio, the first size one of each further ratio.
        normalizations: first value of each source's learned L2 scale, or one number for all; -1 normalises nothing.
        steps: centre spacing of each source as a fraction of the image; empty follows the maps.
        clip: clamp the anchors to the image.
        interm_layer: channels of a 3x3 convolution before both predictors; 0 builds none.
        neck: registered neck: ``none``, ``dssd``, ``tdm``, ``tdm_dssd`` (what mxnet-dssd builds when asked for TDM),
            ``tcb`` ...
        neck_dialect: ``paper``, or ``mxnet`` for mxnet-dssd's form, whose widths follow the sources.
        neck_channels: width of the neck; ``None`` is the dialect's (512 by the paper).
        topdown_layers: 1 where a source is merged with the one below it, -1 where it passes; empty merges all that can.
        prediction_module: registered one before the predictors (DSSD figure 2; ``mxnet`` is mxnet-dssd's).
        module_channels: width of that module where it has one of its own (c, d, residual).
        prediction_layers: 1 where a source has that module, -1 where not; empty means all.
        nms_thresh, force_suppress, nms_topk: of MultiBoxDetection: overlap, across classes or not, how many boxes of
            an image enter, all classes together; -1 takes all.
        score_threshold: detections below it are dropped.
    """

    network: str
    num_layers: PositiveInt | None = None
    units: tuple[PositiveInt, ...] = ()
    growth_rate: PositiveInt | None = None
    input_size_hw: SizeHW = (300, 300)
    from_layers: tuple[str, ...]
    num_filters: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    kernels: tuple[PositiveInt, ...] = ()
    min_filter: PositiveInt = 128
    residual_extras: bool = False
    sizes: tuple[tuple[Size, ...], ...] | tuple[Size, Size]
    ratios: tuple[tuple[Size, ...], ...] | tuple[Size, ...]
    normalizations: Numbers | float = -1.0
    steps: Numbers = ()
    clip: bool = False
    interm_layer: Annotated[int, Field(ge=0)] = 0
    neck: str = "none"
    neck_dialect: Literal["paper", "mxnet"] = "paper"
    neck_channels: PositiveInt | None = None
    topdown_layers: tuple[Switch, ...] = ()
    prediction_module: str = "none"
    module_channels: PositiveInt = 1024
    prediction_layers: tuple[Switch, ...] = ()
    nms_thresh: UnitFloat = 0.5
    force_suppress: bool = False
    nms_topk: PositiveInt | Literal[-1] = 400
    score_threshold: UnitFloat = 0.01

    @model_validator(mode="after")
    def _parts_exist(self) -> Self:
        BACKBONES.check(self.backbone.partition(":")[0], "network")
        if (self.units or self.growth_rate) and "densenet" not in self.backbone:
            raise ValueError(f"units and growth_rate are a DenseNet's, not of '{self.network}': leave them out")
        NECKS.check(self.neck, "neck")
        PREDICTION_MODULES.check(self.prediction_module, "prediction_module")
        return self

    @model_validator(mode="after")
    def _lists_fit(self) -> Self:
        levels = len(self.from_layers)
        for name in ("num_filters", "strides", "pads"):
            _require_length(name, getattr(self, name), levels, optional=False)
        for name in ("kernels", "steps", "topdown_layers", "prediction_layers"):
            _require_length(name, getattr(self, name), levels)
        for name in ("sizes", "ratios"):
            value = getattr(self, name)
            if value and isinstance(value[0], tuple):
                _require_length(name, value, levels, optional=False)
        if isinstance(self.normalizations, tuple):
            _require_length("normalizations", self.normalizations, levels)
        return self

    @model_validator(mode="after")
    def _sources_make_sense(self) -> Self:
        taps = self.taps
        if not taps:
            raise ValueError("from_layers must begin with a layer of the backbone; '' appends to the source before it")
        if any(self.from_layers[len(taps) :]):
            raise ValueError("from_layers must name all backbone layers before the first ''")
        for level in range(len(taps), len(self.from_layers)):
            if self.num_filters[level] < 1 or self.strides[level] < 1 or self.pads[level] < 0:
                raise ValueError(
                    f"level {level} is an appended block: num_filters[{level}] and strides[{level}] must be positive "
                    f"and pads[{level}] not negative; they are {self.num_filters[level]}, {self.strides[level]} and "
                    f"{self.pads[level]}"
                )
        return self

    @model_validator(mode="after")
    def _boxes_make_sense(self) -> Self:
        if not all(self.level_sizes) or not all(self.level_ratios):
            raise ValueError("sizes and ratios need at least one number for every source")
        if any(step <= 0 for step in self.steps):
            raise ValueError(f"steps are fractions of the image above 0; they are {list(self.steps)}")
        if self.topdown_layers and self.neck == "none":
            raise ValueError("topdown_layers says which levels are merged, but neck is 'none'; set neck: dssd")
        return self

    @property
    def backbone(self) -> str:
        """Our name of the network."""
        return backbone_name(self.network, self.from_layers, self.num_layers)

    @property
    def taps(self) -> tuple[str, ...]:
        """Backbone layers among the sources."""
        names = list(self.from_layers)
        return tuple(names[: names.index("")] if "" in names else names)

    @property
    def level_sizes(self) -> tuple[Numbers, ...]:
        """Sizes of every source; a range is spread by mxnet-ssd's rule."""
        sizes: Sequence[Any] = self.sizes
        if sizes and not isinstance(sizes[0], tuple):
            return tuple(mxnet_sizes(sizes[0], sizes[1], len(self.from_layers)))
        return tuple(sizes)

    @property
    def level_ratios(self) -> tuple[Numbers, ...]:
        """Ratios of every source."""
        ratios: Sequence[Any] = self.ratios
        if ratios and not isinstance(ratios[0], tuple):
            return (tuple(ratios),) * len(self.from_layers)
        return tuple(ratios)

    @property
    def level_norms(self) -> tuple[L2NormConfig | None, ...]:
        """Normalisation of every source."""
        values = self.normalizations
        if not isinstance(values, tuple):
            values = (values,) * len(self.from_layers)
        return tuple(L2NormConfig(init=value) if value > 0 else None for value in values)

    def to_spec(
        self, class_names: Sequence[str], size_hw: tuple[int, int] | None = None, name: str = "assembled"
    ) -> ModelSpec:
        """The detector for these classes, complete.

        Args:
            class_names: classes 0..C-1, without background.
            size_hw: input size, if not ``input_size_hw``.
            name: of the model.

        Raises:
            ConfigError: there is no class, or a name comes twice.
        """
        if not class_names or len(set(class_names)) != len(class_names):
            raise ConfigError(f"class_names must be one or more different names; they are {list(class_names)}")
        anchors = mxnet_anchors(self.level_sizes, self.level_ratios, self.steps or None, self._reference_hw())
        return ModelSpec(
            name=name,
            network=self._network(len(class_names) + 1, anchors.boxes_per_cell),
            anchors=anchors.model_copy(update={"clip": "corner"}) if self.clip else anchors,
            preprocess=PreprocessConfig(size_hw=size_hw or self.input_size_hw, mean=MEAN_RGB),
            postprocess=self._postprocess(),
            class_names=tuple(class_names),
        )

    def _reference_hw(self) -> tuple[int, int] | None:
        """Steps were written for one input size; mxnet-ssd has none at the others."""
        return self.input_size_hw if self.steps else None

    def _network(self, logits: int, boxes_per_cell: tuple[int, ...]) -> NetworkConfig:
        # mxnet-dssd normalises behind TDM, everything else before the neck.
        norms_behind = self.neck_dialect == "mxnet" and self.neck in ("tdm", "tdm_dssd")
        norms = self.level_norms if any(self.level_norms) else ()
        head = HeadConfig(
            logits=logits,
            boxes_per_cell=boxes_per_cell,
            prediction_module=self.prediction_module,
            module_channels=self.module_channels,
            module_levels=tuple(switch > 0 for switch in self.prediction_layers),
            intermediate_channels=self.interm_layer,
        )
        return NetworkConfig(
            backbone=BackboneConfig(name=self.backbone, taps=self.taps, growth=self.growth_rate, units=self.units),
            extras=tuple(self._extra(level) for level in range(len(self.taps), len(self.from_layers))),
            l2_norms=() if norms_behind else norms,
            neck=self._neck(norms if norms_behind else ()),
            head=head,
            batch_norm_eps=PREACT_EPS if self.residual_extras else 1e-5,
        )

    def _extra(self, level: int) -> ExtraBlock:
        channels = self.num_filters[level]
        return ExtraBlock(
            kind="residual_preact" if self.residual_extras else "conv",
            mid_channels=max(channels // 4, 1) if self.residual_extras else max(self.min_filter, channels // 2),
            out_channels=channels,
            kernel=self.kernels[level] if self.kernels else 3,
            stride=self.strides[level],
            padding=self.pads[level],
        )

    def _neck(self, l2_norms: tuple[L2NormConfig | None, ...]) -> NeckConfig:
        if self.neck == "none":
            return NeckConfig()
        extras = [self._extra(level) for level in range(len(self.taps), len(self.from_layers))]
        return NeckConfig(
            kind=self.neck,
            channels=self.neck_channels,
            levels=tuple(switch > 0 for switch in self.topdown_layers),
            dialect=self.neck_dialect,
            upsampling=() if self.neck_dialect == "mxnet" else upsampling(len(self.taps), extras),
            l2_norms=l2_norms,
        )

    def _postprocess(self) -> PostprocessConfig:
        return PostprocessConfig(
            score_threshold=self.score_threshold,
            candidates="best_class",
            pre_nms_top_k=None if self.nms_topk < 0 else self.nms_topk,
            top_k_scope="image",
            nms_iou=self.nms_thresh,
            nms_compare=">=",
            class_agnostic=self.force_suppress,
            max_detections=ALL_BOXES if self.nms_topk < 0 else self.nms_topk,
            clip="before",
        )


def parse_assembled(data: Mapping[str, Any], origin: str = "assembled detector") -> AssembledConfig:
    """A configuration from plain data.

    Args:
        data: entries by name, as YAML gives them.
        origin: where they come from, for messages.

    Raises:
        ConfigError: with the dotted key, what is wrong, and the nearest name of an unknown key.
    """
    try:
        return AssembledConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain_settings(error, origin, AssembledConfig)) from None


def read_assembled(path: str | Path) -> AssembledConfig:
    """A configuration from a YAML file.

    Raises:
        ConfigError: the file is missing, is not a YAML mapping, or holds wrong settings.
    """
    return parse_assembled(read_mapping(path, "a detector", "network: vgg16_reduced"), str(path))


def write_assembled(config: AssembledConfig, path: str | Path) -> Path:
    """A configuration to a YAML file that ``read_assembled`` reads back equal."""
    return write_atomically(
        path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None)
    )


def _require_length(name: str, values: Sequence[object], levels: int, *, optional: bool = True) -> None:
    if (values or not optional) and len(values) != levels:
        raise ValueError(f"{name} has {len(values)} entries but from_layers has {levels}: give one for each source")
