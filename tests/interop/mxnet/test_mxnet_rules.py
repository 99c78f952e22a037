"""Random inputs against a plain reading of the operators' rules: all parameters, ties, empty images, odd numbers."""

from __future__ import annotations

import mxnet_plain as plain
import numpy as np
import pytest
import torch

from singleshot.interop.mxnet import operators as mxnet

F = np.float32
ROUNDS = 60


def pick(rng, values):
    return values[rng.integers(len(values))]


def boxes(rng, *shape, grid=None):
    low = rng.random((*shape, 2)) * 0.7
    size = rng.random((*shape, 2)) * 0.4 + 0.02
    corners = np.concatenate([low, low + size], -1)
    return (np.round(corners * grid) / grid if grid else corners).astype(F)


def close(ours, theirs):
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_prior(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 5, 2).tolist()
    settings = {
        "sizes": rng.uniform(-0.1, 1.5, rng.integers(1, 4)).astype(F).tolist(),
        "ratios": pick(rng, ([1.0], [2.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.5, 1.0])),
        "clip": bool(rng.integers(2)),
        "steps": pick(rng, ((-1, -1), (0, 0), (0.2, 0.3), (0.0, 0.4), (0.5, 0.25))),
        "offsets": pick(rng, ((0.5, 0.5), (0.0, 1.0), (0.7, 0.1))),
    }
    ours = mxnet.multibox_prior(torch.zeros(2, 1, height, width), **settings)
    close(ours, plain.prior(height, width, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"sizes": ()},
        {"ratios": ()},
        {"steps": (0.1,)},
        {"steps": (-1.0, 0.1)},
        {"offsets": (0.5, 1.5)},
        {"offsets": (-0.1, 0.5)},
        {"data": torch.zeros(1, 2, 2)},
        {"data": torch.zeros(1, 1, 2, 2, dtype=torch.float64)},
    ],
)
def test_prior_refuses(settings):
    with pytest.raises(ValueError):
        mxnet.multibox_prior(**{"data": torch.zeros(1, 1, 2, 2), **settings})


def test_prior_of_odd_shapes():
    infinite = mxnet.multibox_prior(torch.zeros(1, 1, 1, 1), ratios=[0.0])
    assert infinite.tolist() == [[[0.5, -np.inf, 0.5, np.inf]]]
    wide = mxnet.multibox_prior(torch.zeros(1, 1, 2, 4), sizes=[0.4])[0, 0]
    assert (wide[2:] - wide[:2]).tolist() == pytest.approx([0.2, 0.4])


