"""The parts of a network by name, ours and those of other installed packages. Importing this never imports torch.

Each registry knows the module of each of our names and imports it when the name is first built. Another package adds a
name with an entry point of the registry's group, such as ``singleshot.necks``; CONTRIBUTING.md has an example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from singleshot.core.registry import Registry

if TYPE_CHECKING:
    from singleshot.models.backbone import BackboneBuilder
    from singleshot.models.extras import ExtraBuilder
    from singleshot.models.heads.multibox import HeadBuilder
    from singleshot.models.heads.prediction import PredictionModuleBuilder
    from singleshot.models.neck import NeckBuilder

_PACKAGE = "singleshot.models"


def _homes(names: dict[str, str]) -> dict[str, str]:
    """Module by name, from names by module."""
    return {name: f"{_PACKAGE}.{module}" for module, listed in names.items() for name in listed.split()}


BACKBONES: Registry[BackboneBuilder] = Registry(
    "backbone",
    _homes(
        {
            "backbones.vgg16": "vgg16_reduced vgg16_reduced_caffe vgg16_bn vgg16_refinedet",
            "backbones.resnet": " ".join(
                f"resnet{depth}{form}" for depth in (18, 34, 50, 101, 152) for form in ("", "_nvidia", "_dssd")
            ),
            "backbones.resnet_preact": " ".join(f"resnet{depth}_mxnet" for depth in (18, 34, 50, 101, 152)),
            "backbones.mobilenet_v1": "mobilenet_v1 mobilenet_v1_mxnet mobilenet_v1_tf",
            "backbones.mobilenet_v2": "mobilenet_v2 mobilenet_v2_tf",
            "backbones.mobilenet_v3": (
                "mobilenet_v3_large mobilenet_v3_large_reduced mobilenet_v3_large_reduced_tf "
                "mobilenet_v3_large_squeeze_first"
            ),
            "backbones.efficientnet": "efficientnet_b3 efficientnet_lite0",
            "backbones.inception_v3": "inception_v3_mxnet",
            "backbones.densenet": "densenet121 densenet161 densenet169 densenet201 densenet_tiny densenet",
            "backbones.squeezenet": "squeezenet1_1",
            "backbones.timm": "timm",
            "backbones.graph": "graph",
        }
    ),
)
"""``(BackboneConfig) -> Backbone``. What follows a colon in a name is the builder's own: ``timm:convnext_tiny``."""

EXTRAS: Registry[ExtraBuilder] = Registry(
    "extra", _homes({"extras": "conv separable inverted_residual residual residual_preact single"})
)
"""``(ExtraBlock, channels of the source before it, BatchNorm eps) -> module``."""

NECKS: Registry[NeckBuilder] = Registry(
    "neck", _homes({"neck": "none", "necks.dssd": "dssd", "necks.tdm": "tdm tdm_dssd", "necks.tcb": "tcb"})
)
"""``(NeckConfig, channels of the sources, BatchNorm eps) -> Neck``."""

PREDICTION_MODULES: Registry[PredictionModuleBuilder] = Registry(
    "prediction module", _homes({"heads.prediction": "none b c d residual mxnet"})
)
"""``(HeadConfig, channels of the map, BatchNorm eps) -> modules`` that run before both predictors of a map."""

HEADS: Registry[HeadBuilder] = Registry(
    "head", _homes({"heads.conv": "conv", "heads.separable": "separable", "heads.graph": "graph"})
)
"""``(HeadConfig, channels of the maps, columns of the logits, BatchNorm eps) -> MultiBoxHead``."""
