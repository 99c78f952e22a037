"""Base weights: a trained classifier of any system that our backbones come from, recognised by content."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from singleshot.core.files import is_regular
from singleshot.errors import WeightsError
from singleshot.interop.importers import CAFFEMODEL_STARTS, CHECKPOINT_SUFFIXES, PARAMS_START
from singleshot.weights.imagenet import Classifier, ClassifierReader, read_checkpoint_classifier

START_BYTES = len(PARAMS_START)


def read_classifier(path: Path, backbone: str, own: tuple[str, ...]) -> Classifier:
    """A classifier by our backbone's names.

    Args:
        path: MXNet's ``.params``, a ``.caffemodel``, or a PyTorch checkpoint.
        backbone: whose layers are wanted.
        own: names of its tensors, in order.

    Raises:
        WeightsError: there is no such file, it is damaged, or its system has no such network.
    """
    if not path.is_file() or not is_regular(path):
        what = "is a folder" if path.is_dir() else "no such file"
        raise WeightsError(f"{path}: {what}; name a classifier's file (.pth, .params or .caffemodel)")
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if start == PARAMS_START:
        return _reader(".mxnet.classifier")(path, backbone, own)
    if path.suffix == ".caffemodel" or (start.startswith(CAFFEMODEL_STARTS) and path.suffix not in CHECKPOINT_SUFFIXES):
        return _reader(".caffe.classifier")(path, backbone, own)
    return read_checkpoint_classifier(path, backbone, own)


def _reader(module: str) -> ClassifierReader:
    read: ClassifierReader = import_module(module, __package__).read
    return read
