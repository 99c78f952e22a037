"""What the quick paths may not lose, in counts instead of seconds; and that all contenders do the same work."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import loads
import loss
import postprocess
import reference_forms as plain
import singleshot.multibox.decode as decode
from common import Settings

ANCHORS = loads.anchors()
SETTINGS = Settings("tiny", threads=1)


class Operators(TorchDispatchMode):
    """Counts the operators that torch is asked for, backward passes included."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def loss_operators(name, batch, objects):
    codes, logits = (x.requires_grad_() for x in loads.heads(batch, len(ANCHORS), generator()))
    contenders = loss.contenders(loads.objects(batch, generator(1), objects), ANCHORS, SETTINGS)
    with Operators() as operators:
        contenders[name](codes, logits).backward()
    return operators.counts.total()


def test_loss_asks_for_as_much_work_whatever_the_batch():
    # Objects are forced onto anchors in rounds, of which there may be one or two more.
    small, large = loss_operators("singleshot", 1, 6), loss_operators("singleshot", 6, 6)
    assert large <= small + 60
    assert large < 400


def test_loss_asks_for_less_than_the_loops():
    ours = loss_operators("singleshot", 6, 6)
    assert loss_operators("reference form, ssd.pytorch", 6, 6) > 1.5 * ours


def test_all_contenders_compute_the_same_loss():
    objects = loads.objects(3, generator(2))
    codes, logits = loads.heads(3, len(ANCHORS), generator(3))
    contenders = loss.contenders(objects, ANCHORS, SETTINGS)
    del contenders["singleshot"]  # bipartite matching: another dialect
    values = {name: float(total(codes, logits)) for name, total in contenders.items()}
    assert len(values) >= 3
    assert max(values.values()) == pytest.approx(min(values.values()), rel=1e-5)


def postprocess_operators(batch, candidates):
    heads = loads.crowded_heads(batch, len(ANCHORS), candidates, generator())
    with Operators() as operators:
        postprocess.ours(*heads, anchors=ANCHORS)
    return operators.counts.total()


def test_postprocess_asks_for_as_much_work_whatever_the_batch():
    one, four = postprocess_operators(1, 500), postprocess_operators(4, 500)
    assert four <= 1.5 * one
    assert four < 600


def test_only_candidates_that_reach_nms_are_decoded(monkeypatch):
    decoded = []
    real = decode.decode_at

    def counting(output, anchors, images, rows, coder):
        decoded.append(len(rows))
        return real(output, anchors, images, rows, coder)

    monkeypatch.setattr(decode, "decode_at", counting)
    heads = loads.crowded_heads(2, len(ANCHORS), 4000, generator())
    postprocess.ours(*heads, anchors=ANCHORS)
    assert sum(decoded) < 2 * 1500


def test_all_contenders_find_the_same():
    heads = loads.crowded_heads(2, len(ANCHORS), 500, generator(4))
    contenders = postprocess.contenders(ANCHORS, SETTINGS)
    expected = [rows.numpy() for rows in contenders["reference form, torchvision"](*heads)]
    assert all(len(rows) == 200 for rows in expected)
    for name in (name for name in contenders if name.startswith("singleshot")):
        strangers, largest = postprocess.difference(contenders[name](*heads), expected)
        assert strangers <= 2, name  # scores may be equal at the end of the list
        assert largest < 1e-4, name


def test_difference_sees_a_missing_box_and_a_wrong_class():
    rows = np.array([[0, 0.9, 0, 0, 1, 1], [1, 0.8, 5, 5, 9, 9]], dtype=np.float32)
    assert postprocess.difference([rows[:0]], [rows[:0]]) == (0, 0.0)
    assert postprocess.difference([rows], [rows[::-1]]) == (0, 0.0)
    assert postprocess.difference([rows], [rows[:1]])[0] == 1
    wrong = rows.copy()
    wrong[1, 0] = 2
    assert postprocess.difference([rows], [wrong])[0] == 2


@pytest.mark.parametrize("candidates", [840, 2460, 8280])
def test_loads_are_as_crowded_as_they_say(candidates):
    logits = loads.crowded_heads(2, len(ANCHORS), candidates, generator())[1]
    found = (logits.softmax(-1)[..., 1:] > 0.01).sum() / 2
    assert found == pytest.approx(candidates, rel=0.1)


def test_plain_network_is_ssd300():
    with torch.device("meta"):
        network = plain.PlainSsd300(21)
        heads = network(torch.zeros(2, 3, 300, 300))
    assert sum(parameter.numel() for parameter in network.parameters()) == 26_285_486
    assert heads.codes.shape == (2, 8732, 4)
    assert heads.logits.shape == (2, 8732, 21)


def test_objects_are_inside_the_image():
    boxes, labels = loads.objects(8, generator()).lists()
    assert all(len(own) == len(label) >= 1 for own, label in zip(boxes, labels, strict=True))
    assert torch.cat(boxes).min() >= 0
    assert torch.cat(boxes).max() <= loads.SIDE + 1e-3
