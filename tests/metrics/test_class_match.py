from __future__ import annotations

import pytest

from singleshot.classes import COCO_NAMES, VOC_NAMES
from singleshot.errors import DataError
from singleshot.metrics.class_match import match_classes


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
