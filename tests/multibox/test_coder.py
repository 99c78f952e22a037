from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from singleshot.core.settings import CoderConfig, Variances
from singleshot.multibox.coder import decode_boxes, encode_boxes

ANCHOR = torch.tensor([[0.25, 0.25, 0.5, 0.5]])


def test_nothing():
    none = torch.zeros(0, 4)
    assert encode_boxes(none, none).shape == decode_boxes(none, none).shape == (0, 4)


@pytest.mark.parametrize(
    ("coder", "codes"),
    [
        (CoderConfig(), [2.0, 0.0, 0.0, 5 * math.log(2)]),
        (CoderConfig(order="yxhw"), [0.0, 2.0, 5 * math.log(2), 0.0]),
        (CoderConfig(variances=Variances(0.2, 1.0, 1.0, 1.0)), [1.0, 0.0, 0.0, math.log(2)]),
    ],
)
def test_codes(coder, codes):
    box = torch.tensor([[0.1, -0.25, 0.6, 0.75]])
    assert encode_boxes(box, ANCHOR, coder)[0].tolist() == pytest.approx(codes, abs=1e-6)
    assert decode_boxes(torch.tensor([codes]), ANCHOR, coder)[0].tolist() == pytest.approx(box[0].tolist(), abs=1e-6)


def test_two_variances_are_of_the_centre_and_of_the_size():
    """As ssd.pytorch's ``variance: [0.1, 0.2]``."""
    assert CoderConfig(variances=(0.2, 0.4)).variances == (0.2, 0.2, 0.4, 0.4)
    assert CoderConfig.model_validate_json('{"variances": [0.2, 0.4]}').variances == (0.2, 0.2, 0.4, 0.4)
    box = torch.tensor([[0.1, -0.25, 0.6, 0.75]])
    four = CoderConfig(variances=Variances(0.2, 0.2, 0.4, 0.4))
    assert encode_boxes(box, ANCHOR, CoderConfig(variances=(0.2, 0.4))).equal(encode_boxes(box, ANCHOR, four))


@pytest.mark.parametrize(
    ("variances", "words"),
    [
        ((), "variances"),
        ((0.1,), "must be 4 numbers .* or 2 .*, not 1"),
        ((0.1, 0.1, 0.2), "not 3"),
        ((0.1, 0.1, 0.2, 0.2, 0.2), "not 5"),
        ((0, 0.2), "variances"),
        ((0.1, -0.2), "variances"),
        (Variances(0.1, 0.1, 0.0, 0.2), "variances"),
        ((0.1, 0.1, 0.2, math.nan), "variances"),
        ((math.inf, 0.2), "variances"),
        ("ab", "variances"),
    ],
)
def test_other_variances_are_refused(variances, words):
    with pytest.raises(ValueError, match=words):
        CoderConfig(variances=variances)


sides = st.floats(0.5, 400)
places = st.floats(-100, 600)
boxes = st.tuples(places, places, sides, sides)


@given(boxes, boxes, st.sampled_from(["xywh", "yxhw"]))
def test_decoding_undoes_encoding(box, anchor, order):
    coder = CoderConfig(order=order, max_log_ratio=None)
    x, y, w, h = box
    corners = torch.tensor([[x, y, x + w, y + h]])
    anchors = torch.tensor([anchor])
    again = decode_boxes(encode_boxes(corners, anchors, coder), anchors, coder)
    assert torch.allclose(again, corners, atol=1e-2, rtol=1e-5)


@pytest.mark.parametrize("box", [[0.2, 0.2, 0.2, 0.2], [0.6, 0.6, 0.1, 0.1], [0.0, 0.0, 1e-30, 1.0]])
@pytest.mark.parametrize("anchor", [[0.2, 0.2, 0.4, 0.4], [0.2, 0.2, 0.0, 0.4]])
def test_degenerate_boxes_have_finite_codes(box, anchor):
    assert encode_boxes(torch.tensor([box]), torch.tensor([anchor])).isfinite().all()


def test_huge_codes_are_limited_only_if_asked():
    codes = torch.tensor([[0.0, 0.0, 1000.0, 1000.0]])
    assert decode_boxes(codes, ANCHOR)[0, 2].item() == pytest.approx(0.25 + 0.25 * 1000 / 16)
    assert decode_boxes(codes, ANCHOR, CoderConfig(max_log_ratio=None))[0, 2].item() == torch.inf


def test_anchors_broadcast_over_a_batch():
    codes = torch.randn(3, 5, 4)
    anchors = torch.rand(5, 4) + 0.1
    assert torch.equal(decode_boxes(codes, anchors)[2], decode_boxes(codes[2], anchors))