def labels(rng, batch, rows, width, grid):
    """Objects, sometimes none, sometimes inverted or empty, with -1 rows after (or between) them."""
    label = np.full((batch, rows, width), -1, F)
    for image in label:
        count = rng.integers(0, rows + 1)
        image[:count, 1:5] = boxes(rng, count, grid=grid)
        image[:count, 0] = rng.choice([0, 1, 2, 2.5, 7], count)
        image[:count, 5:] = 0.5
        if count > 1 and rng.random() < 0.2:
            image[rng.integers(count), 1:5] = [0.6, 0.6, 0.3, 0.3]
        if count > 2 and rng.random() < 0.2:
            image[count // 2] = -1
    return label


@pytest.mark.parametrize("seed", range(3 * ROUNDS))
def test_target(seed):
    rng = np.random.default_rng(seed)
    batch, rows, anchors = rng.integers(1, 4), rng.integers(1, 6), rng.integers(1, 30)
    grid = pick(rng, (None, 4, 10))
    anchor = boxes(rng, 1, anchors, grid=grid)
    if seed % 5 == 0:
        anchor[0, anchors // 2 :] = anchor[0, : anchors - anchors // 2]
    label = labels(rng, batch, rows, int(pick(rng, (5, 6, 8))), grid)
    logits = rng.normal(size=(batch, 4, anchors)).astype(F)
    settings = {
        "overlap_threshold": pick(rng, (0.5, 0.3, 0.0, -1.0, 0.25, 1.5)),
        "ignore_label": pick(rng, (-1.0, 0.0, 255.0)),
        "negative_mining_ratio": pick(rng, (-1.0, 3.0, 0.4, 1.0, 50.0)),
        "negative_mining_thresh": pick(rng, (0.5, 0.1, 1.0)),
        "minimum_negative_samples": int(pick(rng, (0, 4))),
        "variances": pick(rng, ((0.1, 0.1, 0.2, 0.2), (1.0, 0.5, 0.3, 0.2))),
    }
    inputs = [torch.from_numpy(values) for values in (anchor, label, logits)]
    try:
        expected = plain.target(anchor, label, logits, **settings)
    except plain.Refused:
        with pytest.raises(ValueError):
            mxnet.multibox_target(*inputs, **settings)
        return
    loc, mask, classes = mxnet.multibox_target(*inputs, **settings)
    np.testing.assert_array_equal(classes.numpy(), expected[2])
    np.testing.assert_array_equal(mask.numpy(), expected[1])
    close(loc, expected[0])


def test_target_takes_all_candidates_where_asked_to():
    anchor = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.05, 0.0, 0.5, 0.5]]])
    label = torch.tensor([[[3.0, 0.0, 0.0, 0.5, 0.5]]])
    settings = {"overlap_threshold": 0.95, "negative_mining_ratio": 9.0}
    with pytest.raises(ValueError, match="allow_shortage"):
        mxnet.multibox_target(anchor, label, torch.zeros(1, 2, 3), **settings)
    classes = mxnet.multibox_target(anchor, label, torch.zeros(1, 2, 3), **settings, allow_shortage=True)[2]
    assert classes.tolist() == [[4.0, 0.0, -1.0]]


ANCHOR = torch.tensor([[[0.0, 0.0, 0.5, 0.5]]])
LABEL = torch.tensor([[[0.0, 0.1, 0.1, 0.6, 0.6]]])


def test_target_of_the_worked_example():
    loc, mask, classes = mxnet.multibox_target(ANCHOR, LABEL, torch.zeros(1, 2, 1), variances=(0.1, 0.1, 0.2, 0.2))
    assert loc.tolist() == [pytest.approx([2.0, 2.0, 0.0, 0.0], abs=1e-6)]
    assert (mask.tolist(), classes.tolist()) == ([[1.0] * 4], [[1.0]])


@pytest.mark.parametrize(
    "settings",
    [
        {"anchor": ANCHOR.expand(2, -1, -1)},
        {"label": LABEL[..., :4]},
        {"label": LABEL[:, :0]},
        {"cls_pred": torch.zeros(1, 2, 3)},
        {"variances": (0.1, 0.2)},
        {"label": torch.tensor([[[-1.0, 0.1, -1.0, -1.0, -1.0]]])},
        {"negative_mining_ratio": 3.0, "negative_mining_thresh": 0.0},
    ],
)
def test_target_refuses(settings):
    with pytest.raises(ValueError):
        mxnet.multibox_target(**{"anchor": ANCHOR, "label": LABEL, "cls_pred": torch.zeros(1, 2, 1), **settings})


def test_target_has_no_gradient_and_ignores_the_batch_of_logits():
    logits = torch.zeros(3, 2, 1, requires_grad=True)
    assert not any(out.requires_grad for out in mxnet.multibox_target(ANCHOR, LABEL, logits, 0.5))


