"""Where a run begins: the detector that learns, and what it already knows from a starting point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from singleshot.core.setting_errors import explain_settings
from singleshot.core.settings import CLASS_LOSSES, AnchorConfig, LossConfig, SizeHW
from singleshot.core.structures import ClassMap, Sample
from singleshot.errors import ConfigError
from singleshot.export.readers import refuse_exported
from singleshot.interop.classifiers import read_classifier
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import ModelSpec, Provenance
from singleshot.models.description import describe
from singleshot.models.heads.multibox import set_class_prior
from singleshot.models.network import Network
from singleshot.training.anchor_fitting import fit_anchors, scale_anchors
from singleshot.training.checks import object_sizes
from singleshot.training.config import TrainConfig
from singleshot.weights.bundled import bundled_names, bundled_path
from singleshot.weights.file import COUNTER, read_spec, read_state
from singleshot.weights.imagenet import load_imagenet
from singleshot.weights.network import check_network, load_network

DEFAULT_MODEL = "ssdlite300_mobilenet_v2"

# Of the two bundled detectors the one that learns small sets best (docs/benchmarks.md).
DEFAULT_WEIGHTS = "coco-v3"


@dataclass(slots=True)
class StartReport:
    """What a run begins with.

    Attributes:
        origin: where the numbers come from; empty when everything is random.
        loaded: tensors taken over whole.
        by_class: tensors of the class head that were taken over by rows.
        reset: tensors that start at random.
        kept_classes: classes whose rows of the class head were taken over.
        new_classes: classes whose rows are new.
        unused: tensors of the starting point that the network has no place for.
        notes: what was done to the numbers, one sentence each.
    """

    origin: str = ""
    loaded: list[str] = field(default_factory=list)
    by_class: list[str] = field(default_factory=list)
    reset: list[str] = field(default_factory=list)
    kept_classes: tuple[str, ...] = ()
    new_classes: tuple[str, ...] = ()
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report for a person."""
        if not self.origin:
            return [f"all {len(self.reset)} tensors start at random"]
        total = len(self.loaded) + len(self.by_class) + len(self.reset)
        lines = [f"{len(self.loaded)} of {total} tensors from {self.origin}", *self.notes]
        if self.kept_classes:
            lines.append(f"class head: rows kept for {', '.join(self.kept_classes)}")
        if self.new_classes:
            lines.append(f"class head: new rows for {', '.join(self.new_classes)}")
        if self.reset:
            lines.append(f"start at random: {_by_part(self.reset)}")
        if self.unused:
            lines.append(f"not used: {_by_part(self.unused)}")
        return lines


@dataclass(frozen=True, slots=True)
class Start:
    """The detector that a run trains."""

    spec: ModelSpec
    network: Network
    report: StartReport


