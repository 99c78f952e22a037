"""Every recipe names a model that exists, parts that it has, and says what it should reach."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from singleshot.augment.config import preset
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.training.config import TrainConfig
from singleshot.training.optimizer import freeze_parts, learning_rate, parameter_groups, set_norm_momentum, still_norms
from singleshot.training.recipes import find_recipe, read_config, recipe_paths
from singleshot.training.schedule import RunLength, lr_factor

VOC_CLASSES = [f"class{index}" for index in range(20)]


def recipe(name: str) -> TrainConfig:
    return read_config(find_recipe(name))


@pytest.mark.parametrize("path", recipe_paths(), ids=lambda path: path.stem)
def test_a_recipe_fits_its_network(path: Path) -> None:
    config = read_config(path)
    assert config.model
    with torch.device("meta"):
        network = build_network(model_spec(config.model, VOC_CLASSES).network)
    if path.stem == "bccd_ssdlite":
        assert config.freeze == "auto"
    else:
        assert bool(freeze_parts(network, config.freeze)) == bool(config.freeze)
    assert parameter_groups(network, config.optimizer, 0.1)
    assert isinstance(config.batch_size, int)
    unit, total = config.length
    evaluations = config.evaluation.every
    assert evaluations == "auto" or 0 < evaluations <= total, unit


@pytest.mark.parametrize("path", [p for p in recipe_paths() if p.stem != "bccd_ssdlite"], ids=lambda path: path.stem)
def test_a_published_recipe_says_what_it_should_reach(path: Path) -> None:
    reference = read_config(path).reference
    assert reference
    assert 10 < reference.value < 100
    assert 0 < reference.tolerance <= 1
    assert any(known in reference.source for known in ("arXiv", "github", "torchvision", "mmdetection"))


@pytest.mark.parametrize(
    ("name", "batch", "rates"),
    [
        ("ssd300_voc07", 32, {0: 1e-3, 39_999: 1e-3, 40_000: 1e-4, 50_000: 1e-5, 59_999: 1e-5}),
        ("ssd300_voc0712", 32, {0: 1e-3, 79_999: 1e-3, 80_000: 1e-4, 100_000: 1e-5}),
        ("ssd512_voc0712", 24, {0: 1e-3 / 3, 250: 2e-3 / 3, 500: 1e-3, 80_000: 1e-4, 100_000: 1e-5}),
        ("ssd300_voc0712pp", 32, {0: 1e-3, 119_999: 1e-3, 120_000: 1e-4}),
        ("ssd300_coco", 32, {0: 1e-3, 280_000: 1e-4, 360_000: 1e-5}),
        ("ssd512_coco", 24, {500: 1e-3, 360_000: 1e-4, 480_000: 1e-5}),
        ("ssd321_resnet101_voc0712", 32, {0: 1e-3, 40_000: 1e-4, 60_000: 1e-5}),
        ("dssd321_stage1_voc0712", 32, {0: 1e-3, 20_000: 1e-4}),
        ("dssd513_stage2_voc0712", 20, {0: 1e-3, 20_000: 1e-4}),
        ("refinedet320_voc0712", 32, {0: 1e-3, 80_000: 1e-4, 100_000: 1e-5}),
        ("refinedet512_voc0712pp", 32, {0: 1e-3, 160_000: 1e-4, 200_000: 1e-5}),
        ("refinedet512_resnet101_coco", 20, {0: 1e-3, 400_000: 1e-4, 480_000: 1e-5}),
    ],
)
def test_the_papers_learning_rates(name: str, batch: int, rates: dict[int, float]) -> None:
    config = recipe(name)
    assert config.batch_size == batch
    base = learning_rate(config.optimizer, batch).value
    length = RunLength(*config.length, steps_per_epoch=517.2)
    found = {step: base * lr_factor(config.schedule, step, length.position(step, 0.0), length.total) for step in rates}
    assert found == pytest.approx(rates, rel=1e-3)


@pytest.mark.parametrize("name", ["ssd300_voc0712", "ssd512_coco", "refinedet320_voc0712"])
def test_caffes_optimiser(name: str) -> None:
    optimizer = recipe(name).optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.9, 5e-4)
    assert (optimizer.bias_lr_factor, optimizer.decay_bias, optimizer.decay_norm) == (2, False, True)
    assert recipe(name).loss.min_negatives == 0
    assert recipe(name).ema is None


@pytest.mark.parametrize("size", ["321", "513"])
def test_dssd_holds_still_the_encoders_norms_first_and_then_all(size: str) -> None:
    for stage, count in ((1, "frozen"), (2, "all")):
        config = recipe(f"dssd{size}_stage{stage}_voc0712")
        with torch.device("meta"):
            network = build_network(model_spec(str(config.model), VOC_CLASSES).network)
        freeze_parts(network, config.freeze)
        still = {id(module) for module in still_norms(network, config.batch_norm)}
        norms = {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
        expected = [name for name in norms if count == "all" or name.startswith(("backbone.", "extras."))]
        assert any(name.startswith("neck.") for name in norms)
        assert [name for name, module in norms.items() if id(module) in still] == expected


def test_ssdlite_as_torchvision_trains_it() -> None:
    config = recipe("ssdlite320_mobilenet_v3_coco")
    assert (config.weights, config.model) == ("none", "ssdlite320_mobilenet_v3_large")  # the reduced tail has no start
    assert (config.optimizer.weight_decay, config.batch_norm_momentum) == (4e-5, 0.03)
    assert (config.epochs, config.batch_size, config.optimizer.lr) == (660, 192, 0.15)
    network = build_network(model_spec(config.model, ["a"]).network)
    set_norm_momentum(network, config.batch_norm_momentum)
    assert {m.momentum for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.03}


def test_ssd300_as_torchvision_trains_it() -> None:
    config = recipe("ssd300_coco_torchvision")
    assert (config.epochs, config.batch_size, config.optimizer.lr, config.optimizer.weight_decay) == (
        120,
        32,
        2e-3,
        5e-4,
    )
    assert config.schedule.milestones == (80, 110)


def test_the_first_paper_had_no_zoom_out() -> None:
    assert recipe("ssd300_voc07").augment.expand is None
    assert recipe("ssd300_voc0712").augment.expand is not None


def test_another_batch_keeps_the_effective_rate() -> None:
    config = recipe("ssd300_voc0712").updated({"batch_size": 8, "accumulate": 4})
    assert learning_rate(config.optimizer, 32).value == pytest.approx(1e-3)
    assert learning_rate(config.optimizer, 8).value == pytest.approx(2.5e-4)


def test_the_mxnet_recipe_treats_parameters_as_mxnet_ssds_symbols_do() -> None:
    """``__lr_mult__`` 2 of the biases of extras and heads, ``__wd_mult__`` .1 of the L2 scale; no bias decays."""
    config = recipe("mxnet_ssd300_voc0712")
    with torch.device("meta"):
        network = build_network(model_spec("mxnet_ssd_vgg16_reduced_300", VOC_CLASSES).network)
    frozen = freeze_parts(network, config.freeze)
    assert frozen == [f"backbone.conv{n}_{k}.{p}" for n in (1, 2) for k in (1, 2) for p in ("weight", "bias")]
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    treated = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(network, config.optimizer, 1e-3)
        for parameter in group["params"]
    }
    assert treated["norms.0.scale"] == (1e-3, pytest.approx(5e-5))
    assert treated["backbone.fc6.bias"] == (1e-3, 0)
    for part in ("extras.0.conv.conv", "head.boxes.0", "head.logits.5"):
        assert (treated[f"{part}.bias"], treated[f"{part}.weight"]) == ((2e-3, 0), (1e-3, 5e-4))
    assert config.augment == preset("mxnet_ssd")
