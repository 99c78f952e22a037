from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from singleshot.errors import ConfigError
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.layers import L2Norm
from singleshot.training.config import TrainConfig
from singleshot.training.optimizer import (
    build_optimizer,
    freeze_parts,
    has_batch_norm,
    learning_rate,
    lr_factors,
    parameter_groups,
    still_norms,
)
from singleshot.training.optimizer_config import OptimizerConfig, ScheduleConfig
from singleshot.training.part_names import original_names
from singleshot.training.registry import OPTIMIZERS, SCHEDULES, OptimizerKind
from singleshot.training.schedule import lr_factor


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
        self.norm = L2Norm(4)
        self.head = nn.Conv2d(4, 6, 1)


def by_kind(config: OptimizerConfig) -> dict[str, list[tuple[float, float, int]]]:
    found: dict[str, list[tuple[float, float, int]]] = {}
    for group in parameter_groups(Parts(), config, 0.1):
        found.setdefault(group["name"], []).append((group["lr"], group["weight_decay"], len(group["params"])))
    return found


def test_by_default_only_weights_decay() -> None:
    groups = by_kind(OptimizerConfig(weight_decay=0.01))
    assert groups == {"weight": [(0.1, 0.01, 3)], "bias": [(0.1, 0.0, 4)], "norm": [(0.1, 0.0, 2)]}


def test_caffe_doubles_the_rate_of_biases_and_decays_scales() -> None:
    groups = by_kind(OptimizerConfig(weight_decay=0.01, bias_lr_factor=2, decay_norm=True))
    assert groups == {"weight": [(0.1, 0.01, 3)], "bias": [(0.2, 0.0, 4)], "norm": [(0.1, 0.01, 2)]}


def test_mxnet_ssd_doubles_the_rate_of_the_heads_biases_and_decays_l2_scales_a_tenth() -> None:
    config = OptimizerConfig(
        weight_decay=0.01, bias_lr_factor=2, bias_lr_parts=("head",), decay_norm=True, l2_decay_factor=0.1
    )
    groups = by_kind(config)
    assert groups == {
        "weight": [(0.1, 0.01, 3)],
        "bias": [(0.1, 0.0, 3), (0.2, 0.0, 1)],
        "norm": [(0.1, 0.01, 1)],
        "l2": [(0.1, pytest.approx(0.001), 1)],
    }
    with pytest.raises(ConfigError, match=r"optimizer\.bias_lr_parts: 'heads' is no part .* did you mean 'head'"):
        by_kind(OptimizerConfig(bias_lr_parts=("heads",)))


def test_the_longest_part_decides_the_rate() -> None:
    groups = by_kind(OptimizerConfig(weight_decay=0, lr_factors={"backbone": 0.5, "backbone.2": 0.1}))
    assert sorted(lr for lr, _, _ in groups["weight"]) == pytest.approx([0.01, 0.05, 0.1])


@pytest.mark.parametrize(
    ("config", "batch", "expected"),
    [
        (OptimizerConfig(lr=0.01), 8, 0.01),
        (OptimizerConfig(name="sgd", lr=0.01, lr_batch=32), 32, 0.01),
        (OptimizerConfig(name="sgd", lr=0.01, lr_batch=32), 8, 0.0025),
        (OptimizerConfig(name="adamw", lr=0.01, lr_batch=32), 8, 0.005),
        (OptimizerConfig(name="sgd"), 32, 0.001),
        (OptimizerConfig(name="sgd"), 64, 0.002),
        (OptimizerConfig(), 8, 0.0015),
        (OptimizerConfig(), 2, 0.00075),
        (OptimizerConfig(), 64, 0.002),
        (OptimizerConfig(lr=0.01, lr_batch=16), 64, 0.02),
    ],
)
def test_the_rate_follows_the_effective_batch(config: OptimizerConfig, batch: int, expected: float) -> None:
    assert learning_rate(config, batch).value == pytest.approx(expected)


