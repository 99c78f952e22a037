from __future__ import annotations

import pytest
import torch
from torch import nn

from singleshot.errors import ConfigError
from singleshot.models.layers import L2Norm
from singleshot.training.config import OptimizerConfig
from singleshot.training.optimizer import (
    build_optimizer,
    freeze_parts,
    has_batch_norm,
    learning_rate,
    parameter_groups,
    still_norms,
)


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
        (OptimizerConfig(), 16, 0.001),
        (OptimizerConfig(), 4, 0.0005),
    ],
)
def test_the_rate_follows_the_effective_batch(config: OptimizerConfig, batch: int, expected: float) -> None:
    assert learning_rate(config, batch).value == pytest.approx(expected)


def test_without_batch_norm_the_automatic_rate_is_careful() -> None:
    assert learning_rate(OptimizerConfig(), 16, has_norm=False).value == pytest.approx(1e-4)
    assert learning_rate(OptimizerConfig(lr=0.01), 16, has_norm=False).value == 0.01
    assert has_batch_norm(Parts())
    assert not has_batch_norm(nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize(("name", "decay"), [("sgd", 5e-4), ("adamw", 0.01)])
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
