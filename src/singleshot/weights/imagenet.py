"""Classification weights into our backbones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from singleshot.core.settings import PreprocessConfig
from singleshot.errors import WeightsError
from singleshot.models.config import ModelSpec
from singleshot.models.network import Network
from singleshot.weights.classifier_names import is_layer_list, recognised, translate
from singleshot.weights.file import COUNTER
from singleshot.weights.first_layer import adapt_input, describe_input
from singleshot.weights.manifest import IMAGENET, architecture_of, fetch, readable_architecture
from singleshot.weights.torch_file import read_tensors

TORCHVISION = PreprocessConfig(size_hw=(224, 224), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CAFFE = PreprocessConfig(size_hw=(224, 224), mean=(123.0, 117.0, 104.0))
"""What the SSD papers' base networks read, and mxnet-ssd's: 0..255 minus the mean."""

EFFICIENTNET_LITE = PreprocessConfig(size_hw=(224, 224), mean=(127.0,) * 3, std=(128.0,) * 3)
"""TensorFlow's for EfficientNet-Lite; its conversion to PyTorch is surer of photos with it than with ImageNet's."""

CAFFE_FILES = ("amdegroot", "reducedfc", "caffe")
"""Words in the names of PyTorch's VGG16 files that were trained on `CAFFE`."""

DENSE_LAYERS = ("fc6.", "fc7.")
"""Of VGG16: the only ones of a backbone that may start at random."""

