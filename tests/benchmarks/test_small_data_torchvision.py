from __future__ import annotations

import pytest
import torch
from torch import nn

from small_data_torchvision import _box_rows, _is_class_row, _pad_same

POINTWISE = "head.regression_head.module_list.{}.1.weight"


def test_box_rows_are_torchvisions_boxes_and_codes():
    rows = torch.arange(24.0)  # box by box, (y, x, h, w) each
    assert _box_rows(POINTWISE.format(2), rows).view(6, 4).tolist() == [
        [1, 0, 3, 2],
        [21, 20, 23, 22],
        [5, 4, 7, 6],
        [9, 8, 11, 10],
        [13, 12, 15, 14],
        [17, 16, 19, 18],
    ]
    first = _box_rows(POINTWISE.format(0), rows[:12]).view(6, 4)
    assert first[:, 0].tolist() == [1, 1, 5, 9, 5, 9]


@pytest.mark.parametrize("name", ["backbone.features.0.1.weight", "head.regression_head.module_list.1.0.0.weight"])
def test_other_numbers_stay_as_they_are(name: str):
    value = torch.ones(3)
    assert _box_rows(name, value) is value
    assert not _is_class_row(name)


@pytest.mark.parametrize(("side", "kernel"), [(320, 3), (40, 5), (5, 3), (2, 3), (1, 3)])
def test_padding_is_that_of_tensorflow(side: int, kernel: int):
    layer = nn.Conv2d(1, 1, kernel, stride=2, bias=False)
    padded = _pad_same(layer, (torch.zeros(1, 1, side, side),))
    out = -(-side // 2)
    assert layer(padded).shape[2:] == (out, out)
    ones = _pad_same(layer, (torch.ones(1, 1, side, side),))
    total = padded.shape[-1] - side
    assert ones[0, 0, :, : total // 2].sum() == 0  # the smaller half lies before
    assert ones[0, 0, total // 2, total // 2] == 1
