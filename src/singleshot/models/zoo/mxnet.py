"""The presets of mxnet-ssd and mxnet-dssd by name, as rows over ``AssembledConfig``. No torch.

``mxnet_ssd_<network>_<size>`` and ``mxnet_dssd_<network>_<size>[_<variant>]``. Sizes are what a preset was written for;
any other input size works. mxnet-ssd chooses its lists by the size (below 448 or not), so does the name here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from singleshot.core.settings import SizeHW
from singleshot.models.config import ModelSpec
from singleshot.models.zoo.assembled import AssembledConfig
from singleshot.models.zoo.common import Model

FEW, MANY = (1.0, 2.0, 1 / 2), (1.0, 2.0, 1 / 2, 3.0, 1 / 3)
RATIOS_6 = (FEW, MANY, MANY, MANY, FEW, FEW)
RATIOS_7 = (FEW, MANY, MANY, MANY, MANY, FEW, FEW)
LOW_6, LOW_7 = 0.2, 0.15
HIGH = 0.9
LARGE = 448

Block = tuple[int, int, int]
"""Channels, stride and pad of an appended block."""


class Preset(NamedTuple):
    """What distinguishes the presets.

    Attributes:
        network: registered backbone.
        taps: its layers, with their channels.
        blocks: appended.
        more: further entries of ``AssembledConfig``, or other values.
    """

    network: str
    taps: dict[str, int]
    blocks: tuple[Block, ...]
    more: dict[str, Any] = {}  # noqa: RUF012 - never changed: a row of a table

    def config(self, size: int, **changes: Any) -> AssembledConfig:
        """The preset's lists for a square input."""
        appended = len(self.blocks)
        levels = len(self.taps) + appended
        rows: dict[str, Any] = {
            "network": self.network,
            "input_size_hw": (size, size),
            "from_layers": (*self.taps, *[""] * appended),
            "num_filters": (*self.taps.values(), *(block[0] for block in self.blocks)),
            "strides": (*[-1] * len(self.taps), *(block[1] for block in self.blocks)),
            "pads": (*[-1] * len(self.taps), *(block[2] for block in self.blocks)),
            "sizes": (LOW_6, HIGH) if levels == 6 else (LOW_7, HIGH),
            "ratios": RATIOS_6 if levels == 6 else RATIOS_7,
        }
        return AssembledConfig(**{**rows, **self.more, **changes})


def _halving(*channels: int) -> tuple[Block, ...]:
    return tuple((count, 2, 1) for count in channels)


VGG_TAPS = {"relu4_3": 512, "relu7": 1024}
VGG_STEPS_300 = tuple(step / 300 for step in (8, 16, 32, 64, 100, 300))
VGG_STEPS_512 = tuple(step / 512 for step in (8, 16, 32, 64, 128, 256, 512))
VGG_300 = {"normalizations": (20.0, -1.0, -1.0, -1.0, -1.0, -1.0), "steps": VGG_STEPS_300}
VGG_512 = {"normalizations": (20.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0), "steps": VGG_STEPS_512}
UNPADDED = ((256, 1, 0), (256, 1, 0))

SSD_300 = Preset("vgg16_reduced", VGG_TAPS, (*_halving(512, 256), *UNPADDED), VGG_300)
# The last block has stride 1 and pad 1: the 2x2 map comes twice, 24,576 anchors.
SSD_512 = Preset("vgg16_reduced", VGG_TAPS, (*_halving(512, 256, 256, 256), (256, 1, 1)), VGG_512)

RESNET_101 = Preset("resnet101_mxnet", {"stage3_unit23": 1024, "stage4_unit3": 2048}, _halving(512, 256, 256, 128))

# Written by hand in mxnet-ssd, with sizes rounded to three or four digits.
LEGACY_300 = {"sizes": ((0.1, 0.141), (0.2, 0.272), (0.37, 0.447), (0.54, 0.619), (0.71, 0.79), (0.88, 0.961))}
LEGACY_512 = {
    "sizes": (
        (0.07, 0.1025),
        (0.15, 0.2121),
        (0.3, 0.3674),
        (0.45, 0.5196),
        (0.6, 0.6708),
        (0.75, 0.8216),
        (0.9, 0.9721),
    ),
    "kernels": (3, 3, 3, 3, 3, 3, 4),
}


def _at(preset: Preset, *sizes: int) -> dict[int, Preset]:
    return dict.fromkeys(sizes, preset)


