"""mxnet-dssd's switches: prediction modules, residual extra blocks, TDM, alone and together; mxnet-ssd's legacy VGG."""

from __future__ import annotations

import itertools
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mxnet_dssd_rule import RESNET101_321, VGG_300, VGG_512, Form, Listing
from mxnet_writer import params_bytes, symbol_json
from torch import Tensor
from torch.nn import functional

import singleshot
from singleshot.detector import Detector
from singleshot.errors import WeightsError
from singleshot.interop.mxnet.names import mxnet_names
from singleshot.interop.mxnet.read import _preset
from singleshot.interop.read import read_foreign
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.zoo.assembled import AssembledConfig
from singleshot.models.zoo.mxnet import assembled_config, dssd_config

SMALL_HW = (96, 128)
CLASSES = tuple(f"class{index}" for index in range(20))

# Table b.2 of the facts: switches, and the parameters of VGG 300, VGG 512 and ResNet-101.
COUNTS: list[tuple[str, dict[str, object], tuple[int, ...]]] = [
    ("_plain", {"neck": "none"}, (26_285_486, 26_959_300, 50_132_148)),
    ("", {}, (66_032_558, 66_706_372, 166_561_460)),
    ("_module", {"module": True}, (67_209_134, 67_882_948, 170_296_500)),
    ("_residual", {"residual": True}, (64_934_190, 65_415_876, 165_924_916)),
    ("_tdm", {"neck": "tdm"}, (38_673_838, 39_937_732, 89_653_940)),
    ("_tdm_dssd", {"neck": "tdm_dssd"}, (78_420_910, 79_684_804, 206_083_252)),
]
BASES = {"vgg16_reduced_300": VGG_300, "vgg16_reduced_512": VGG_512, "resnet101_321": RESNET101_321}
# A process that built other networks before counts on; a ResNet's own sums are named, so there it cannot have.
SHIFTED = {"first_sum": 7, "first_product": 2, "deepest_first": True}