def build_start(config: TrainConfig, classes: ClassMap, samples: Sequence[Sample] = ()) -> Start:
    """Build the detector of a run and give it the numbers of its starting point.

    Args:
        config: model, weights, input size, anchors, loss and seed.
        classes: of the training data.
        samples: the training data: how large its objects are goes into the weights file, and fits ``anchors: auto``.

    Raises:
        ConfigError: the model is unknown, or does not fit the input size.
        WeightsError: the starting point cannot be read, or is not of the network that it describes.
    """
    config = with_weights(config)
    source, spec, old = start_spec(config, classes)
    state = read_state(source) if source else {}
    if source and old:
        check_network(old, state, source)
    if config.anchors == "auto":
        spec = spec.model_copy(update={"anchors": fit_anchors(spec, samples)})
    spec = spec.model_copy(update={"objects": object_sizes(samples)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(spec.network)
        set_class_prior(network.head)
    if source and old:
        report = transfer(network, spec, state, old)
        report.origin = f"{config.weights} ({old.name})"
    elif _is_imagenet(config.weights):
        base = load_imagenet(network, spec, config.weights.partition(":")[2] or None, read_classifier)
        reset = [name for name in _numbers(network) if name not in base.loaded]
        report = StartReport(config.weights, base.loaded, reset=reset, new_classes=spec.class_names, notes=base.notes)
    else:
        report = StartReport(reset=list(network.state_dict()))
    return Start(spec, network, report)


def start_spec(config: TrainConfig, classes: ClassMap) -> tuple[Path | None, ModelSpec, ModelSpec | None]:
    """The weights file that a run starts from, the detector that it trains, and the one in that file.

    Raises:
        ConfigError, WeightsError: as `build_start`.
    """
    config = with_weights(config)
    source = _source_file(config)
    old = read_spec(source) if source else None
    return source, _target_spec(config, classes, old), old


def with_weights(config: TrainConfig) -> TrainConfig:
    """Settings that name their starting point: ``auto`` is a bundled detector, of the same network if there is one."""
    if config.weights != "auto":
        return config
    same = [name for name in bundled_names() if config.model == read_spec(bundled_path(name)).name]
    return config.updated({"weights": (*same, DEFAULT_WEIGHTS)[0]})


def resume_start(folder: Path) -> Start:
    """The detector of a run that goes on; its numbers are those of the saved state, not of the starting point."""
    last = folder / "last.safetensors"
    spec = read_spec(last)
    network = load_network(spec, read_state(last), last).train()
    return Start(spec, network, StartReport(origin=str(folder), loaded=list(network.state_dict())))


def adapt_spec(
    spec: ModelSpec,
    classes: ClassMap,
    loss: LossConfig,
    size_hw: SizeHW | None = None,
    anchors: AnchorConfig | None = None,
) -> ModelSpec:
    """The same architecture for other classes, another loss, another input size or other default boxes.

    Network input is resized by OpenCV's plain bilinear from then on: what is trained need not repeat the resampling of
    the system that its weights come from, and this one is the quickest.

    Args:
        spec: of the starting point.
        classes: the new classes.
        loss: decides whether scores are read by softmax or sigmoid.
        size_hw: network input; ``None`` keeps it.
        anchors: default boxes; ``None`` keeps them.
    """
    anchors = anchors or spec.anchors
    head = spec.network.head.model_copy(update={"logits": len(classes) + 1, "boxes_per_cell": anchors.boxes_per_cell})
    preprocess = {"resize": "linear", "size_hw": size_hw or spec.preprocess.size_hw}
    postprocess = {
        "score_function": CLASS_LOSSES.get(loss.classification).score_function,
        "class_columns": None,
    }
    own_ids = classes.ids if classes.ids != tuple(range(len(classes))) else ()
    changed = spec.model_copy(
        update={
            "network": spec.network.model_copy(update={"head": head}),
            "anchors": anchors,
            "preprocess": spec.preprocess.model_copy(update=preprocess),
            "postprocess": spec.postprocess.model_copy(update=postprocess),
            "class_names": classes.names,
            "class_ids": own_ids,
            "provenance": Provenance(),
            "objects": None,
            "default_score": ModelSpec.model_fields["default_score"].default,
        }
    )
    try:
        return ModelSpec.model_validate(changed.model_dump())
    except ValidationError as error:
        raise ConfigError(explain_settings(error, "the detector for this data", ModelSpec)) from None


def transfer(network: Network, spec: ModelSpec, state: Mapping[str, Tensor], old: ModelSpec) -> StartReport:
    """Take over every tensor that fits, and the rows of the class head whose classes have the same name.

    Args:
        network: of ``spec``, with random numbers; changed in place.
        spec: the new detector.
        state: numbers of the old one.
        old: what the numbers belong to.
    """
    own = network.state_dict()
    heads = class_predictors(network)
    same = {name for name in own if name in state and own[name].shape == state[name].shape and name not in heads}
    rows = _shared_columns(spec, old)
    by_rows = {name for name in heads if name in state and _fits_by_rows(own[name], state[name], spec, old)}
    with torch.no_grad():
        for name in same:
            own[name].copy_(state[name])
        for name in by_rows:
            _copy_rows(own[name], state[name], spec.network.head.logits, old.network.head.logits, rows)
    kept = tuple(name for name in spec.class_names if name in old.class_names) if by_rows else ()
    return StartReport(
        loaded=[name for name in own if name in same],
        by_class=[name for name in own if name in by_rows],
        reset=[name for name in _numbers(network) if name not in same and name not in by_rows],
        kept_classes=kept,
        new_classes=tuple(name for name in spec.class_names if name not in kept),
        unused=[name for name in state if name not in own],
    )


def _numbers(network: Network) -> list[str]:
    """Names of the tensors, counters of batches apart: TensorFlow, MXNet and Caffe have none, and 0 is not random."""
    return [name for name in network.state_dict() if not name.endswith(COUNTER)]


def class_predictors(network: Network) -> list[str]:
    """Names of the weights and biases that give the class logits, one pair per feature map."""
    names = []
    for level, predictor in enumerate(network.head.logits):
        last = [name for name, part in predictor.named_modules() if isinstance(part, nn.Conv2d)][-1]
        prefix = f"head.logits.{level}.{last}".rstrip(".")
        names += [f"{prefix}.weight", f"{prefix}.bias"]
    return names


def _source_file(config: TrainConfig) -> Path | None:
    """The detector's weights file that the run starts from, if it starts from one."""
    if config.weights == "none" or _is_imagenet(config.weights):
        return None
    if config.weights in bundled_names():
        return bundled_path(config.weights)
    refuse_exported(Path(config.weights), "training")
    return Path(config.weights)


def _is_imagenet(weights: str) -> bool:
    """``imagenet``, or ``imagenet:PATH`` for a classifier's file that is already here."""
    return weights.partition(":")[0] == "imagenet"


def _target_spec(config: TrainConfig, classes: ClassMap, old: ModelSpec | None) -> ModelSpec:
    """The detector to train: the one of the starting point, unless another architecture is asked for."""
    if isinstance(config.model, dict):
        base = describe(config.model, classes.names, config.size_hw, "model")
    elif old is None or (config.model and config.model != old.name):
        base = model_spec(config.model or DEFAULT_MODEL, classes.names, config.size_hw)
    else:
        base = old
    anchors = config.anchors if config.anchors != "auto" else None
    if config.anchor_scale is not None:
        anchors = scale_anchors(base.anchors, [config.anchor_scale] * len(base.anchors.levels))
    return adapt_spec(base, classes, config.loss, config.size_hw, anchors)


def _shared_columns(spec: ModelSpec, old: ModelSpec) -> list[tuple[int, int]]:
    """(new, old) logit columns of background and of classes with the same name."""
    columns = old.postprocess.class_columns or tuple(range(1, len(old.class_names) + 1))
    before = dict(zip(old.class_names, columns, strict=True))
    shared = [(new, before[name]) for new, name in enumerate(spec.class_names, 1) if name in before]
    return [(0, 0), *shared]


def _fits_by_rows(own: Tensor, theirs: Tensor, spec: ModelSpec, old: ModelSpec) -> bool:
    """Whether two class predictors differ in nothing but their classes."""
    per_cell = own.shape[0] // spec.network.head.logits
    return own.shape[1:] == theirs.shape[1:] and theirs.shape[0] == per_cell * old.network.head.logits


def _copy_rows(own: Tensor, theirs: Tensor, columns: int, old_columns: int, shared: list[tuple[int, int]]) -> None:
    """Copy the rows of shared columns; channels are read box by box in every layout."""
    new, old = (list(side) for side in zip(*shared, strict=True))
    own.view(-1, columns, *own.shape[1:])[:, new] = theirs.view(-1, old_columns, *theirs.shape[1:])[:, old]


def _by_part(names: list[str]) -> str:
    """``head.logits (6 tensors), extras (4 tensors)``."""
    parts = [".".join(name.split(".")[:2]) if name.startswith("head") else name.split(".")[0] for name in names]
    counts = {part: parts.count(part) for part in dict.fromkeys(parts)}
    return ", ".join(f"{part} ({count} tensor{'s' if count > 1 else ''})" for part, count in counts.items())
