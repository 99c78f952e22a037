from __future__ import annotations

import torch
from torch import nn

from singleshot.training.ema import Ema


def test_the_average_begins_as_a_copy() -> None:
    network = nn.Linear(2, 1)
    ema = Ema(network, 0.9)
    assert torch.equal(ema.network.weight, network.weight)
    assert ema.network.weight.data_ptr() != network.weight.data_ptr()
    assert not ema.network.weight.requires_grad
    assert not ema.network.training


def test_the_decay_is_short_at_first_and_then_as_given() -> None:
    network = nn.Linear(1, 1, bias=False)
    ema = Ema(network, 0.5)
    with torch.no_grad():
        network.weight.fill_(1.0)
        ema.network.weight.fill_(0.0)
    expected = 0.0
    for t in range(1, 15):
        ema.update()
        decay = min(0.5, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * 1.0
        assert abs(ema.network.weight.item() - expected) < 1e-6


def test_statistics_follow_and_counters_are_copied() -> None:
    network = nn.BatchNorm2d(3)
    ema = Ema(network, 0.5)
    network.train()(torch.randn(4, 3, 5, 5) + 7)
    ema.update()
    assert ema.network.num_batches_tracked == 1
    assert 0 < ema.network.running_mean.mean() < 7