def random_arrays(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Numbers that are a function of name and shape."""
    arrays = {}
    for name, shape in shapes.items():
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        values = generator.standard_normal(shape, dtype=np.float32)
        if name.endswith("_weight"):
            values *= np.float32(math.sqrt(1 / math.prod(shape[1:])))
        elif name.endswith("_scale"):
            values = np.full(shape, 20, np.float32)
        elif name.endswith(("_gamma", "_moving_var")):
            values = 1 + 0.2 * np.tanh(values)
        else:
            values *= np.float32(0.05)
        arrays[name] = values
    return arrays


def write(folder: Path, arrays: dict[str, np.ndarray], name: str = "dssd-0010.params") -> Path:
    path = folder / name
    path.write_bytes(params_bytes({f"{'aux' if 'moving' in key else 'arg'}:{key}": v for key, v in arrays.items()}))
    return path


# ---- names ----


@pytest.mark.parametrize("name", ["vgg16_reduced_300", "resnet101_321"])
def test_the_rule_gives_the_real_lists(name: str, reference: Path) -> None:
    real = json.loads((reference / f"spec/state_dicts/mxnet_dssd_{name}.json").read_text())
    listing = Listing(BASES[name])
    assert {key: list(shape) for key, shape in listing.args.items()} == real["args"]
    assert {key: list(shape) for key, shape in listing.aux.items()} == real["aux"]


@pytest.mark.parametrize(("suffix", "switches", "counts"), COUNTS, ids=[row[0] or "_dssd" for row in COUNTS])
@pytest.mark.parametrize("base", BASES)
def test_every_variant_is_found_and_named_one_to_one(
    base: str, suffix: str, switches: dict[str, object], counts: tuple[int, ...]
) -> None:
    listing = Listing(BASES[base]._replace(**switches))  # type: ignore[arg-type]
    count = counts[list(BASES).index(base)]
    assert sum(math.prod(shape) for shape in listing.args.values()) == count
    found = _preset(listing.shapes, False, Path("dssd-0010.params"))
    # A plain ResNet has nothing that tells the two systems apart.
    assert found.name == f"mxnet_dssd_{base}{suffix}" or (base, suffix) == ("resnet101_321", "_plain")
    assert found.columns == 21
    assert sorted(found.names.values()) == sorted(listing.shapes)
    preset = model_spec(f"mxnet_dssd_{base}{suffix}", CLASSES).network
    assert found.spec.network == preset
    with torch.device("meta"):
        network = build_network(preset)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    own = network.state_dict()
    sides = {ours: [side for side in listing.shapes[theirs] if side != 1] for ours, theirs in found.names.items()}
    assert sides == {ours: [side for side in own[ours].shape if side != 1] for ours in found.names}


@pytest.mark.parametrize("form", [VGG_300, RESNET101_321], ids=["vgg", "resnet101"])
def test_switches_combine_and_counters_may_have_run_on(form: Form) -> None:
    combinations = itertools.product(("none", "dssd", "tdm", "tdm_dssd"), (False, True), (False, True))
    for neck, module, residual in combinations:
        changed = form._replace(neck=neck, module=module, residual=residual)
        shapes = Listing(changed).shapes
        found = _preset(shapes, False, Path("dssd-0010.params"))
        assert sorted(found.names.values()) == sorted(shapes)
        if form.backbone == "vgg":
            later = Listing(changed._replace(**SHIFTED)).shapes  # type: ignore[arg-type]
            other = _preset(later, False, Path("dssd-0010.params"))
            assert sorted(other.names.values()) == sorted(later)
            assert other.config == found.config
            assert mapped_widths(later, other.names) == mapped_widths(shapes, found.names)
            if module:
                sums = 7 + 4 * residual
                firsts = [other.names[f"head.boxes.{level}.weight"].split("_loc")[0] for level in range(4)]
                assert firsts == [f"_plus{sums + 3 - level}" for level in range(4)]


def mapped_widths(shapes: dict[str, tuple[int, ...]], names: dict[str, str]) -> list[int]:
    """Channels that each predictor reads."""
    return [shapes[names[f"head.boxes.{level}.weight"]][1] for level in range(6)]


def test_the_scale_behind_tdm_may_be_named_after_its_result() -> None:
    shapes = Listing(VGG_300._replace(neck="tdm")).shapes
    shapes["concat5plus6up_scale"] = shapes.pop("relu4_3_scale")
    found = _preset(shapes, False, Path("dssd-0010.params"))
    assert found.names["neck.norms.0.scale"] == "concat5plus6up_scale"


def test_a_missing_part_is_no_other_variant(tmp_path: Path) -> None:
    shapes = Listing(VGG_300._replace(module=True)).shapes
    del shapes["conv4product5deconv2pre_bias"]
    with pytest.raises(WeightsError, match="no preset has these parameters"):
        _preset(shapes, False, tmp_path)


# ---- files ----

FILES = [
    pytest.param(VGG_300._replace(neck="none", module=True, residual=True), id="vgg-plain-module-residual"),
    *(
        pytest.param(form, id=name, marks=pytest.mark.heavy if "resnet101" in name else pytest.mark.slow)
        for name, form in {
            "vgg-module": VGG_300._replace(module=True),
            "vgg-residual": VGG_300._replace(residual=True, **SHIFTED),  # type: ignore[arg-type]
            "vgg-all": VGG_300._replace(neck="tdm_dssd", module=True, residual=True),
            "resnet101-module": RESNET101_321._replace(module=True),
            "resnet101-residual-tdm": RESNET101_321._replace(neck="tdm", residual=True),
        }.items()
    ),
]


@pytest.mark.parametrize("form", FILES)
def test_a_file_is_read_whole_and_computes_what_the_rules_say(form: Form, tmp_path: Path) -> None:
    arrays = random_arrays(Listing(form).shapes)
    spec, state, report = read_foreign(write(tmp_path, arrays))
    assert (report.left_over, report.missing) == ((), ())
    assert sorted(theirs for _, theirs in report.mapped) == sorted(arrays)
    detector = Detector(spec, state)
    calls = recorded_calls(detector)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, *SMALL_HW), dtype=np.float32))
    with torch.no_grad():
        first = detector.network(images)
    weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
    maps = dict(zip(range(6), head_names(form), strict=True))
    for (kind, index), (x, y) in calls.items():
        ours = residual_block(weights, index + 2, x) if kind == "extras" else module(weights, maps[index], x)
        torch.testing.assert_close(y, ours, rtol=1e-4, atol=1e-4)
    assert len(calls) == 4 * (form.residual + form.module)

    # Written by our names and read again: the same numbers, bit for bit.
    detector.save(tmp_path / "ours.safetensors")
    with torch.no_grad():
        second = singleshot.load(tmp_path / "ours.safetensors").network(images)
    assert torch.equal(first.box_codes, second.box_codes)
    assert torch.equal(first.class_logits, second.class_logits)


def recorded_calls(detector: Detector) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
    """Inputs and outputs of residual blocks and prediction modules, filled by the next forward."""
    calls: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
    network, config = detector.network, detector.spec.network
    parts = [
        ("extras", index, part) for index, part in enumerate(network.extras) if config.extras[index].kind != "conv"
    ]
    parts += [("shared", index, part) for index, part in enumerate(network.head.shared) if list(part.parameters())]
    for kind, index, part in parts:
        part.register_forward_hook(lambda _, args, y, key=(kind, index): calls.__setitem__(key, (args[0], y)))
    return calls


def head_names(form: Form) -> list[str]:
    """What reaches the prediction modules, by level."""
    if "dssd" in form.neck:
        return ["conv5product6de", "conv4product5de", "conv3product4de", "conv2product3de", "", ""]
    blocks = ["_plus0", "_plus1"] if form.residual else ["multi_feat_2_conv_3x3_relu", "multi_feat_3_conv_3x3_relu"]
    return ["broadcast_mul0", "relu7", *blocks, "", ""]


def module(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """mxnet-dssd's prediction module: two 1x1 in a row, then the sum of two more, both of the second."""

    def convolution(part: str, x: Tensor) -> Tensor:
        return functional.conv2d(x, weights[f"{name}{part}pre_weight"], weights[f"{name}{part}pre_bias"])

    x = convolution("conv1_2", convolution("conv1_1", x))
    return convolution("conv1_3", x) + convolution("conv2", x)


def residual_block(weights: dict[str, Tensor], k: int, x: Tensor) -> Tensor:
    """mxnet-dssd's residual extra block: pre-activation, stride 2 in the 3x3 and in the shortcut from relu1."""

    def active(part: str, x: Tensor) -> Tensor:
        mean, var, gamma, beta = (
            weights[f"{k}_{part}_{name}"][:, None, None] for name in ("moving_mean", "moving_var", "gamma", "beta")
        )
        return functional.relu((x - mean) / torch.sqrt(var + 2e-5) * gamma + beta)

    x = active("bn1", x)
    y = active("bn2", functional.conv2d(x, weights[f"{k}_conv1_weight"]))
    y = active("bn3", functional.conv2d(y, weights[f"{k}_conv2_weight"], stride=2, padding=1))
    return functional.conv2d(y, weights[f"{k}_conv3_weight"]) + functional.conv2d(
        x, weights[f"{k}_sc_weight"], stride=2
    )


def test_a_symbol_tells_lists_of_ones_own(tmp_path: Path) -> None:
    form = VGG_300._replace(neck="none", module=True, residual=True, **SHIFTED)  # type: ignore[arg-type]
    arrays = random_arrays(Listing(form, classes=3).shapes)
    write(tmp_path, arrays)
    config = dssd_config("vgg16_reduced_300", "module", "residual", "plain").model_copy(
        update={"sizes": tuple((0.1 * level, 0.1 * level + 0.05) for level in range(1, 7)), "clip": True}
    )
    # Modules were built from the deepest up, behind the sums of the four blocks that begin at 7.
    heads = ("_plus14", "_plus13", "_plus12", "_plus11", "_plus9", "_plus10")
    (tmp_path / "dssd-symbol.json").write_text(residual_symbol(config, heads))
    detector = singleshot.import_weights(tmp_path)
    assert detector.spec.network == config.to_spec(("a", "b", "c")).network
    assert detector.spec.anchors == config.to_spec(("a", "b", "c")).anchors
    first = detector.network.head.boxes[0].weight.detach()
    assert torch.equal(first, torch.from_numpy(arrays["_plus14_loc_pred_conv_weight"]))


def residual_symbol(config: AssembledConfig, heads: tuple[str, ...]) -> str:
    """A symbol whose appended blocks are residual ones: their strided convolution is ``<k>_conv2``."""
    described = json.loads(symbol_json(config, heads))
    for node in described["nodes"]:
        if node["name"].startswith("multi_feat_"):
            node["name"] = f"{node['name'].split('_')[2]}_conv2"
            node["attrs"]["num_filter"] = str(int(node["attrs"]["num_filter"]) // 4)
    return json.dumps(described)


# ---- mxnet-ssd's VGG networks that were written by hand ----


def legacy_name(name: str) -> str:
    """conv6 and conv7 for the fully connected layers, conv8_1 ... conv12_2 for the appended blocks."""
    name = name.replace("fc6_", "conv6_").replace("fc7_", "conv7_")
    for k in range(2, 7):
        block = f"multi_feat_{k}_conv"
        name = name.replace(f"{block}_1x1_conv", f"conv{k + 6}_1").replace(f"{block}_3x3_conv", f"conv{k + 6}_2")
        name = name.replace(f"{block}_3x3_relu", f"relu{k + 6}_2")
    return name


def legacy_arrays(size: int) -> dict[str, np.ndarray]:
    spec = model_spec(f"mxnet_ssd_legacy_vgg16_{size}", CLASSES)
    with torch.device("meta"):
        own = build_network(spec.network).state_dict()
    names = mxnet_names(spec.network, own)
    shapes = {legacy_name(theirs): tuple(own[ours].shape) for ours, theirs in names.items()}
    return random_arrays(shapes)


@pytest.mark.parametrize("size", [300, 512])
@pytest.mark.parametrize("with_symbol", [False, True])
def test_legacy_vgg(size: int, with_symbol: bool, tmp_path: Path) -> None:
    name = f"mxnet_ssd_legacy_vgg16_{size}"
    arrays = legacy_arrays(size)
    assert {"conv6_bias", "conv7_weight", "conv8_1_weight", "relu10_2_cls_pred_conv_bias"} <= arrays.keys()
    path = write(tmp_path, arrays, f"legacy_{size}-0001.params")
    if with_symbol:
        config = assembled_config(name)
        heads = ("relu4_3", "relu7", *(f"relu{k}_2" for k in range(8, 8 + len(config.from_layers) - 2)))
        symbol = symbol_json(config, heads)
        for k in range(2, 7):
            symbol = symbol.replace(f"multi_feat_{k}_conv_3x3_conv", f"conv{k + 6}_2")
        # The only kernel that is not 3, of the last block at 512.
        described = json.loads(symbol)
        for node in described["nodes"]:
            if node["name"] == "conv12_2":
                node["attrs"]["kernel"] = "(4, 4)"
        (tmp_path / f"legacy_{size}-symbol.json").write_text(json.dumps(described))
    spec, state, report = read_foreign(path)
    expected = model_spec(name, CLASSES)
    assert (report.left_over, report.missing) == ((), ())
    assert sorted(theirs for _, theirs in report.mapped) == sorted(arrays)
    assert (spec.network, spec.anchors) == (expected.network, expected.anchors)
    for ours, theirs in (("backbone.fc6.weight", "conv6_weight"), ("extras.0.conv.conv.weight", "conv8_2_weight")):
        assert torch.equal(state[ours], torch.from_numpy(arrays[theirs]))
    assert with_symbol or spec.name == name
