"""MXNet's classifiers, which mxnet-ssd starts from (``--pretrained``): ``vgg16_reduced-0001.params`` and others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from singleshot.core.settings import PreprocessConfig
from singleshot.errors import WeightsError
from singleshot.interop.mxnet.names import backbone_parameter
from singleshot.interop.mxnet.params import read_params
from singleshot.weights.file import COUNTER
from singleshot.weights.imagenet import CAFFE, Classifier

PIXELS = PreprocessConfig(size_hw=(224, 224), mean=(0.0, 0.0, 0.0))
"""What MXNet's own ResNets and DenseNets read: their first BatchNorm takes the mean away."""
LEAST_PIXEL_MEAN = 60.0
"""A running mean of the image above it is of pixels, not of what is left of them without their mean."""

FAMILIES = ("vgg16", "densenet")
"""Backbones that are the same in other systems; all others of MXNet's form end in ``_mxnet``."""


def read(path: Path, backbone: str, own: tuple[str, ...]) -> Classifier:
    """The layers of a backbone.

    Images are what mxnet-ssd feeds such files: RGB minus the mean, unless the first BatchNorm has seen that mean.

    Raises:
        WeightsError: the file is damaged, or the backbone is not in MXNet's form.
    """
    arrays = {name.partition(":")[2] or name: array for name, array in read_params(path).items()}
    if not backbone.endswith("_mxnet") and not backbone.startswith(FAMILIES):
        raise WeightsError(
            f"{path}: MXNet's parameters, whose networks differ from the backbone '{backbone}'; name by `model` a "
            "detector in MXNet's form, such as 'mxnet_ssd_resnet50_512'"
        )
    theirs = {name: backbone_parameter(backbone, name) for name in own if not name.endswith(COUNTER)}
    state = {
        name: torch.from_numpy(np.array(arrays[other], dtype=np.float32))
        for name, other in theirs.items()
        if other in arrays
    }
    seen = state.get("bn_data.running_mean")
    saw_pixels = seen is not None and float(seen.mean()) > LEAST_PIXEL_MEAN
    return Classifier(state, PIXELS if saw_pixels else CAFFE, "MXNet's parameters", tuple(arrays))
