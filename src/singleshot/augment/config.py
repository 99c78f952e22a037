"""Random changes of training images, as data. Pure pydantic: no torch, no OpenCV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from singleshot.augment.orientation import why_not_mirrored
from singleshot.core.setting_errors import SHORT, wrong_settings
from singleshot.core.settings import Frozen, UnitFloat
from singleshot.errors import ConfigError

Interpolation = Literal["linear", "area", "nearest", "cubic", "lanczos4"]
Arithmetic = Literal["uint8", "float", "unlimited"]
MIRROR = 0.5
"""What ``mirror: auto`` means for pictures that may be mirrored."""
PresetName = Literal["ssd", "ssd_pytorch", "mxnet_ssd", "ssdlite", "light", "none"]


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"a range is [low, high]; {list(bounds)} falls")
    return bounds


PositiveFloat = Annotated[float, Field(gt=0)]
PositiveRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)]
FractionRange = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], UnitFloat], AfterValidator(_rising)]
Byte = Annotated[int, Field(ge=0, le=255)]


class ColourConfig(Frozen):
    """Photometric distortion (SSD section 2.2, after Howard 2013).

    Brightness comes first and channel order last; contrast stands before or after saturation and hue, by a fair coin.

    Attributes:
        space: ``hsv``: brightness is an offset on pixels, saturation a factor, hues wrap around (Caffe, ssd.pytorch).
            ``hls``: brightness, saturation and hue are offsets on L, S and H of HLS, each kept within its range, so
            that hues stop at red; contrast comes last (MXNet).
        probability: of each of the four changes.
        brightness: largest offset on 0..255.
        contrast: range of the factor on all pixels.
        saturation: range of the factor on S of HSV; of ``hls``, ``saturation_offset`` stands in its place.
        saturation_offset: largest offset on S of HLS, 0..255.
        hue_degrees: largest turn of H, at most 150. Caffe's and MXNet's 18 are steps of 2 degrees, ssd.pytorch's are
            degrees.
        shuffle_channels: probability of a random channel order.
        arithmetic: ``uint8`` rounds and saturates after each step (Caffe); ``float`` only at the end; ``unlimited``
            never (ssd.pytorch): training inputs are float32 then, and may lie outside 0..255.
    """

    space: Literal["hsv", "hls"] = "hsv"
    probability: UnitFloat = 0.5
    brightness: Annotated[float, Field(ge=0, le=255)] = 32.0
    contrast: PositiveRange = (0.5, 1.5)
    saturation: PositiveRange = (0.5, 1.5)
    saturation_offset: Annotated[float, Field(ge=0, le=255)] = 0.0
    hue_degrees: Annotated[float, Field(ge=0, le=150)] = 36.0
    shuffle_channels: UnitFloat = 0.0
    arithmetic: Arithmetic = "uint8"

    @model_validator(mode="after")
    def _one_kind_of_saturation(self) -> Self:
        if self.space == "hls" and self.arithmetic != "uint8":
            raise ValueError(f"space hls works on bytes: use arithmetic: uint8, not {self.arithmetic}")
        if self.space == "hsv" and self.saturation_offset:
            raise ValueError("saturation_offset means nothing in hsv, whose saturation is a factor; use space: hls")
        return self


class ExpandConfig(Frozen):
    """Zoom out: the image somewhere on a larger canvas (SSD section 3.6).

    Attributes:
        probability: of a larger canvas.
        max_ratio: largest side of the canvas over the image's; uniform from 1.
        min_ratio: smaller draws leave the image as it is (MXNet: 1.05).
    """

    probability: UnitFloat = 0.5
    max_ratio: Annotated[float, Field(ge=1, le=32)] = 4.0
    min_ratio: Annotated[float, Field(ge=1, le=32)] = 1.0


class CropConfig(Frozen):
    """Zoom in: a patch that overlaps an object enough (SSD section 2.2).

    A patch is accepted if its largest IoU with an object reaches the sampler's ``min_ious`` entry.

    Attributes:
        proposal: ``caffe`` draws a scale and an aspect ratio, gives every sampler its trials and takes one of the
            patches found. ``ssd_pytorch`` picks the sampler first, draws width and height, wants an object's centre
            strictly inside, and picks again after failing trials. ``mxnet`` keeps the whole image once in
            (samplers + 1) times, else tries the samplers in random order and takes the first patch that holds an
            object's centre, too; it also crops images without objects.
        min_ious: one sampler each.
        whole_image: the sampler that always finds the whole image.
        unconstrained: a sampler without a least IoU.
        scale: ``caffe``, ``mxnet``: root of the patch's share of the area; ``ssd_pytorch``: width and height as shares.
        aspect: width over height relative to the image (``caffe``), or in pixels (``mxnet``); height over width in
            pixels (``ssd_pytorch``).
        trials: patches a sampler may try.
    """

    proposal: Literal["caffe", "ssd_pytorch", "mxnet"] = "caffe"
    min_ious: tuple[UnitFloat, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    whole_image: bool = True
    unconstrained: bool = True
    scale: FractionRange = (0.3, 1.0)
    aspect: PositiveRange = (0.5, 2.0)
    trials: Annotated[int, Field(gt=0, le=1000)] = 50

    @model_validator(mode="after")
    def _some_sampler(self) -> Self:
        if not (self.min_ious or self.whole_image or self.unconstrained):
            raise ValueError("a crop needs a sampler: give min_ious, whole_image or unconstrained, or set crop to null")
        return self


class AugmentConfig(Frozen):
    """From an image and its boxes to a training input: colour, expand, crop, resize, mirror.

    Attributes:
        colour, expand, crop: the steps; ``None`` leaves one out.
        mirror: probability of swapping left and right. ``auto``: 0.5, and 0 where the names of the classes say that a
            mirrored picture shows other ones (left and right, letters, digits).
        flip: probability of swapping top and bottom, for pictures without an up (microscopes, aerial views).
        interpolations: one of these resizes each image.
        fill_rgb: colour of the canvas.
        transforms: own steps after all others, by their names in `AUGMENTATIONS`.
        reduced_decode: read a JPEG at 1/2, 1/4 or 1/8 where the result is at least that much smaller. Quicker, and
            smoother than resizing at once.
    """

    colour: ColourConfig | None = None
    expand: ExpandConfig | None = None
    crop: CropConfig | None = None
    mirror: UnitFloat | Literal["auto"] = 0.0
    flip: UnitFloat = 0.0
    interpolations: Annotated[tuple[Interpolation, ...], Field(min_length=1)] = ("linear",)
    fill_rgb: tuple[Byte, Byte, Byte] = (123, 117, 104)
    transforms: tuple[str, ...] = ()
    reduced_decode: bool = True

    def settled(self, class_names: Sequence[str] = ()) -> Self:
        """The same without ``auto``.

        Args:
            class_names: of the data; none known: nothing speaks against mirroring.
        """
        if self.mirror != "auto":
            return self
        return self.model_copy(update={"mirror": 0.0 if why_not_mirrored(class_names) else MIRROR})


PRESETS: Mapping[PresetName, AugmentConfig] = {
    # Caffe SSD, the paper's rule.
    "ssd": AugmentConfig(
        colour=ColourConfig(),
        expand=ExpandConfig(),
        crop=CropConfig(),
        mirror=0.5,
        interpolations=("linear", "area", "nearest", "cubic", "lanczos4"),
    ),
    # Its best-known port, with the acceptance rule put right (the port accepted every patch).
    "ssd_pytorch": AugmentConfig(
        colour=ColourConfig(hue_degrees=18, shuffle_channels=0.5, arithmetic="unlimited"),
        expand=ExpandConfig(),
        crop=CropConfig(proposal="ssd_pytorch", min_ious=(0.1, 0.3, 0.7, 0.9)),
        mirror=0.5,
    ),
    # mxnet-ssd's configuration of MXNet's ImageDetRecordIter, with two of its slips put right (docs/augmentation.md).
    "mxnet_ssd": AugmentConfig(
        colour=ColourConfig(space="hls", saturation_offset=32),
        expand=ExpandConfig(min_ratio=1.05),
        crop=CropConfig(proposal="mxnet", unconstrained=False, trials=25),
        mirror=0.5,
        interpolations=("nearest", "linear", "cubic", "area", "lanczos4"),
        fill_rgb=(127, 127, 127),
    ),
    # Small networks underfit under the full recipe: TF's and torchvision's SSDLite crop and mirror only.
    "ssdlite": AugmentConfig(crop=CropConfig(), mirror=0.5),
    # Fine-tuning on few images that resemble those to come.
    "light": AugmentConfig(
        colour=ColourConfig(brightness=16, contrast=(0.8, 1.25), saturation=(0.8, 1.25), hue_degrees=9),
        crop=CropConfig(min_ious=(0.5, 0.7, 0.9), scale=(0.6, 1.0), aspect=(0.75, 4 / 3)),
        mirror="auto",
    ),
    # Exactly the resize of prediction.
    "none": AugmentConfig(reduced_decode=False),
}


def preset(name: str) -> AugmentConfig:
    """The settings of a preset.

    Raises:
        ConfigError: no such preset.
    """
    for known, config in PRESETS.items():
        if known == name:
            return config
    raise ConfigError(f"augment: no preset '{name}'; there are {', '.join(PRESETS)}")


def parse_augment(value: Any) -> AugmentConfig:
    """Settings from a preset's name, or from a mapping as YAML gives it.

    Args:
        value: the key ``preset`` of a mapping names where to start (``none`` if missing); other keys replace its
            settings, nested ones one by one: ``{preset: ssd, flip: 0.5, colour: {hue_degrees: 0}}``.

    Raises:
        ConfigError: with the dotted key of the first wrong setting.
    """
    if isinstance(value, AugmentConfig):
        return value
    if isinstance(value, str):
        return preset(value)
    if not isinstance(value, Mapping):
        what = f"a preset ({', '.join(PRESETS)}) or a mapping such as {{preset: light, flip: 0.5}}"
        raise ConfigError(f"augment: must be {what}, not {SHORT.repr(value)}")
    changes = dict(value)
    name = changes.pop("preset", "none")
    if not isinstance(name, str):
        raise ConfigError(f"augment.preset: must be one of {', '.join(PRESETS)}, not {SHORT.repr(name)}")
    base = preset(name).model_dump()
    try:
        return AugmentConfig.model_validate(_merged(base, changes))
    except ValidationError as error:
        first = wrong_settings(error, AugmentConfig, lambda key: f"augment.{key}".rstrip("."))[0]
        raise ConfigError(first) from None


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result