def test_without_batch_norm_the_automatic_rate_is_careful() -> None:
    assert learning_rate(OptimizerConfig(), 8, has_norm=False).value == pytest.approx(7.5e-5)
    assert learning_rate(OptimizerConfig(lr=0.01), 16, has_norm=False).value == 0.01
    assert has_batch_norm(Parts())
    assert not has_batch_norm(nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize(
    ("name", "decay"), [("sgd", 5e-4), ("adamw", 0.01), ("adam", 0.0), ("rmsprop", 5e-4), ("adadelta", 0.0)]
)
def test_automatic_decay_is_the_optimisers_usual_one(name: str, decay: float) -> None:
    assert by_kind(OptimizerConfig(name=name))["weight"] == [(0.1, decay, 3)]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_one_step_is_the_textbook_update(name: str) -> None:
    network = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        network.weight.fill_(2.0)
        network.bias.fill_(1.0)
    config = OptimizerConfig(name=name, weight_decay=0.5, bias_lr_factor=2)
    optimizer = build_optimizer(network, config, 0.1)
    network(torch.ones(1, 1, 1, 1)).sum().backward()
    optimizer.step()
    decayed = 2 - 0.1 * (1 + 0.5 * 2) if name == "sgd" else 2 * (1 - 0.1 * 0.5) - 0.1
    assert network.weight.item() == pytest.approx(decayed, abs=1e-5)
    assert network.bias.item() == pytest.approx(0.8, abs=1e-5)


# The first step of a slope of 1, by each method's own formula; Adadelta: sqrt(eps / (0.1 + eps)).
FIRST_STEPS = {
    "sgd": 0.1,
    "adamw": 0.1,
    "adam": 0.1,
    "rmsprop": 0.1 / 0.1**0.5,
    "adadelta": 0.1 * (1e-5 / 0.10001) ** 0.5,
}


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_the_first_step_of_each_optimiser(name: str) -> None:
    network = nn.Conv2d(1, 1, 1)
    before = network.weight.item()
    optimizer = build_optimizer(network, OptimizerConfig(name=name, weight_decay=0), 0.1)
    network(torch.ones(1, 1, 1, 1)).sum().backward()
    optimizer.step()
    assert before - network.weight.item() == pytest.approx(FIRST_STEPS[name], abs=1e-5)


def test_another_package_adds_an_optimiser_and_a_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (OPTIMIZERS, SCHEDULES):
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
        monkeypatch.setattr(registry, "_added", [])
    kind = OptimizerKind(lambda groups, config: torch.optim.Adamax(groups), 2e-3, None, 0.0)
    OPTIMIZERS.register("adamax")(kind)
    SCHEDULES.register("linear")(lambda schedule, position, total: 1 - position / total)
    config = OptimizerConfig(name="adamax")
    assert learning_rate(config, 8).value == 2e-3
    assert isinstance(build_optimizer(Parts(), config, 2e-3), torch.optim.Adamax)
    assert lr_factor(ScheduleConfig(kind="linear", warmup_steps=0), 25, 25, 100) == 0.75


def test_an_unknown_optimiser_or_schedule_has_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name: no optimizer 'rmspro'; did you mean rmsprop\?"):
        TrainConfig().updated({"optimizer.name": "rmspro"})
    with pytest.raises(ConfigError, match=r"schedule\.kind: no schedule 'cosin'; did you mean cosine\?"):
        TrainConfig().updated({"schedule.kind": "cosin"})


FIRST, SECOND = ["backbone.0.weight", "backbone.0.bias"], ["backbone.1.weight", "backbone.1.bias"]


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        ((), []),
        (("backbone.0",), FIRST),
        (("backbone.[01].*", "norm"), [*FIRST, *SECOND, "norm.scale"]),
    ],
)
def test_frozen_parts_are_named(patterns: tuple[str, ...], frozen: list[str]) -> None:
    network = Parts()
    assert freeze_parts(network, patterns) == frozen
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == frozen
    learning = sum(len(g["params"]) for g in parameter_groups(network, OptimizerConfig(), 0.1))
    assert learning == 9 - len(frozen)


