"""The first networks against the published tables."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from singleshot.errors import ConfigError
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_entry, model_names, model_spec
from singleshot.models.summary import count_flops, summarise

SSD300_MAPS = ((512, 38), (1024, 19), (512, 10), (256, 5), (256, 3), (256, 1))
SSD512_MAPS = ((512, 64), (1024, 32), (512, 16), (256, 8), (256, 4), (256, 2), (256, 1))
TF_MAPS = ((576, 19), (1280, 10), (512, 5), (256, 3), (256, 2), (128, 1))
V3_MAPS = ((672, 20), (480, 10), (512, 5), (256, 3), (256, 2), (128, 1))
V3_FULL_MAPS = ((672, 20), (960, 10), *V3_MAPS[2:])

TABLE = [
    # name, classes without background, parameters, anchors, (channels, side) of the maps
    ("ssd300_vgg16", 20, 26_285_486, 8732, SSD300_MAPS),
    ("ssd300_vgg16_coco", 80, 34_305_206, 8732, SSD300_MAPS),
    ("ssd300_vgg16_coco", 90, 35_641_826, 8732, SSD300_MAPS),
    ("ssd512_vgg16", 20, 27_188_676, 24564, SSD512_MAPS),
    ("ssd512_vgg16_coco", 80, 36_038_196, 24564, SSD512_MAPS),
    ("ssd512_vgg16_coco", 90, 37_513_116, 24564, SSD512_MAPS),
    ("ssdlite300_mobilenet_v2", 90, 4_500_543, 1917, TF_MAPS),
    ("ssdlite320_mobilenet_v3_large", 20, 2_469_860, 3234, V3_MAPS),
    ("ssdlite320_mobilenet_v3_large", 90, 3_440_060, 3234, V3_MAPS),
    ("ssdlite320_mobilenet_v3_large_full", 20, 4_026_740, 3234, V3_FULL_MAPS),
    ("ssdlite320_efficientnet_lite0", 20, 4_562_756, 3234, ((672, 20), (1280, 10), *V3_MAPS[2:])),
    ("ssdlite320_mobilenet_v3_large_tf", 90, 3_248_255, 2034, V3_MAPS),
]


def names(count: int) -> tuple[str, ...]:
    return tuple(f"class_{index}" for index in range(count))


@pytest.mark.parametrize(("name", "classes", "parameters", "anchors", "maps"), TABLE)
def test_against_the_tables(
    name: str, classes: int, parameters: int, anchors: int, maps: tuple[tuple[int, int], ...]
) -> None:
    summary = summarise(model_spec(name, names(classes)))
    assert summary.total_parameters == parameters
    assert summary.anchors == anchors
    assert tuple((level.channels, level.size_hw) for level in summary.levels) == tuple(
        (channels, (side, side)) for channels, side in maps
    )


def test_parameters_of_the_parts() -> None:
    parts = summarise(model_spec("ssd300_vgg16", names(20))).parameters
    assert parts["backbone"] == 14_714_688 + 5_769_216
    assert parts["extras"] == 2_459_520
    assert parts["norms"] == 512
    assert summarise(model_spec("ssd512_vgg16", names(20))).parameters["extras"] == 3_016_960


def test_summary_agrees_with_a_real_network() -> None:
    spec = model_spec("ssdlite320_mobilenet_v3_large", names(2), (160, 224))
    summary, network = summarise(spec), build_network(spec.network)
    assert summary.total_parameters == sum(value.numel() for value in network.parameters())
    assert summary.anchors == len(build_anchors(spec, network))
    assert [level.source for level in summary.levels] == ["block13_expand", "last", *(f"extras.{k}" for k in range(4))]


def test_flops_against_pytorchs_counter() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    spec = model_spec("ssdlite300_mobilenet_v2", names(2), (64, 96))
    network = build_network(spec.network).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 64, 96))
    assert count_flops(network, (64, 96)) == counter.get_total_flops()


@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssd512_vgg16_coco", "ssdlite300_mobilenet_v2"])
def test_specs_survive_json(name: str) -> None:
    spec = model_spec(name, names(3), (256, 320))
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
    assert spec.preprocess.size_hw == (256, 320)


def test_scales_of_voc_and_coco_differ() -> None:
    voc, coco = (model_spec(name, names(1)).anchors for name in ("ssd300_vgg16", "ssd300_vgg16_coco"))
    assert voc.levels[0].shapes_wh[0] == pytest.approx((0.1, 0.1))
    assert coco.levels[0].shapes_wh[0] == pytest.approx((0.07, 0.07))


def test_unknown_names_and_repeated_classes() -> None:
    with pytest.raises(ConfigError, match="did you mean ssd300_vgg16"):
        model_spec("ssd300_vgg", names(1))
    with pytest.raises(ConfigError, match="repeated: a"):
        model_spec("ssd300_vgg16", ("a", "b", "a"))


def test_the_catalogue_needs_no_torch() -> None:
    code = "import sys; from singleshot.models.catalogue import *; model_spec(model_names()[0], ['a']); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_names_begin_with_the_papers_network() -> None:
    assert model_names()[:2] == ("ssd300_vgg16", "ssd512_vgg16")
    assert len(set(model_names())) == len(model_names())


def run(*arguments: str) -> str:
    from singleshot.cli import app

    result = CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "140"})
    assert result.exit_code == 0, result.output
    return result.output


def test_models_shows_one() -> None:
    output = run("ssd300_vgg16")
    for text in ("8,732", "26,285,486", "relu4_3", "38 x 38", "5,776", "62.75 GFLOPs"):
        assert text in output


def test_models_shows_another_size() -> None:
    output = run("ssdlite300_mobilenet_v2", "--size", "300x480", "--classes", "3")
    assert "19 x 30" in output
    assert "2,952" in output


def test_models_lists_all(monkeypatch: pytest.MonkeyPatch) -> None:
    import singleshot.models.catalogue as catalogue

    monkeypatch.setattr(catalogue, "model_names", lambda: ("ssd300_vgg16", "ssdlite300_mobilenet_v2"))
    output = run("--classes", "20")
    assert "26.29M" in output
    assert "8,732" in output
    assert "coco" in output
    assert "--all" not in output  # nothing is left out


def listed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    """Lines of the list at 80 columns; only the largest network is measured, as all of them."""
    from singleshot.cli import app

    widest = summarise(model_spec("mxnet_dssd_resnet101_512_module", names(20)))
    monkeypatch.setattr("singleshot.models.summary.summarise", lambda spec: widest)
    result = CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return [line.rstrip() for line in result.output.splitlines()]


def test_models_shows_what_people_choose_from(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = listed(monkeypatch)
    chosen = [name for name in model_names() if not name.startswith("mxnet_")]
    rows = [line.split()[0] for line in lines if re.search(r" \d+x\d+ ", line)]
    assert rows == chosen  # each on one line, with its whole name
    assert len(chosen) == 30
    assert [line for line in lines if line in {model_entry(name).family for name in chosen}] == [
        "SSD", "SSDLite", "DSSD", "TDM", "RefineDet",
    ]  # fmt: skip
    assert max(map(len, lines)) <= 80
    assert "--all lists 41 presets" in " ".join(lines)


def test_models_shows_all(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = listed(monkeypatch, "--all")
    rows = [line for line in lines if re.search(r" \d+x\d+ ", line)]
    assert len(rows) == len(model_names())
    assert {"mxnet-ssd", "mxnet-dssd"} <= set(lines)
    assert "--all" not in " ".join(lines)