@pytest.mark.parametrize("seed", range(2 * ROUNDS))
def test_detection(seed):
    rng = np.random.default_rng(seed)
    batch, columns, anchors = rng.integers(1, 4), rng.integers(1, 5), rng.integers(1, 25)
    scores = rng.random((batch, columns, anchors)).astype(F)
    if seed % 3 == 0:
        scores = np.round(scores * 4) / F(4)
    if seed % 7 == 0:
        scores[rng.random(scores.shape) < 0.2] = np.nan
    anchor = boxes(rng, 1, anchors, grid=pick(rng, (None, 5)))
    codes = (rng.normal(size=(batch, anchors * 4)) * pick(rng, (0.0, 1.0, 8.0))).astype(F)
    settings = {
        "clip": bool(rng.integers(2)),
        "threshold": pick(rng, (0.01, 0.0, 0.5, 0.75)),
        "background_id": int(pick(rng, (0, 1, -1))),
        "nms_threshold": pick(rng, (0.5, 0.1, 1.0, 0.0, -1.0, 1.5)),
        "force_suppress": bool(rng.integers(2)),
        "variances": pick(rng, ((0.1, 0.1, 0.2, 0.2), (0.3, 0.1, 0.4, 0.2))),
        "nms_topk": int(pick(rng, (-1, 0, 1, 5, 400))),
    }
    ours = mxnet.multibox_detection(*(torch.from_numpy(x) for x in (scores, codes, anchor)), **settings)
    expected = plain.detection(scores, codes, anchor, **settings)
    np.testing.assert_array_equal(ours[..., 0].numpy(), expected[..., 0])
    close(ours, expected)


@pytest.mark.parametrize(
    "settings", [{"anchor": torch.zeros(2, 3, 4)}, {"loc_pred": torch.zeros(1, 8)}, {"variances": (0.1, 0.1)}]
)
def test_detection_refuses(settings):
    inputs = {"cls_prob": torch.ones(1, 2, 3), "loc_pred": torch.zeros(1, 12), "anchor": torch.zeros(1, 3, 4)}
    with pytest.raises(ValueError):
        mxnet.multibox_detection(**{**inputs, **settings})


@pytest.mark.parametrize("seed", range(2 * ROUNDS))
def test_box_nms(seed):
    rng = np.random.default_rng(seed)
    batch, rows, extra = rng.integers(1, 4), rng.integers(1, 20), rng.integers(0, 3)
    layout = pick(rng, ({"coord_start": 2, "score_index": 1}, {"coord_start": 0, "score_index": 5}))
    id_column = 0 if layout["coord_start"] == 2 else 4
    data = rng.random((batch, rows, 6 + extra)).astype(F)
    start = layout["coord_start"]
    data[..., start : start + 4] = boxes(rng, batch, rows, grid=pick(rng, (None, 4)))
    data[..., id_column] = rng.integers(-1, 3, (batch, rows))
    if seed % 3 == 0:
        data[..., layout["score_index"]] = np.round(data[..., layout["score_index"]] * 4) / 4
    settings = {
        **layout,
        "overlap_thresh": pick(rng, (0.5, 0.2, 0.0, 1.0)),
        "valid_thresh": pick(rng, (0.0, 0.25, 0.6)),
        "topk": int(pick(rng, (-1, 0, 3, 100))),
        "id_index": int(pick(rng, (-1, id_column))),
        "background_id": int(pick(rng, (-1, 0))),
        "force_suppress": bool(rng.integers(2)),
        "in_format": pick(rng, ("corner", "center")),
        "out_format": pick(rng, ("corner", "center")),
    }
    close(mxnet.box_nms(torch.from_numpy(data), **settings), plain.box_nms(data, **settings))


def test_box_nms_sends_the_gradient_to_the_survivors_rows():
    rows = [[0, 0.3, 0, 0, 1, 1], [0, 0.9, 0, 0, 1, 1], [0, 0.5, 2, 2, 3, 3]]
    data = torch.tensor([[rows]], requires_grad=True)
    mxnet.box_nms(data, id_index=0, out_format="center").backward(torch.arange(18.0).view(1, 1, 3, 6))
    assert data.grad is not None
    assert data.grad.tolist() == [[[[0.0] * 6, list(range(6)), list(range(6, 12))]]]


@pytest.mark.parametrize(
    "settings", [{"score_index": 3}, {"in_format": "x"}, {"coord_start": 4}, {"score_index": 9}, {"id_index": 6}]
)
def test_box_nms_refuses(settings):
    with pytest.raises(ValueError):
        mxnet.box_nms(torch.zeros(1, 2, 6), **settings)


