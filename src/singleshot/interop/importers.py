"""Foreign systems by name, and how their files are told apart: by signature, suffix, or the names of a state dict.

Nothing of a system is imported before it is asked to read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Protocol

from torch import Tensor

from singleshot.core.registry import Registry
from singleshot.core.settings import SizeHW
from singleshot.errors import WeightsError
from singleshot.interop.fill import Imported
from singleshot.interop.translate import Shapes, Translation, convert
from singleshot.weights.file import is_weights_file
from singleshot.weights.torch_file import read_tensors

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".pkl", ".bin", ".tar", ".ckpt", ".safetensors")
CHECKPOINT_STARTS = (b"PK\x03\x04", b"\x80")  # zip archives and pickles
PARAMS_START = (0x112).to_bytes(8, "little") + bytes(8)
CAFFEMODEL_STARTS = (b"\x0a", b"\xa2\x06")  # a NetParameter begins with its name, or with a layer
TFJS_END_BYTES = 65536


@dataclass(frozen=True)
class ForeignFile:
    """A file or folder that is offered to the importers; what they look at is read once.

    Attributes:
        path: of the file or folder.
    """

    path: Path

    @cached_property
    def state(self) -> Mapping[str, Tensor] | None:
        """The state dict of a PyTorch checkpoint or safetensors file; ``None`` for files of another kind.

        Raises:
            WeightsError: it is damaged, holds more than numbers, or is a weights file of ours.
        """
        if not self.path.is_file():
            return None
        if self.path.suffix not in CHECKPOINT_SUFFIXES and not _start(self.path, 4).startswith(CHECKPOINT_STARTS):
            return None
        if self.path.suffix == ".safetensors" and is_weights_file(self.path):
            raise WeightsError(f"{self.path}: already a weights file of singleshot: use singleshot.load")
        return read_tensors(self.path)


class Importer(Protocol):
    """Reads the weights of one foreign system."""

    @property
    def name(self) -> str:
        """What ``source`` calls it."""

    @property
    def description(self) -> str:
        """Its files in a few words."""

    @property
    def takes_size(self) -> bool:
        """Whether its files leave the input size open."""

    def recognises(self, file: ForeignFile) -> bool:
        """Whether the file is the system's; cheap, and imports nothing of the system."""

    def read(self, file: ForeignFile, size_hw: SizeHW | None) -> Imported:
        """The detector, its numbers by our names, and what was done.

        Raises:
            WeightsError: it is damaged, or another network.
        """


@dataclass(frozen=True)
class FileImporter:
    """A system with files of its own.

    Attributes:
        name, description, takes_size: see `Importer`.
        is_theirs: whether a path is one of the system's.
        module: absolute, or relative to this package; its ``read`` takes the path, and the size where ``takes_size``.
    """

    name: str
    description: str
    is_theirs: Callable[[Path], bool]
    module: str
    takes_size: bool = False

    def recognises(self, file: ForeignFile) -> bool:
        """See `Importer`."""
        return self.is_theirs(file.path)

    def read(self, file: ForeignFile, size_hw: SizeHW | None) -> Imported:
        """See `Importer`."""
        read: Callable[..., Imported] = import_module(self.module, __package__).read
        return read(file.path, size_hw) if self.takes_size else read(file.path)


@dataclass(frozen=True)
class StateDictImporter:
    """A PyTorch project: names and shapes of a state dict say which detector it is.

    Attributes:
        name, description, takes_size: see `Importer`.
        matches: whether a state dict with these names is the project's.
        module: absolute, or relative to this package; has the function ``translate``.
    """

    name: str
    description: str
    matches: Callable[[Set[str]], bool]
    module: str
    takes_size: bool = False

    def recognises(self, file: ForeignFile) -> bool:
        """See `Importer`."""
        return file.state is not None and self.matches(file.state.keys())

    def read(self, file: ForeignFile, size_hw: SizeHW | None) -> Imported:
        """See `Importer`."""
        state, path = file.state, file.path
        if state is None:
            raise WeightsError(f"{path}: not recognised. {known()}")
        if not self.matches(state.keys()):
            raise WeightsError(f"{path}: a state dict, but not of {self.name}; source 'auto' finds out. {known()}")
        try:
            translation = self.translate({name: tuple(value.shape) for name, value in state.items()}, str(path))
        except (KeyError, IndexError) as error:
            raise WeightsError(f"{path}: like {self.name}, but {error} is missing or has another rank") from error
        return convert(translation, state, path, self.name)

    def translate(self, shapes: Shapes, origin: str) -> Translation:
        """Which detector it is, and where its parameters have their numbers."""
        translate: Callable[[Shapes, str], Translation] = import_module(self.module, __package__).translate
        return translate(shapes, origin)


IMPORTERS: Registry[Importer] = Registry("importer", {})
"""All importers; those of other packages are entry points of the group ``singleshot.importers``."""


