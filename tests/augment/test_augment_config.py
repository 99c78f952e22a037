from __future__ import annotations

import pytest
import yaml

from singleshot.augment.config import PRESETS, AugmentConfig, CropConfig, parse_augment, preset
from singleshot.errors import ConfigError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_yaml(name):
    text = yaml.safe_dump(preset(name).model_dump(mode="json"))
    assert parse_augment(yaml.safe_load(text)) == preset(name)


def test_nothing_is_the_default():
    assert parse_augment({}) == preset("none")
    assert AugmentConfig().colour is None


def test_ssd_is_the_papers_rule():
    ssd = preset("ssd")
    assert ssd.colour.brightness == 32
    assert (ssd.colour.contrast, ssd.colour.saturation) == ((0.5, 1.5), (0.5, 1.5))
    assert ssd.colour.hue_degrees == 36  # 18 steps of 2 degrees
    assert ssd.colour.shuffle_channels == 0
    assert ssd.expand.max_ratio == 4
    assert ssd.crop.min_ious == (0.1, 0.3, 0.5, 0.7, 0.9)
    assert ssd.crop.whole_image
    assert ssd.crop.unconstrained
    assert len(ssd.interpolations) == 5


def test_mxnet_ssd_is_its_configuration():
    config = preset("mxnet_ssd")
    assert (config.crop.min_ious, config.crop.trials) == ((0.1, 0.3, 0.5, 0.7, 0.9), 25)
    assert (config.crop.scale, config.crop.aspect) == ((0.3, 1.0), (0.5, 2.0))
    assert (config.expand.probability, config.expand.max_ratio, config.fill_rgb) == (0.5, 4, (127, 127, 127))
    assert (config.colour.brightness, config.colour.saturation_offset, config.colour.hue_degrees) == (32, 32, 36)
    assert (config.colour.contrast, config.mirror, len(config.interpolations)) == ((0.5, 1.5), 0.5, 5)


def test_a_mapping_changes_a_preset():
    config = parse_augment({"preset": "ssd", "flip": 0.5, "colour": {"hue_degrees": 0}, "expand": None})
    assert config.flip == 0.5
    assert config.colour == preset("ssd").colour.model_copy(update={"hue_degrees": 0})
    assert config.expand is None
    assert config.crop == preset("ssd").crop


def test_a_mapping_may_add_a_step():
    assert parse_augment({"crop": {"trials": 10}}).crop == CropConfig(trials=10)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("sdd", "sdd.*ssd_pytorch"),
        ({"preset": "sdd"}, "sdd"),
        ({"mirorr": 0.5}, r"augment\.mirorr"),
        ({"mirror": 2}, r"augment\.mirror.*2"),
        ({"colour": {"contrast": [1.5, 0.5]}}, r"augment\.colour\.contrast.*falls"),
        ({"colour": {"contrast": [0, 1]}}, r"augment\.colour\.contrast"),
        ({"expand": {"max_ratio": 0.5}}, r"augment\.expand\.max_ratio"),
        ({"preset": "mxnet_ssd", "colour": {"arithmetic": "float"}}, r"augment\.colour: space hls works on bytes"),
        ({"colour": {"saturation_offset": 5}}, r"augment\.colour: saturation_offset means nothing in hsv"),
        ({"interpolations": []}, r"augment\.interpolations"),
        ({"fill_rgb": [0, 0, 256]}, r"augment\.fill_rgb\.2"),
        ({"crop": {"min_ious": [], "whole_image": False, "unconstrained": False}}, "needs a sampler"),
    ],
)
def test_mistakes_name_the_key(value, words):
    with pytest.raises(ConfigError, match=words):
        parse_augment(value)
