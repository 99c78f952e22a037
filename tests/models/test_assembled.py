"""The assembled detector's settings: rules, errors that name the key, YAML there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from singleshot.errors import ConfigError
from singleshot.models.build import build_anchors, build_network
from singleshot.models.config import ExtraBlock, L2NormConfig
from singleshot.models.zoo.assembled import (
    AssembledConfig,
    parse_assembled,
    read_assembled,
    write_assembled,
)
from singleshot.models.zoo.common import upsampling
from singleshot.models.zoo.mxnet import (
    DSSD_PRESETS,
    DSSD_VARIANTS,
    SSD_PRESETS,
    assembled_config,
    dssd_config,
    ssd_config,
)

SMALL: dict[str, Any] = {
    "network": "mobilenet_v1",
    "input_size_hw": [128, 160],
    "from_layers": ["conv_12", "conv_14", "", ""],
    "num_filters": [-1, -1, 64, 32],
    "strides": [-1, -1, 2, 2],
    "pads": [-1, -1, 1, 1],
    "sizes": [[0.1, 0.14], [0.2, 0.27], [0.37], [0.5, 0.6]],
    "ratios": [1.0, 2.0, 0.5],
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**SMALL, **changes}


def test_range_of_sizes_is_spread_by_mxnet_ssds_rule() -> None:
    six = ssd_config("resnet50", 512).level_sizes
    expected = [
        (0.1, 0.141421),
        (0.2, 0.272029),
        (0.37, 0.446990),
        (0.54, 0.619193),
        (0.71, 0.790443),
        (0.88, 0.961249),
    ]
    assert [pytest.approx(pair, abs=1e-6) for pair in expected] == list(six)
    seven = ssd_config("mobilenet", 512).level_sizes
    expected = [
        (0.07, 0.102470), (0.15, 0.212132), (0.3, 0.367423), (0.45, 0.519615), (0.6, 0.670820), (0.75, 0.821584),
        (0.9, 0.972111),
    ]  # fmt: skip
    assert [pytest.approx(pair, abs=1e-6) for pair in expected] == list(seven)


def test_spec_of_a_small_detector() -> None:
    spec = parse_assembled(changed(normalizations=[15, -1, -1, -1], min_filter=16, nms_topk=50)).to_spec(["a", "b"])
    assert spec.network.backbone.taps == ("conv_12", "conv_14")
    assert [(b.mid_channels, b.out_channels, b.stride, b.padding) for b in spec.network.extras] == [
        (32, 64, 2, 1),
        (16, 32, 2, 1),
    ]
    assert spec.network.l2_norms == (L2NormConfig(init=15.0), None, None, None)
    assert spec.anchors.boxes_per_cell == (4, 4, 3, 4)
    assert spec.anchors.aspect == "map"
    assert spec.network.head.logits == 3
    assert (spec.postprocess.candidates, spec.postprocess.nms_compare) == ("best_class", ">=")
    assert (spec.postprocess.pre_nms_top_k, spec.preprocess.size_hw) == (50, (128, 160))
    network = build_network(spec.network).eval()
    output = network(torch.randn(1, 3, 128, 160))
    assert output.class_logits.shape == (1, len(build_anchors(spec, network)), 3)


def test_one_number_or_list_serves_all_levels() -> None:
    config = parse_assembled(changed(normalizations=10, sizes=[0.2, 0.9]))
    assert config.level_norms == (L2NormConfig(init=10.0),) * 4
    assert config.level_ratios == ((1.0, 2.0, 0.5),) * 4
    assert len(config.level_sizes) == 4
    assert parse_assembled(SMALL).to_spec(["a"]).network.l2_norms == ()


def test_steps_hold_at_their_own_size_only() -> None:
    spec = parse_assembled(changed(steps=[0.1, 0.2, 0.4, 1.0])).to_spec(["a"], (256, 256))
    assert spec.anchors.reference_hw == (128, 160)
    assert spec.anchors.levels[0].step_hw == (0.1, 0.1)
    assert parse_assembled(SMALL).to_spec(["a"]).anchors.levels[0].step_hw is None


def test_intermediate_layer_and_clip() -> None:
    spec = parse_assembled(changed(interm_layer=8, clip=True)).to_spec(["a"])
    assert spec.anchors.clip == "corner"
    with torch.device("meta"):
        network = build_network(spec.network)
    assert network.head.shared[0].intermediate.conv.weight.shape == (8, 512, 3, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stridez": [1]}, "stridez: no such setting; did you mean 'strides'"),
        ({"strides": [1, 2]}, "strides has 2 entries but from_layers has 4"),
        ({"sizes": [[0.1], [0.2]]}, "sizes has 2 entries but from_layers has 4"),
        ({"sizes": [[0.1], [], [0.2], [0.3]]}, "at least one number for every source"),
        ({"sizes": [0.1, 0.2, 0.3]}, "sizes"),
        ({"sizes": [[0.1], [-0.1], [0.2], [0.3]]}, r"sizes\.1\.0: must be above 0"),
        ({"ratios": [[1.0]]}, "ratios has 1 entries"),
        ({"from_layers": ["", "conv_14", "", ""]}, "must begin with a layer of the backbone"),
        ({"from_layers": ["conv_12", "", "conv_14", ""]}, "all backbone layers before the first ''"),
        ({"num_filters": [-1, -1, -1, 32]}, r"level 2 is an appended block.*num_filters\[2\]"),
        ({"steps": [0.1, 0.1, 0.0, 1.0]}, "steps are fractions of the image above 0"),
        ({"topdown_layers": [1, 1, 1, -1]}, "but neck is 'none'"),
        ({"neck": "fpn"}, "neck: no neck 'fpn'; there are none, dssd, tdm, tdm_dssd, tcb"),
        ({"neck": "tdm_dsd"}, "neck: no neck 'tdm_dsd'; did you mean tdm_dssd"),
        ({"prediction_module": "e"}, "prediction_module: no prediction module 'e'; there are none, b, c"),
        ({"network": "mobilenet_v4"}, "network: no backbone 'mobilenet_v4'; did you mean mobilenet_v"),
        ({"nms_thresh": 1.5}, r"nms_thresh: .*\(given: 1.5\)"),
        ({"min_filter": 0}, "min_filter: must be above 0"),
    ],
)
def test_errors_name_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_assembled(changed(**changes))


def test_classes_must_be_there_and_differ() -> None:
    config = parse_assembled(SMALL)
    for names in ([], ["a", "a"]):
        with pytest.raises(ConfigError, match="class_names"):
            config.to_spec(names)


@pytest.mark.parametrize(("count", "expected"), [(1, [(0.2, 0.4242641)]), (2, [(0.1, 0.1414214), (0.2, 0.4242641)])])
def test_a_range_over_few_sources_is_covered_whole(count: int, expected: list[tuple[float, float]]) -> None:
    short = {k: value[:count] if isinstance(value, list) and len(value) == 4 else value for k, value in SMALL.items()}
    config = parse_assembled({**short, "sizes": [0.2, 0.9]})
    assert [pytest.approx(pair, abs=1e-6) for pair in expected] == list(config.level_sizes)


@pytest.mark.parametrize(
    ("theirs", "layers", "ours"),
    [
        ({"network": "resnet50"}, ["_plus12", "_plus15"], "mxnet_ssd_resnet50_512"),
        ({"network": "resnet", "num_layers": 101}, ["_plus29", "_plus32"], "mxnet_ssd_resnet101_512"),
        ({"network": "inceptionv3"}, [f"ch_concat_mixed_{n}_chconcat" for n in (7, 10)], "mxnet_ssd_inceptionv3_512"),
        ({"network": "mobilenet"}, ["conv_12_relu", "conv_14_relu"], "mxnet_ssd_mobilenet_512"),
        ({"network": "densenet121"}, ["DBstage3_concat24", "DBstage4_concat16"], "mxnet_ssd_densenet121_512"),
        (
            {"network": "densenet", "units": [6, 12, 18, 12], "growth_rate": 16},
            ["DBstage2_concat12", "DBstage3_concat18"],
            "mxnet_ssd_densenet_tiny_512",
        ),
        ({"network": "densenet-tiny"}, ["DBstage2_concat12", "DBstage3_concat18"], "mxnet_ssd_densenet_tiny_512"),
        ({"network": "vgg16_reduced"}, ["relu4_3", "relu7"], "mxnet_ssd_vgg16_reduced_512"),
    ],
)
def test_mxnet_ssds_own_names(theirs: dict[str, Any], layers: list[str], ours: str) -> None:
    preset = assembled_config(ours)
    lists = preset.model_dump(exclude={"network", "from_layers"}) | {**theirs, "from_layers": [*layers, *[""] * 9]}
    lists["from_layers"] = lists["from_layers"][: len(preset.from_layers)]
    networks = [build_on_meta(config) for config in (parse_assembled(lists), preset)]
    assert networks[0] == networks[1]


def build_on_meta(config: AssembledConfig) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Names and shapes of all parameters, and the taps."""
    with torch.device("meta"):
        network = build_network(config.to_spec(["a"]).network)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}, network.backbone.taps


