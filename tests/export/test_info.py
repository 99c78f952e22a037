"""What a file says about itself comes back, and nothing else does."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from singleshot.errors import WeightsError
from singleshot.export.info import ANCHORS_KEY, KEY, ExportInfo, read_metadata, to_metadata
from singleshot.models.catalogue import model_spec

INFO = ExportInfo(
    kind="onnx", level="end2end", layout="nhwc", dynamic=True, spec=model_spec("ssd300_vgg16", ("a", "b"))
)
ANCHORS = np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])
TEXTS = to_metadata(INFO, ANCHORS)


def test_what_goes_in_comes_back() -> None:
    info, anchors = read_metadata(TEXTS, "x.onnx")
    assert info == INFO
    np.testing.assert_array_equal(anchors, ANCHORS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({KEY: None}, "not exported by singleshot"),
        ({KEY: ""}, "its description is damaged"),
        ({KEY: "{}"}, "its description is damaged: spec: is missing"),
        ({KEY: "x" * (2**22 + 1)}, "4,194,305 characters"),
        ({KEY: TEXTS[KEY].replace('"format":1', '"format":2')}, "format: must be 1"),
        ({ANCHORS_KEY: ""}, "default boxes are damaged"),
        ({ANCHORS_KEY: "&&&&"}, "default boxes are damaged"),
        ({ANCHORS_KEY: TEXTS[ANCHORS_KEY][:8]}, "default boxes are damaged"),
        ({ANCHORS_KEY: base64.b64encode(np.full((1, 4), np.nan, "<f4").tobytes()).decode()}, "boxes are damaged"),
        ({ANCHORS_KEY: "A" * (2**27)}, "too many default boxes"),
    ],
)
def test_what_is_damaged_is_said(changes: dict[str, str | None], message: str) -> None:
    texts = {key: text for key, text in (TEXTS | changes).items() if text is not None}
    with pytest.raises(WeightsError, match=f"x.onnx: .*{message}"):
        read_metadata(texts, "x.onnx")


@pytest.mark.parametrize(
    ("name", "level", "count"),
    [("ssd300_vgg16", "raw", 2), ("refinedet320_vgg16", "raw", 4), ("ssd300_vgg16", "decoded", 2)],
)
def test_names_of_outputs(name: str, level: str, count: int) -> None:
    info = ExportInfo.model_validate({"kind": "x", "level": level, "spec": model_spec(name, ("a",))})
    assert len(info.outputs) == count