def test_box_nms_of_nothing():
    assert mxnet.box_nms(torch.zeros(2, 0, 6)).shape == (2, 0, 6)
    assert mxnet.box_nms(torch.full((1, 2, 3, 6), -1.0), id_index=0).unique().tolist() == [-1.0]


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_box_iou(seed):
    rng = np.random.default_rng(seed)
    lhs, rhs = boxes(rng, 2, 3, grid=4), boxes(rng, 5, grid=4)
    rhs[0] = [0.5, 0.5, 0.5, 0.5]
    rhs[1] = [0.9, 0.9, 0.1, 0.1]
    form = pick(rng, ("corner", "center"))
    change = plain.corners if form == "center" else np.asarray
    expected = [[[plain.overlap(change(a), change(b)) for b in rhs] for a in row] for row in lhs]
    close(mxnet.box_iou(torch.from_numpy(lhs), torch.from_numpy(rhs), format=form), np.array(expected, F))


@pytest.mark.parametrize("arguments", [(torch.zeros(3), torch.zeros(2, 4)), (torch.zeros(4), torch.zeros(4), "x")])
def test_box_iou_refuses(arguments):
    with pytest.raises(ValueError):
        mxnet.box_iou(*arguments)


@pytest.mark.parametrize("seed", range(3 * ROUNDS))
def test_bipartite_matching(seed):
    rng = np.random.default_rng(seed)
    data = rng.random((rng.integers(1, 4), rng.integers(1, 7), rng.integers(1, 7))).astype(F)
    data = np.round(data * 4).astype(F) / 4 if seed % 2 else data
    settings = {
        "threshold": pick(rng, (0.0, 0.5, 1e-12, 0.9)),
        "is_ascend": bool(rng.integers(2)),
        "topk": int(pick(rng, (-1, 0, 1, 2, 9))),
    }
    row, column = mxnet.bipartite_matching(torch.from_numpy(data), **settings)
    expected = plain.bipartite(data, **settings)
    np.testing.assert_array_equal(row.numpy(), expected[0])
    np.testing.assert_array_equal(column.numpy(), expected[1])


def test_bipartite_matching_of_the_worked_example():
    row, column = mxnet.bipartite_matching(torch.tensor([[0.5, 0.6], [0.1, 0.2], [0.3, 0.4]]), threshold=1e-12)
    assert (row.tolist(), column.tolist()) == ([1, -1, 0], [2, 0])


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_bipartite_matching_of_nothing(shape):
    row, column = mxnet.bipartite_matching(torch.zeros(shape), threshold=0.5)
    assert (row.shape, column.shape) == (shape[:2], (shape[0], shape[2]))
    assert row.eq(-1).all()
    assert column.eq(-1).all()


def test_bipartite_matching_of_infinite_scores():
    row, _ = mxnet.bipartite_matching(torch.tensor([[torch.inf, torch.inf], [torch.inf, torch.nan]]), threshold=0.5)
    assert row.tolist() == [0, -1]


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_softmax_output(seed):
    rng = np.random.default_rng(seed)
    multi = bool(rng.integers(2))
    batch, classes, places = rng.integers(1, 4), rng.integers(2, 5), rng.integers(1, 6) if multi else 1
    data = (rng.normal(size=(batch, classes, places)) * 4).astype(F)
    settings = {
        "grad_scale": pick(rng, (1.0, 0.5)),
        "ignore_label": pick(rng, (-1.0, 0.0)),
        "use_ignore": bool(rng.integers(2)),
        "normalization": pick(rng, ("null", "batch", "valid")),
        "smooth_alpha": pick(rng, (0.0, 0.2)),
        "multi_output": multi,
    }
    label = rng.integers(-1, classes, (batch, places)).astype(F)
    ours = torch.from_numpy(data if multi else data[..., 0]).requires_grad_()
    out = mxnet.softmax_output(ours, torch.from_numpy(label if multi else label[:, 0]), **settings)
    (out * 17).sum().backward()
    probability, gradient = plain.softmax_gradient(data, label, **settings)
    close(out.detach().reshape(probability.shape), probability)
    assert ours.grad is not None
    close(ours.grad.reshape(gradient.shape), gradient)


