from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from singleshot.interop.calibrate import restore_statistics


def folded_network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=1e-3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)
    )
    for norm in (network[1], network[4]):
        nn.init.uniform_(norm.weight, -1, 2)
        nn.init.normal_(norm.bias)
    return network.eval()


def test_no_images() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        restore_statistics(folded_network(), [])


def test_the_function_stays_and_the_statistics_are_those_of_the_inputs() -> None:
    network = folded_network()
    images = torch.randn(6, 2, 8, 9) * 3 + 1
    before = network(images)
    inputs = network[:4](images)
    assert restore_statistics(network, images.split(4)) == 2
    torch.testing.assert_close(network(images), before)
    torch.testing.assert_close(network[4].running_mean, inputs.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(network[4].running_var, inputs.var(dim=(0, 2, 3), correction=0))
    torch.testing.assert_close(network.train()(images), before, rtol=1e-3, atol=1e-4)


def test_only_the_named_ones_change_and_the_mode_stays() -> None:
    network = folded_network().train()
    before = copy.deepcopy(network[1].state_dict())
    assert restore_statistics(network, [torch.randn(2, 2, 8, 8)], ["4"]) == 1
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network[1].state_dict().items())
    assert network[4].running_mean.abs().sum() > 0


def test_a_dead_channel() -> None:
    network = folded_network()
    nn.init.zeros_(network[0].weight)
    images = torch.randn(2, 2, 8, 8)
    before = network(images)
    restore_statistics(network, [images])
    torch.testing.assert_close(network(images), before)


def test_a_norm_without_statistics_is_refused() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(ValueError, match="track_running_stats=False"):
        restore_statistics(network, [torch.rand(1, 3, 4, 4)])