SSD_PRESETS: dict[str, dict[int, Preset]] = {
    "vgg16_reduced": {300: SSD_300, 512: SSD_512},
    "legacy_vgg16": {
        300: SSD_300._replace(more={**VGG_300, **LEGACY_300}),
        512: SSD_512._replace(more={**VGG_512, **LEGACY_512}),
    },
    "inceptionv3": {
        300: Preset(
            "inception_v3_mxnet", {"mixed_2": 288, "mixed_7": 768, "mixed_10": 2048}, _halving(256, 256, 128)
        ),
        512: Preset("inception_v3_mxnet", {"mixed_7": 768, "mixed_10": 2048}, _halving(512, 256, 256, 128)),
    },
    "resnet50": _at(
        Preset("resnet50_mxnet", {"stage3_unit6": 1024, "stage4_unit3": 2048}, _halving(512, 256, 256, 128)), 300, 512
    ),
    "resnet101": _at(RESNET_101, 300, 512),
    "mobilenet": _at(
        Preset("mobilenet_v1_mxnet", {"conv_12": 512, "conv_14": 1024}, _halving(512, 256, 256, 256, 256)),
        300, 512, 608,
    ),
    "densenet121": _at(
        Preset("densenet121", {"DBstage3_unit24": 1024, "DBstage4_unit16": 1024}, _halving(256, 256, 256, 128)),
        300, 512,
    ),
    "densenet_tiny": _at(
        Preset("densenet_tiny", {"DBstage2_unit12": 256, "DBstage3_unit18": 416}, _halving(256, 256, 256, 128)),
        300, 512,
    ),
}  # fmt: skip
"""mxnet-ssd: presets by network, then by the sizes that have a name."""

DSSD_PRESETS: dict[str, tuple[Preset, int]] = {
    # At 300 the last map is 2x2, yet its step stays the whole image: the centres of its second row and column lie
    # outside. Kept as it was trained.
    "vgg16_reduced_300": (Preset("vgg16_reduced", VGG_TAPS, _halving(512, 256, 256, 256), VGG_300), 300),
    "vgg16_reduced_512": (Preset("vgg16_reduced", VGG_TAPS, _halving(512, 256, 256, 256, 256), VGG_512), 512),
    "resnet101_321": (RESNET_101, 321),
    "resnet101_512": (RESNET_101, 512),
}
"""mxnet-dssd: preset and size."""

DSSD_LEVELS = 4
"""mxnet-dssd builds deconvolution levels on the four finest sources."""

DSSD_VARIANTS: dict[str, dict[str, Any]] = {
    "": {"neck": "dssd"},
    "plain": {"neck": "none"},
    "module": {"neck": "dssd", "prediction_module": "mxnet"},
    "residual": {"neck": "dssd", "residual_extras": True},
    "tdm": {"neck": "tdm"},
    "tdm_dssd": {"neck": "tdm_dssd"},
}
"""What mxnet-dssd's switches make of a preset."""


def ssd_config(network: str, size: int) -> AssembledConfig:
    """The lists of a preset of mxnet-ssd.

    Args:
        network: a key of ``SSD_PRESETS``.
        size: side of the square input; from 448 on mxnet-ssd has other lists for some networks.
    """
    presets = SSD_PRESETS[network]
    own = size if size in presets else next(one for one in presets if (one >= LARGE) == (size >= LARGE))
    return preset_at(presets[own].config(own), (size, size))


def preset_at(config: AssembledConfig, size_hw: SizeHW) -> AssembledConfig:
    """A preset's lists at another input size, as both systems have them: steps were written for its own size only."""
    return (
        config if size_hw == config.input_size_hw else config.model_copy(update={"input_size_hw": size_hw, "steps": ()})
    )


def dssd_config(network_size: str, *variants: str) -> AssembledConfig:
    """The lists of a preset of mxnet-dssd.

    Args:
        network_size: a key of ``DSSD_PRESETS``.
        variants: keys of ``DSSD_VARIANTS``; the last one decides about the neck.
    """
    preset, size = DSSD_PRESETS[network_size]
    switches: dict[str, Any] = {"neck_dialect": "mxnet"}
    for variant in variants or ("",):
        switches |= DSSD_VARIANTS[variant]
    levels = len(preset.taps) + len(preset.blocks)
    on = (1,) * DSSD_LEVELS + (-1,) * (levels - DSSD_LEVELS)
    if switches["neck"] in ("dssd", "tdm_dssd"):
        switches["topdown_layers"] = on
    if "prediction_module" in switches:
        switches["prediction_layers"] = on
    return preset.config(size, **switches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled(Model):
    """A preset of the catalogue.

    Attributes:
        config: its lists.
    """

    config: AssembledConfig

    @property
    def size_hw(self) -> SizeHW:
        """Input size that its lists were written for."""
        return self.config.input_size_hw

    def spec(self, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
        """The detector for these classes at this input size."""
        return self.config.to_spec(class_names, size_hw, self.name)


MODELS = (
    *(
        Assembled(
            name=f"mxnet_ssd_{network}_{size}",
            family="mxnet-ssd",
            description=f"mxnet-ssd's preset for {network} at {size}",
            config=ssd_config(network, size),
        )
        for network, presets in SSD_PRESETS.items()
        for size in presets
    ),
    *(
        Assembled(
            name="_".join(filter(None, ("mxnet_dssd", key, variant))),
            family="mxnet-dssd",
            description=f"mxnet-dssd's preset for {key.replace('_', ' ')}"
            + (f", variant {variant}" if variant else ""),
            config=dssd_config(key, variant),
        )
        for key in DSSD_PRESETS
        for variant in DSSD_VARIANTS
    ),
)


def assembled_config(name: str) -> AssembledConfig:
    """The lists behind a catalogue name of this module, to start a configuration of one's own from.

    Raises:
        KeyError: the name is not one of mxnet-ssd's or mxnet-dssd's presets.
    """
    return {row.name: row.config for row in MODELS}[name]