def test_softmax_output_keeps_a_shape_and_may_heed_the_gradient_from_above():
    data = torch.zeros(2, 3, 4, requires_grad=True)
    label = torch.zeros(2, 3)
    out = mxnet.softmax_output(data, label, preserve_shape=True, out_grad=True)
    out.backward(torch.full_like(out, 2.0))
    assert out.shape == data.shape
    assert data.grad is not None
    assert data.grad[0, 0].tolist() == [-1.5, 0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="does not fit"):
        mxnet.softmax_output(data, label[:1], preserve_shape=True)
    with pytest.raises(ValueError, match="normalization"):
        mxnet.softmax_output(data, label, preserve_shape=True, normalization="x")


@pytest.mark.parametrize(
    ("settings", "gradient"),
    [
        ({}, 1.0),
        ({"grad_scale": 3.0, "normalization": "batch"}, 1.5),
        ({"normalization": "valid"}, 0.5),
        ({"normalization": "valid", "valid_thresh": 9.0}, 1.0),
    ],
)
def test_make_loss(settings, gradient):
    data = torch.tensor([[0.0, 2.0], [3.0, -1.0]], requires_grad=True)
    out = mxnet.make_loss(data, **settings)
    (out * 5).sum().backward()
    assert torch.equal(out, data)
    assert data.grad is not None
    assert data.grad.tolist() == [[gradient] * 2] * 2


@pytest.mark.parametrize(
    ("scalar", "value", "loss", "slope"),
    [
        (2.0, 0.1, 0.02, 0.4),
        (2.0, 0.25, 0.125, 1.0),
        (2.0, 1.0, 0.875, 1.0),
        (1.0, -3.0, 2.5, -1.0),
        (0.0, 5.0, 0.0, 0.0),
    ],
)
def test_smooth_l1(scalar, value, loss, slope):
    data = torch.tensor([value], requires_grad=True)
    out = mxnet.smooth_l1(data, scalar)
    out.backward()
    assert out.item() == pytest.approx(loss)
    assert data.grad is not None
    assert data.grad.item() == pytest.approx(slope)


def test_l2_normalization_modes():
    data = torch.arange(1.0, 9.0).view(1, 2, 2, 2)
    channel = mxnet.l2_normalization(data, mode="channel")
    assert channel[0, :, 0, 0].tolist() == pytest.approx([26**-0.5, 5 * 26**-0.5])
    assert mxnet.l2_normalization(data).square().sum().item() == pytest.approx(1.0)
    assert mxnet.l2_normalization(data, mode="spatial").square().sum(dim=(2, 3)).tolist() == [pytest.approx([1.0, 1.0])]
    assert mxnet.l2_normalization(torch.zeros(1, 2, 3), mode="channel").eq(0).all()


@pytest.mark.parametrize("settings", [{"mode": "channel"}, {"mode": "spatial"}, {"mode": "x"}])
def test_l2_normalization_refuses(settings):
    with pytest.raises(ValueError):
        mxnet.l2_normalization(torch.ones(2, 3), **settings)


def test_box_nms_leaves_rows_with_a_negative_first_coordinate_unconverted():
    data = torch.tensor([[[0, 0.9, -0.2, 0.1, 0.4, 0.5], [0, 0.8, 0.5, 0.5, 0.9, 0.7]]])
    found = mxnet.box_nms(data, id_index=0, in_format="corner", out_format="center")
    torch.testing.assert_close(found[0, 0], data[0, 0])
    torch.testing.assert_close(found[0, 1, 2:], torch.tensor([0.7, 0.6, 0.4, 0.2]))
