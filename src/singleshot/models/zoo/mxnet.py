"""The presets of mxnet-ssd and mxnet-dssd by name, as rows over ``AssembledConfig``. No torch.

``mxnet_ssd_<network>_<size>`` and ``mxnet_dssd_<network>_<size>[_<variant>]``. Sizes are what a preset was written for;
any other input size works. mxnet-ssd chooses its lists by the size (below 448 or not), so does the name here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from singleshot.models.catalogue import SizeHW, register_model
from singleshot.models.config import ModelSpec
from singleshot.models.zoo.assembled import AssembledConfig

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

SSD_PRESETS: dict[str, tuple[Preset, tuple[int, ...]]] = {
    "vgg16_reduced": (SSD_300, (300,)),
    "vgg16_reduced_large": (SSD_512, (512,)),
    "legacy_vgg16": (SSD_300._replace(more={**VGG_300, **LEGACY_300}), (300,)),
    "legacy_vgg16_large": (SSD_512._replace(more={**VGG_512, **LEGACY_512}), (512,)),
    "inceptionv3": (
        Preset("inception_v3_mxnet", {"mixed_2": 288, "mixed_7": 768, "mixed_10": 2048}, _halving(256, 256, 128)),
        (300,),
    ),
    "inceptionv3_large": (
        Preset("inception_v3_mxnet", {"mixed_7": 768, "mixed_10": 2048}, _halving(512, 256, 256, 128)),
        (512,),
    ),
    "resnet50": (
        Preset("resnet50_mxnet", {"stage3_unit6": 1024, "stage4_unit3": 2048}, _halving(512, 256, 256, 128)),
        (300, 512),
    ),
    "resnet101": (
        Preset("resnet101_mxnet", {"stage3_unit23": 1024, "stage4_unit3": 2048}, _halving(512, 256, 256, 128)),
        (300, 512),
    ),
    "mobilenet": (
        Preset("mobilenet_v1_mxnet", {"conv_12": 512, "conv_14": 1024}, _halving(512, 256, 256, 256, 256)),
        (300, 512, 608),
    ),
    "densenet121": (
        Preset("densenet121", {"DBstage3_unit24": 1024, "DBstage4_unit16": 1024}, _halving(256, 256, 256, 128)),
        (300, 512),
    ),
    "densenet_tiny": (
        Preset("densenet_tiny", {"DBstage2_unit12": 256, "DBstage3_unit18": 416}, _halving(256, 256, 256, 128)),
        (300, 512),
    ),
}
"""mxnet-ssd: preset and the sizes that it has a name for. ``_large`` is no part of the name."""

DSSD_PRESETS: dict[str, tuple[Preset, int]] = {
    # At 300 the last map is 2x2, yet its step stays the whole image: the centres of its second row and column lie
    # outside. Kept as it was trained.
    "vgg16_reduced_300": (Preset("vgg16_reduced", VGG_TAPS, _halving(512, 256, 256, 256), VGG_300), 300),
    "vgg16_reduced_512": (Preset("vgg16_reduced", VGG_TAPS, _halving(512, 256, 256, 256, 256), VGG_512), 512),
    "resnet101_321": (SSD_PRESETS["resnet101"][0], 321),
    "resnet101_512": (SSD_PRESETS["resnet101"][0], 512),
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
        network: a key of ``SSD_PRESETS`` without ``_large``.
        size: side of the square input; from 448 on mxnet-ssd has other lists for some networks.
    """
    large = f"{network}_large"
    preset, sizes = SSD_PRESETS[large if size >= LARGE and large in SSD_PRESETS else network]
    config = preset.config(sizes[0])
    return preset.config(size) if size in sizes else preset_at(config, (size, size))


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


def assembled_config(name: str) -> AssembledConfig:
    """The lists behind a catalogue name of this module, to start a configuration of one's own from.

    Raises:
        KeyError: the name is not one of mxnet-ssd's or mxnet-dssd's presets.
    """
    return _configs[name]


_configs: dict[str, AssembledConfig] = {}


def _register(name: str, config: AssembledConfig, description: str) -> None:
    _configs[name] = config

    @register_model(name, description, config.input_size_hw)
    def build(name: str, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
        return config.to_spec(class_names, size_hw, name)


for _key, (_preset, _sizes) in SSD_PRESETS.items():
    _network = _key.removesuffix("_large")
    for _size in _sizes:
        _register(
            f"mxnet_ssd_{_network}_{_size}",
            ssd_config(_network, _size),
            f"mxnet-ssd's preset for {_network} at {_size}",
        )
for _key in DSSD_PRESETS:
    for _variant in DSSD_VARIANTS:
        _register(
            "_".join(filter(None, ("mxnet_dssd", _key, _variant))),
            dssd_config(_key, _variant),
            f"mxnet-dssd's preset for {_key.replace('_', ' ')}" + (f", variant {_variant}" if _variant else ""),
        )