ORIGINALS = {"backbone.0.weight": "conv1_1_weight", "backbone.0.bias": "conv1_1_bias", "norm.scale": "relu4_3_scale"}


@pytest.mark.parametrize(
    ("pattern", "frozen"),
    [
        (r"^(backbone\.0|norm).*", [*FIRST, "norm.scale"]),
        (r"^0\.", FIRST),  # the name within its part
        (r"^(conv1_|conv2_).*", FIRST),  # mxnet-ssd's default
        ("conv1_*", FIRST),
        (r"relu4_3|conv1_1_b", ["backbone.0.bias", "norm.scale"]),
        (r".*\.bias$", ["backbone.0.bias", "backbone.1.bias", "backbone.2.bias", "head.bias"]),
    ],
)
def test_regular_expressions_and_original_names_freeze(pattern: str, frozen: list[str]) -> None:
    assert freeze_parts(Parts(), [pattern], ORIGINALS) == frozen


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"^conv9_.*", "'\\^conv9_\\.\\*' is no part"),
        (r"^(conv1_1_weigt).*", "did you mean 'conv1_1_weight'"),
        (r"^(conv1_", r"freeze: '\^\(conv1_' is no regular expression: missing \)"),
    ],
)
def test_expressions_that_name_nothing(pattern: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        freeze_parts(Parts(), [pattern], ORIGINALS)


def test_a_detector_of_mxnet_ssd_has_mxnets_names() -> None:
    spec = model_spec("mxnet_ssd_vgg16_reduced_300", ["a"])
    with torch.device("meta"):
        network = build_network(spec.network)
    originals = original_names(spec, [name for name, _ in network.named_parameters()])
    frozen = freeze_parts(network, ["^(conv1_|conv2_).*"], originals)
    assert frozen == [f"backbone.conv{n}_{k}.{p}" for n in (1, 2) for k in (1, 2) for p in ("weight", "bias")]
    assert freeze_parts(network, ["multi_feat_2_conv_1x1_conv_*"], originals) == [
        "extras.0.reduce.conv.weight", "extras.0.reduce.conv.bias",
    ]  # fmt: skip
    assert original_names(model_spec("ssd300_vgg16", ["a"]), []) == {}


def test_finetuning_keeps_what_was_taken_over_but_the_predictors() -> None:
    network = Parts()
    network.head = nn.ModuleDict({"boxes": nn.Conv2d(4, 4, 1), "logits": nn.Conv2d(4, 2, 1)})
    taken_over = ["backbone.0.weight", "backbone.1.running_mean", "head.boxes.weight"]
    assert freeze_parts(network, (), {}, taken_over) == ["backbone.0.weight"]


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    network = Parts()
    assert still_norms(network, "train") == []
    assert still_norms(network, "eval") == [network.backbone[1]]
    freeze_parts(network, ("backbone.1",))
    assert still_norms(network, "train") == [network.backbone[1]]


def test_a_part_that_does_not_exist_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean 'backbone'"):
        freeze_parts(Parts(), ("backbon",))
    with pytest.raises(ConfigError, match=r"optimizer\.lr_factors: 'neck' is no part"):
        parameter_groups(Parts(), OptimizerConfig(lr_factors={"neck": 2}), 0.1)


def test_freezing_everything_is_an_error() -> None:
    network = Parts()
    freeze_parts(network, ("*",))
    with pytest.raises(ConfigError, match="nothing to train"):
        build_optimizer(network, OptimizerConfig(), 0.1)


@pytest.mark.parametrize(
    ("settings", "new_classes", "factors"),
    [
        ({}, 20, {"head": 4.0}),
        ({}, 19, {}),
        ({"name": "sgd"}, 99, {}),  # the papers' schedules
        ({"lr_factors": {}}, 99, {}),
        ({"lr_factors": {"backbone": 0.1}}, 99, {"backbone": 0.1}),
    ],
)
def test_a_head_with_many_new_classes_learns_faster(
    settings: dict[str, Any], new_classes: int, factors: dict[str, float]
) -> None:
    assert lr_factors(OptimizerConfig(**settings), new_classes) == factors
