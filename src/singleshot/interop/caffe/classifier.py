"""Caffe's VGG16: the classifier, its fully convolutional form, and the reduced one that SSD starts from."""

from __future__ import annotations

from pathlib import Path

import torch

from singleshot.core.settings import PreprocessConfig
from singleshot.errors import WeightsError
from singleshot.interop.caffe.caffemodel import read_caffemodel
from singleshot.weights.imagenet import Classifier

CAFFE_BGR = PreprocessConfig(size_hw=(224, 224), channel_order="bgr", mean=(104.0, 117.0, 123.0))
FAMILY = "vgg16"
PARTS = ("weight", "bias")


def read(path: Path, backbone: str, own: tuple[str, ...]) -> Classifier:
    """The layers of VGG16, whose names are Caffe's. Images are what Caffe's SSD feeds it: BGR minus the mean.

    Raises:
        WeightsError: the file is damaged, or the backbone is another one.
    """
    blobs = read_caffemodel(path)
    if not backbone.startswith(FAMILY):
        raise WeightsError(
            f"{path}: a caffemodel; of Caffe's classifiers VGG16 is read, but the backbone here is '{backbone}'; "
            "name by `model` a detector on VGG16, such as 'ssd300_vgg16'"
        )
    state = {
        f"{layer}.{part}": torch.from_numpy(blob)
        for layer, arrays in blobs.items()
        for part, blob in zip(PARTS, arrays, strict=False)
        if f"{layer}.{part}" in own
    }
    return Classifier(state, CAFFE_BGR, "Caffe's VGG16", tuple(blobs))