SHOWN_NAMES = 3


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained classifier, as it was read.

    Attributes:
        state: by our backbone's names; others are not used.
        preprocess: what its images go through.
        system: whose file it is, for people.
        names: of the tensors in the file.
        looks_like: the architecture by the file's tensors, where that is known.
    """

    state: Mapping[str, Tensor]
    preprocess: PreprocessConfig
    system: str
    names: tuple[str, ...]
    looks_like: str | None = None


ClassifierReader = Callable[[Path, str, tuple[str, ...]], Classifier]
"""``(file, our backbone, names of its tensors)``; raises `WeightsError`."""


@dataclass(frozen=True, slots=True)
class BaseReport:
    """What a backbone was given.

    Attributes:
        loaded: names of the network's tensors that were.
        notes: how, one sentence each.
    """

    loaded: list[str]
    notes: list[str]


def read_checkpoint_classifier(path: Path, backbone: str, own: tuple[str, ...]) -> Classifier:
    """A classifier of PyTorch: torchvision's, timm's, EfficientNet-PyTorch's, or ssd.pytorch's ``vgg16_reducedfc.pth``.

    Raises:
        WeightsError: it cannot be read, or PyTorch has no classifier of this backbone.
    """
    state = read_tensors(path)
    architecture = readable_architecture(backbone)
    if architecture is None:
        raise WeightsError(
            f"{path}: a PyTorch checkpoint, whose networks differ from the backbone '{backbone}'; give a file of the "
            "system that the backbone is from (MXNet's .params for those of mxnet-ssd), or weights 'none'"
        )
    theirs = translate(architecture, state, own)
    dense = [value for name, value in theirs.items() if name.startswith(DENSE_LAYERS)]
    is_list = is_layer_list(state)
    # torchvision publishes ssd.pytorch's convolutions with a classifier that is not a number.
    is_caffe = architecture == "vgg16" and (
        is_list or any(word in path.name for word in CAFFE_FILES) or not all(_is_finite(value) for value in dense)
    )
    is_lite = architecture == "efficientnet_lite0" and "_conv_stem.weight" in state
    system = "ssd.pytorch's list of layers" if is_list else f"PyTorch's {architecture}"
    preprocess = CAFFE if is_caffe else EFFICIENTNET_LITE if is_lite else TORCHVISION
    return Classifier(theirs, preprocess, system, tuple(state), recognised(state))


def load_imagenet(
    network: Network,
    spec: ModelSpec,
    path: str | Path | None = None,
    read: ClassifierReader = read_checkpoint_classifier,
) -> BaseReport:
    """Give a backbone its ImageNet weights. The first convolution is adapted to the detector's own preprocessing.

    VGG16's dense layers of 4096 units become fc6 and fc7 with 1024.

    Args:
        network: changed in place; only its backbone.
        spec: of the network.
        path: a classifier's file; ``None`` takes the public one, downloaded once.
        read: knows the file's system; `singleshot.interop.classifiers.read_classifier` knows them all.

    Raises:
        WeightsError: no such weights are known, they cannot be got or read, or they are of another architecture.
    """
    backbone = spec.network.backbone.name
    path = Path(path) if path else _public(backbone)
    own = network.backbone.state_dict()
    classifier = read(path, backbone, tuple(own))
    first = next(name for name, value in own.items() if value.ndim == 4)
    theirs = classifier.state.get(first)
    if theirs is not None and own[first].shape[1] != theirs.shape[1]:
        raise WeightsError(f"{path}: ImageNet weights read 3 channels, this network reads {own[first].shape[1]}")
    state, notes = thin_dense_layers({name: value for name, value in classifier.state.items() if name in own})
    loaded = {name: fitted for name, value in state.items() if (fitted := _fitted(value, own[name])) is not None}
    missing = [name for name in own if name not in loaded and not name.endswith(COUNTER)]
    if any(not name.startswith(DENSE_LAYERS) for name in missing):
        raise _misfit(path, backbone, classifier, missing, len(own))
    random = sorted({name.partition(".")[0] for name in missing})
    if random:
        notes.append(f"{' and '.join(random)} start at random: the file has no numbers for them that fit")
    notes.append(f"{classifier.system}; {describe_input(classifier.preprocess, spec.preprocess)}")
    adapt_input(loaded, first, classifier.preprocess, spec.preprocess)
    network.backbone.load_state_dict(loaded, strict=False)
    return BaseReport([f"backbone.{name}" for name in loaded], notes)


def thin_dense_layers(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """VGG16's two dense layers of 4096 units as fc6 and fc7 of SSD; a file that has these already is left as it is.

    Every fourth unit, and every third tap of the 7x7 kernel (SSD section 3.1, after DeepLab).

    Args:
        state: by our names; ``fc6.weight`` is ``[4096, 25088]`` or ``[4096, 512, 7, 7]``, with any sides of 1.

    Returns:
        The state, and what was done.
    """
    fc6, fc7 = state.get("fc6.weight"), state.get("fc7.weight")
    thinned = dict(state)
    if fc6 is None or fc7 is None or fc6.numel() != 4096 * 25088 or fc7.numel() != 4096 * 4096:
        return thinned, []
    thinned["fc6.weight"] = fc6.reshape(4096, 512, 7, 7)[::4, :, ::3, ::3].contiguous()
    thinned["fc7.weight"] = fc7.reshape(4096, 4096, 1, 1)[::4, ::4].contiguous()
    for name in ("fc6.bias", "fc7.bias"):
        if name in state and state[name].numel() == 4096:
            thinned[name] = state[name].reshape(4096)[::4].contiguous()
    if not all(_is_finite(value) for name, value in thinned.items() if name.startswith(DENSE_LAYERS)):
        return thinned, []
    return thinned, ["fc6 and fc7: every 4th of 4096 units, every 3rd tap of fc6's 7x7 kernel"]


def _public(backbone: str) -> Path:
    """The public classifier's file.

    Raises:
        WeightsError: there is none, or it cannot be got.
    """
    architecture = architecture_of(backbone)
    if architecture is None:
        raise WeightsError(
            f"no ImageNet weights are known for the backbone '{backbone}': use weights 'none', or 'imagenet:FILE' with "
            "a classifier's file"
        )
    return fetch(IMAGENET[architecture])


def _fitted(value: Tensor, own: Tensor) -> Tensor | None:
    """The value in our shape, sides of length 1 apart; ``None`` where it does not fit or is not finite."""
    if [side for side in value.shape if side != 1] != [side for side in own.shape if side != 1]:
        return None
    return value.reshape(own.shape) if _is_finite(value) else None


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _misfit(path: Path, backbone: str, classifier: Classifier, missing: list[str], count: int) -> WeightsError:
    shown = ", ".join(classifier.names[:SHOWN_NAMES])
    guess = f"It looks like a classifier of {classifier.looks_like}. " if classifier.looks_like else ""
    return WeightsError(
        f"{path}: not ImageNet weights of the backbone '{backbone}': {count - len(missing)} of {count} tensors fit, "
        f"'{missing[0]}' does not (the file begins with {shown}). {guess}Give a classifier of that backbone, or name "
        "by `model` a detector on the file's; a whole detector's file is converted with 'singleshot import'"
    )