def known() -> str:
    """All systems, for messages."""
    return "Known are:" + "".join(f"\n  {name}: {IMPORTERS.get(name).description}" for name in sorted(IMPORTERS))


def _start(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _is_caffe(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.caffemodel"))
    if path.suffix == ".caffemodel":
        start = _start(path, 2)
        return len(start) == 2 and start.startswith(CAFFEMODEL_STARTS)
    return ".prototxt" in path.suffixes


def _is_mxnet(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.params"))
    return path.name.endswith("-symbol.json") or _start(path, len(PARAMS_START)) == PARAMS_START


def _is_frozen_graph(path: Path) -> bool:
    if path.is_dir():
        return (path / "frozen_inference_graph.pb").is_file()
    start = _start(path, 5)  # a GraphDef begins with a node, and that with its name
    return path.suffix == ".pb" and start.startswith(b"\x0a") and b"\x0a" in start[2:]


def _is_tflite(path: Path) -> bool:
    return path.is_file() and _start(path, 8)[4:] == b"TFL3"


def _is_tfjs(path: Path) -> bool:
    file = path / "model.json" if path.is_dir() else path
    if file.suffix != ".json" or not file.is_file():
        return False
    with file.open("rb") as stream:
        if b"modelTopology" in stream.read(4096):
            return True
        stream.seek(max(0, file.stat().st_size - TFJS_END_BYTES))  # the order of keys is free
        return b"weightsManifest" in stream.read()


def _has(*names: str) -> Callable[[Set[str]], bool]:
    return lambda given: given >= set(names)


def _begins(*starts: str) -> Callable[[Set[str]], bool]:
    return lambda given: all(any(name.startswith(start) for name in given) for start in starts)


_OURS: tuple[Importer, ...] = (
    FileImporter(
        "caffe", "Caffe SSD (.caffemodel with its deploy .prototxt beside it; either file, or the folder)", _is_caffe,
        ".caffe.read",
    ),
    FileImporter(
        "mxnet", "MXNet .params of mxnet-ssd or mxnet-dssd (and -symbol.json; any from_layers)", _is_mxnet,
        ".mxnet.read", takes_size=True,
    ),
    FileImporter(
        "tensorflow",
        "TensorFlow frozen_inference_graph.pb, or the folder that holds it (SSD and SSDLite, MobileNet v1, v2 and v3)",
        _is_frozen_graph, ".tensorflow.graphdef",
    ),
    FileImporter(
        "tfjs", "TensorFlow.js graph model folder (SSD and SSDLite, MobileNet v1, v2 and v3)", _is_tfjs,
        ".tensorflow.tfjs",
    ),
    FileImporter(
        "tflite", "TFLite .tflite (SSD and SSDLite, MobileNet v1, v2 and v3, that read floats)", _is_tflite,
        ".tensorflow.tflite",
    ),
    StateDictImporter(
        "lufficc", "lufficc/SSD checkpoint (VGG 300 and 512, MobileNet v2 and v3, EfficientNet-B3)",
        _begins("box_head.predictor.reg_headers.", "backbone."), ".pytorch.lufficc",
    ),
    StateDictImporter(
        "nvidia", "NVIDIA DeepLearningExamples checkpoint, SSD300 with ResNet-34, 50 or 101",
        _has("feature_extractor.feature_extractor.0.weight", "additional_blocks.0.0.weight", "loc.0.weight"),
        ".pytorch.nvidia",
    ),
    StateDictImporter(
        "pytorch_ssd",
        "pytorch-ssd (qfgaohao) state dict (vgg16-ssd, mb1-ssd, mb1-ssd-lite, mb2-ssd-lite, sq-ssd-lite)",
        _begins("classification_headers.", "base_net."), ".pytorch.pytorch_ssd",
    ),
    StateDictImporter(
        "refinedet_pytorch", "RefineDet.PyTorch (luuuyi) state dict, VGG16, 320 or 512 (named so)",
        _has("vgg.0.weight", "arm_loc.0.weight", "odm_conf.0.weight", "tcb0.0.weight"), ".pytorch.refinedet_pytorch",
    ),
    StateDictImporter(
        "sgrvinod", "sgrvinod's tutorial, SSD300: its state dict (the checkpoint itself is a pickled program)",
        _has("rescale_factors", "base.conv1_1.weight", "pred_convs.loc_conv4_3.weight"), ".pytorch.sgrvinod",
    ),
    StateDictImporter(
        "ssd_pytorch", "ssd.pytorch (amdegroot) state dict, SSD300",
        _has("vgg.0.weight", "L2Norm.weight", "loc.0.weight", "conf.0.weight"), ".pytorch.ssd_pytorch",
    ),
    StateDictImporter(
        "torchvision", "torchvision state dict (ssd300_vgg16, ssdlite320_mobilenet_v3_large)",
        _begins("head.regression_head.module_list.", "backbone.features."), ".pytorch.torchvision",
    ),
)  # fmt: skip
for _importer in _OURS:
    IMPORTERS.register(_importer.name)(_importer)
