"""TDM (arXiv 1612.06851): SSD on VGG16 with top-down modulation, 512 channels wide. No torch."""

from __future__ import annotations

from singleshot.models.config import NeckConfig
from singleshot.models.zoo import ssd

FAMILY = "TDM"

NECK = NeckConfig(kind="tdm")

MODELS = (
    ssd.vgg16(
        "tdm300_vgg16",
        "SSD300 with top-down modulation (arXiv 1612.06851)",
        300, "voc300", ssd.EXTRAS_300, family=FAMILY, neck=NECK,
    ),
    ssd.vgg16(
        "tdm512_vgg16",
        "SSD512 with top-down modulation (arXiv 1612.06851)",
        512, "voc512", ssd.EXTRAS_512, family=FAMILY, neck=NECK,
    ),
)  # fmt: skip