def test_names_of_networks_that_are_unclear() -> None:
    for wrong in ({"network": "resnet"}, {"num_layers": 50}):
        with pytest.raises(ConfigError, match="network 'resnet' needs num_layers"):
            parse_assembled(changed(**wrong))
    with pytest.raises(ConfigError, match="units and growth_rate are a DenseNet's, not of 'mobilenet_v1'"):
        parse_assembled(changed(units=[2, 3]))
    assert parse_assembled(changed(network="resnet50", from_layers=["layer2", "layer3", "", ""])).backbone == "resnet50"
    with pytest.raises(ConfigError, match="no backbone 'resnet51'"):
        parse_assembled(changed(network="resnet51"))


PRESETS = [ssd_config(network, size) for network, presets in SSD_PRESETS.items() for size in presets]
PRESETS += [dssd_config(key, variant) for key in DSSD_PRESETS for variant in DSSD_VARIANTS]


def test_yaml_there_and_back(tmp_path: Path) -> None:
    for config in [parse_assembled(SMALL), *PRESETS]:
        path = write_assembled(config, tmp_path / "detector.yaml")
        assert read_assembled(path) == config
    assert "from_layers: [relu4_3, relu7, '', '', '', '']" in (
        write_assembled(ssd_config("vgg16_reduced", 300), tmp_path / "vgg.yaml").read_text()
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2", "not YAML"), ("- 1", "must be a mapping"), ("network: x", r"from_layers: is missing")],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_assembled(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_assembled(tmp_path / "none.yaml")


def test_settings_cannot_change() -> None:
    config: AssembledConfig = PRESETS[0]
    with pytest.raises(ValueError, match="frozen"):
        config.network = "other"


def test_upsampling_undoes_the_blocks() -> None:
    def block(kernel: int, stride: int, padding: int) -> ExtraBlock:
        return ExtraBlock(mid_channels=1, out_channels=1, kernel=kernel, stride=stride, padding=padding)

    assert upsampling(1, []) == ()
    blocks = [block(3, 2, 1), block(2, 2, 0), block(3, 1, 0), block(4, 1, 1), block(2, 1, 0), block(3, 1, 1)]
    assert upsampling(2, blocks) == ((2, 2), (2, 2), (2, 2), (3, 1), (2, 1), (2, 1), (1, 1))
