"""TDM (arXiv 1612.06851): SSD on VGG16 with top-down modulation, 512 channels wide. No torch."""

from __future__ import annotations

from singleshot.models.config import NeckConfig
from singleshot.models.zoo import ssd
from singleshot.models.zoo.common import Template

FAMILY = "TDM"

MODELS = (
    Template(
        name="tdm300_vgg16",
        family=FAMILY,
        description="SSD300 with top-down modulation (arXiv 1612.06851)",
        network=ssd.vgg16_network(ssd.VOC_300, ssd.EXTRAS_300, NeckConfig(kind="tdm")),
        anchors=ssd.VOC_300,
        preprocess=ssd.INPUT_300,
    ),
    Template(
        name="tdm512_vgg16",
        family=FAMILY,
        description="SSD512 with top-down modulation (arXiv 1612.06851)",
        network=ssd.vgg16_network(ssd.VOC_512, ssd.EXTRAS_512, NeckConfig(kind="tdm")),
        anchors=ssd.VOC_512,
        preprocess=ssd.INPUT_512,
    ),
)
