from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from singleshot.core.class_names import COCO_NAMES, VOC_NAMES
from singleshot.errors import DataError
from singleshot.evaluation.metrics import DetectionTable, GroundTruth, evaluate_detections
from singleshot.evaluation.metrics.class_match import ClassMatch, match_classes

NAMES = st.lists(st.text("aAbB _-éßI0", min_size=1, max_size=3), min_size=1, max_size=9, unique=True)


def pairs_of(match: ClassMatch, model: list[str], data: list[str]) -> dict[str, str]:
    """Name of the data set -> name of the model."""
    return {data[theirs]: model[own] for own, theirs in zip(match.model_ids, match.data_ids, strict=True)}


@pytest.mark.parametrize(
    ("model", "data", "pairs"),
    [
        (["cat", "dog"], ["dog"], {"dog": (1, 0)}),
        (["dog", "cat"], ["cat", "dog"], {"cat": (1, 0), "dog": (0, 1)}),
        (["Hot Dog"], ["hot_dog"], {"hot_dog": (0, 0)}),
        (["tv"], ["tvmonitor"], {"tvmonitor": (0, 0)}),
        (["RBC", "WBC"], ["wbc", "Platelets"], {"wbc": (1, 0)}),
    ],
)
def test_matches_by_name(model: list[str], data: list[str], pairs: dict[str, tuple[int, int]]) -> None:
    match = match_classes(model, data)
    assert dict(zip(match.names, zip(match.model_ids, match.data_ids, strict=True), strict=True)) == pairs


def test_tells_what_is_left_out_and_translates_ids() -> None:
    match = match_classes(["cat", "dog", "cow"], ["fox", "cow", "cat"])
    assert match.only_model == ("dog",)
    assert match.only_data == ("fox",)
    assert match.model_to_shared(3).tolist() == [1, -1, 0]
    assert match.data_to_shared(3).tolist() == [-1, 0, 1]


def test_a_coco_model_knows_all_of_voc() -> None:
    match = match_classes(COCO_NAMES, VOC_NAMES)
    assert match.only_data == ()
    assert COCO_NAMES[match.model_ids[VOC_NAMES.index("sofa")]] == "couch"


def test_nothing_in_common_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'platlets' of the data is nearest to 'platelets'.*singleshot train"):
        match_classes(["platelets", "rbc"], ["platlets"])


@pytest.mark.parametrize(("model", "data"), [([], ["cat"]), (["cat"], [])])
def test_no_classes_at_all(model: list[str], data: list[str]) -> None:
    with pytest.raises(DataError, match="share no class"):
        match_classes(model, data)


@pytest.mark.parametrize(
    ("model", "data", "pairs", "loose"),
    [
        (["A", "B", "a", "b"], ["A", "B", "a", "b"], {"A": "A", "B": "B", "a": "a", "b": "b"}, []),
        (["b", "a", "B", "A"], ["A", "B", "a", "b"], {"A": "A", "B": "B", "a": "a", "b": "b"}, []),
        (["a b", "a_b", "a-b"], ["a-b", "a b", "a_b"], {"a-b": "a-b", "a b": "a b", "a_b": "a_b"}, []),
        (["tv"], ["tv", "TV"], {"tv": "tv"}, []),
        (["tv", "TV"], ["tv"], {"tv": "tv"}, []),
        (["tv", "tvmonitor"], ["tvmonitor", "tv"], {"tv": "tv", "tvmonitor": "tvmonitor"}, []),
        (["tv", "cat"], ["TV", "tvmonitor", "cat"], {"cat": "cat"}, []),  # either could be the model's tv
        (["Tv", "tV", "cat"], ["tv", "cat"], {"cat": "cat"}, []),
        (["Hot Dog", "cat"], ["cat", "hot_dog"], {"hot_dog": "Hot Dog", "cat": "cat"}, [("Hot Dog", "hot_dog")]),
        (["-", "cat"], ["_", "cat"], {"cat": "cat"}, []),
        (["STRASSE"], ["Straße"], {"Straße": "STRASSE"}, [("STRASSE", "Straße")]),
    ],
)  # fmt: skip
def test_names_of_one_side_never_collide(
    model: list[str], data: list[str], pairs: dict[str, str], loose: list[tuple[str, str]]
) -> None:
    match = match_classes(model, data)
    assert pairs_of(match, model, data) == pairs
    assert list(match.loose) == loose
    assert match.only_model == tuple(name for name in model if name not in pairs.values())
    assert match.only_data == tuple(name for name in data if name not in pairs)


def test_two_unicode_forms_of_a_name_are_one_class() -> None:
    composed, apart = (unicodedata.normalize(form, "Pfütze é") for form in ("NFC", "NFD"))
    assert composed != apart
    match = match_classes([composed], [apart])
    assert match.loose == ((composed, apart),)
    assert match_classes([composed, apart], [apart, composed]).model_ids == (1, 0)  # but both together are two


def test_what_only_differs_in_spelling_but_is_not_single_is_a_hint() -> None:
    with pytest.raises(DataError, match="'TV' of the data is nearest to 'Tv' of the model"):
        match_classes(["Tv"], ["tv", "TV"])


@given(NAMES, st.randoms(use_true_random=False))
def test_the_labels_themselves_score_one(names: list[str], random: object) -> None:
    """Whatever the names: a detector with the same classes, in any order, that answers with the labels is perfect."""
    model = list(names)
    random.shuffle(model)  # type: ignore[attr-defined]
    match = match_classes(model, names)
    assert (match.only_model, match.only_data, match.loose) == ((), (), ())
    count = len(names)
    boxes = np.tile([10.0, 10.0, 60.0, 60.0], (count, 1))
    truth = GroundTruth(np.zeros(count, int), np.arange(count), boxes, 1)
    own_ids = np.array([model.index(name) for name in names])
    table = DetectionTable(np.zeros(count, int), own_ids, boxes, np.full(count, 0.9))
    metrics = evaluate_detections(
        truth.relabel(match.data_to_shared(count)), table.relabel(match.model_to_shared(count)), count
    )
    assert metrics.voc_area == 1
    assert metrics.coco is not None
    assert metrics.coco.summary["AP"] == pytest.approx(1)


@given(NAMES, NAMES, st.randoms(use_true_random=False))
def test_order_and_sides_change_nothing(model: list[str], data: list[str], random: object) -> None:
    """The pairs are one to one, and the same for any order of the classes and seen from either side."""

    def pairs(first: list[str], second: list[str]) -> set[tuple[str, str]]:
        try:
            match = match_classes(first, second)
        except DataError:
            return set()
        assert len({*match.model_ids}) == len({*match.data_ids}) == len(match.names)
        return {(own, theirs) for theirs, own in pairs_of(match, first, second).items()}

    expected = pairs(model, data)
    assert {name for name in model if name in data} <= {own for own, theirs in expected if own == theirs}
    assert {(own, theirs) for theirs, own in pairs(data, model)} == expected
    for names in (model, data):
        random.shuffle(names)  # type: ignore[attr-defined]
    assert pairs(model, data) == expected
