"""`Detector.export`: what the files of ONNX and OpenVINO find, what is refused, and what is left behind."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from singleshot.cli import app
from singleshot.core.postprocess import HeadGeometry
from singleshot.core.settings import PostprocessConfig
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, ImageError, OutputError, WeightsError
from singleshot.export import onnx_file
from singleshot.export.compiled import compiled_file
from singleshot.export.decoded import as_heads, geometry_of_decoded, settings_of_decoded
from singleshot.export.info import ExportInfo, read_metadata
from singleshot.export.int8_file import int8_path
from singleshot.export.onnx_nodes import OPSET
from singleshot.export.verify import BARS, Found, Verification, _Tally, counterparts
from singleshot.export.writers import WRITERS, ExportWish, plan_export
from singleshot.images.read import write_image
from singleshot.images.samples import sample_pictures
from singleshot.kernels.detect import CompiledForm
from singleshot.models.catalogue import MODELS, model_spec

SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}


def silent(line: str) -> None:
    """Notes are no concern here."""


@pytest.fixture(scope="module")
def detector(toy_weights: Path) -> Detector:
    return load(toy_weights)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, picture in enumerate(sample_pictures(4)[0]):
        write_image(folder / f"{number}.png", picture)
    return folder


def export(detector: Detector, out: Path, photos: Path, **how: Any) -> Any:
    return detector.export(out, images=photos, note=silent, **how)


CASES: list[dict[str, Any]] = [
    {"level": "raw"},
    {"level": "decoded"},
    {"level": "end2end"},
    {"level": "end2end", "dynamic": True},
    {"level": "end2end", "dynamic": True, "layout": "nchw"},
    {"level": "end2end", "dynamic": True, "precision": "fp16"},
]


@pytest.mark.parametrize("format", SUFFIX)
@pytest.mark.parametrize("how", CASES, ids=lambda how: " ".join(map(str, how.values())))
def test_a_file_finds_what_the_detector_finds(
    detector: Detector, tmp_path: Path, photos: Path, how: dict[str, Any], format: str
) -> None:
    how = {"precision": "fp32", **how}
    done = export(detector, tmp_path / f"toy{SUFFIX[format]}", photos, format=format, **how)
    seen = done.verification
    assert seen.agrees
    assert seen.boxes > 20
    assert seen.pictures == 4
    if how["precision"] == "fp32":
        assert seen.matched == seen.boxes == seen.file_boxes
        assert seen.score_difference < 1e-5
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in done.files}


@pytest.fixture(scope="module")
def whole(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("whole") / "toy.onnx"
    return detector.export(path, dynamic=True, verify=False, note=silent)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_batches_and_sizes_of_one_file(detector: Detector, whole: Any, batch: int) -> None:
    run = WRITERS.get("onnx").open(whole.path, whole.info)
    photo = sample_pictures(1)[0][0]
    for height, width in ((50, 70), (140, 90)):
        pictures = np.stack([photo[8 * n : 8 * n + height, 8 * n : 8 * n + width] for n in range(batch)])
        boxes, scores, class_ids, counts = run(pictures)
        for number, expected in enumerate(detector.predict(list(pictures), backend="torch")):
            count = int(counts[number])
            assert count == len(expected) > 0
            np.testing.assert_allclose(scores[number, :count], expected.scores, atol=1e-3)
            assert (class_ids[number, count:] == -1).all()
            ours = Found(expected.boxes_xyxy, expected.scores, expected.class_ids)
            theirs = Found(boxes[number, :count], scores[number, :count], class_ids[number, :count])
            mine, _, iou = counterparts(ours, theirs)
            assert len(mine) >= count - 1  # the last that fits is one of two equal ones
            assert (iou > 0.999).all()


def test_what_a_file_says(detector: Detector, whole: Any) -> None:
    model = onnx.load(whole.path)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import] == [OPSET]
    info, anchors = read_metadata({entry.key: entry.value for entry in model.metadata_props}, whole.path)
    assert (info, info.spec) == (whole.info, detector.spec)
    np.testing.assert_array_equal(anchors, detector.anchors().numpy())
    shapes = {
        end.name: [size.dim_param or size.dim_value for size in end.type.tensor_type.shape.dim]
        for end in (*model.graph.input, *model.graph.output)
    }
    assert shapes["pictures"] == ["batch", "height", "width", 3]
    assert shapes["boxes"] == ["batch", "detections", 4]
    assert shapes["counts"] == ["batch"]


def test_thresholds_can_be_given(detector: Detector, whole: Any) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(whole.path, options)
    picture = sample_pictures(1)[0][0]
    given = {"score_threshold": np.float32([0.1]), "nms_iou": np.float32([0.2]), "max_detections": np.int64([7])}
    boxes, scores, _, counts = session.run(None, {"pictures": picture[None], **given})
    expected = detector.predict(picture, 0.1, nms_iou=0.2, max_detections=7, backend="torch")
    assert boxes.shape == (1, 7, 4)
    assert counts[0] == len(expected) == 7
    np.testing.assert_allclose(scores[0], expected.scores, atol=1e-5)


def spoilt(package: Any, info: ExportInfo) -> onnx.ModelProto:
    """A model whose box codes are a little too large."""
    model = ORIGINAL(package, info)
    for name in ("box_codes",):
        model.graph.node.append(onnx.helper.make_node("Mul", [f"{name}/true", "spoilt"], [name]))
        for node in list(model.graph.node)[:-1]:
            for place, output in enumerate(node.output):
                if output == name:
                    node.output[place] = f"{name}/true"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1.5), "spoilt"))
    return model


ORIGINAL = onnx_file.onnx_model


def test_a_file_that_finds_something_else_is_an_error(
    detector: Detector, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "toy.onnx"
    path.write_bytes(b"good")
    monkeypatch.setattr(onnx_file, "onnx_model", spoilt)
    with pytest.raises(WeightsError, match=r"toy.onnx: does not find what the detector finds: 4 pictures.*was written"):
        export(detector, path, photos, level="raw", overwrite=True)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"good", ["toy.onnx"])


def test_nothing_is_overwritten(detector: Detector, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "toy.bin").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"toy.bin: exists already"):
        export(detector, tmp_path / "toy.xml", photos, format="openvino")
    with pytest.raises(OutputError, match="is a source of this run"):
        detector.export(photos / "0.png", images=photos, overwrite=True)


@pytest.mark.parametrize(
    ("settings", "wish", "message"),
    [
        ({}, {"format": "onx"}, "no export format 'onx'; did you mean onnx"),
        ({}, {"level": "half"}, "`level='half'`: ONNX offers end2end, decoded, raw"),
        ({}, {"precision": "fp8"}, "`precision='fp8'`: ONNX offers fp32, fp16, int8"),
        ({}, {"level": "raw", "dynamic": True}, "`dynamic=True` goes with `level='end2end'`"),
        ({}, {"level": "raw", "layout": "nhwc"}, "ONNX with `level='raw'` offers nchw"),
        ({"nms": "soft_linear"}, {}, "is greedy, and this detector's `postprocess.nms` is 'soft_linear'"),
        ({"nms_union_eps": 1e-5}, {"format": "openvino"}, "cannot go into OpenVINO: .*adds nothing to a union"),
        ({"class_agnostic": True}, {}, "takes one class of an anchor"),
    ],
)
def test_refusals(settings: dict[str, Any], wish: dict[str, Any], message: str) -> None:
    spec = model_spec("ssd300_vgg16", ("a", "b"))
    spec = spec.model_copy(update={"postprocess": PostprocessConfig(**settings)})
    with pytest.raises(ConfigError, match=message):
        plan_export(spec, ExportWish(**wish))


def test_a_resize_without_operators_is_refused_where_it_is_needed() -> None:
    spec = model_spec("ssd300_vgg16", ("a",))
    preprocess = spec.preprocess.model_copy(update={"resize": "linear_antialias"})
    spec = spec.model_copy(update={"preprocess": preprocess})
    with pytest.raises(ConfigError, match=r"preprocess.resize=linear_antialias"):
        plan_export(spec, ExportWish(dynamic=True))
    plan_export(spec, ExportWish())


@pytest.mark.parametrize("name", MODELS.names())
def test_every_preset_goes_into_onnx_and_openvino(name: str) -> None:
    spec = model_spec(name, ("a", "b"))
    for format in SUFFIX:
        for level in WRITERS.get(format).levels:
            plan_export(spec, ExportWish(format, level, dynamic=level == "end2end"))


def test_a_score_is_of_detections(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`score=0\.5` goes with `level='end2end'`"):
        detector.export(tmp_path / "a.onnx", level="raw", score=0.5)
    assert not list(tmp_path.iterdir())


def test_names_that_cannot_be(detector: Detector, toy_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"OpenVINO needs a name that ends in \.xml"):
        detector.export(tmp_path / "street", format="openvino")
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(toy_weights.read_bytes())
    info = compiled_file("onnx", weights).info.model_copy(update={"quantized": True})
    int8 = replace(compiled_file("onnx", weights), info=info).save(int8_path(weights, "onnx"))
    with pytest.raises(OutputError, match="is a source of this run"):
        load(weights).export(int8, precision="int8", overwrite=True)
    assert set(os.listdir(tmp_path)) == {weights.name, int8.name}


def test_int8_needs_its_file(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has no int8 file of its own; 'singleshot quantize .* makes it"):
        detector.export(tmp_path / "x.onnx", precision="int8")
    assert not list(tmp_path.iterdir())


def test_an_int8_export_says_how_it_was_calibrated(toy_weights: Path, tmp_path: Path) -> None:
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(toy_weights.read_bytes())
    package = compiled_file("onnx", weights)
    info = package.info.model_copy(update={"quantized": True, "quantization": {"images": 7.0}})
    replace(package, info=info).save(int8_path(weights, "onnx"))
    done = load(weights).export(precision="int8", level="raw", verify=False, note=silent)
    assert load(done.path).exported.info.quantization == {"images": 7.0}  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [WeightsError("differs"), KeyboardInterrupt()])
def test_folders_made_for_an_export_that_fails_go(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(type(WRITERS.get("onnx")), "write", fail)
    (tmp_path / "mine").mkdir()
    for out in ("a/b/c.onnx", "mine/d/e.onnx"):
        with pytest.raises(type(error)):
            detector.export(tmp_path / out)
    assert os.listdir(tmp_path) == ["mine"]
    assert not os.listdir(tmp_path / "mine")


def test_the_command(toy_weights: Path, detector: Detector, tmp_path: Path, photos: Path) -> None:
    command = ["export", str(toy_weights), "--out", str(tmp_path / "a.onnx")]
    done = CliRunner().invoke(app, [*command, "--level", "raw", "--images", str(photos)])
    assert done.exit_code == 0, done.output
    assert "Verified on 4 pictures (yours)" in done.output
    assert "a.onnx: 0.2 MB, raw, fp32" in done.output
    again = CliRunner().invoke(app, [*command, "--level", "raw"])
    assert (again.exit_code, "replace it with --overwrite" in again.output) == (2, True)
    bare = CliRunner().invoke(app, [*command, "--overwrite", "--no-verify"])
    assert (bare.exit_code, "not compared with the detector (--no-verify)" in bare.output) == (0, True)


def test_pictures_that_cannot_be_read_are_left_out(detector: Detector, tmp_path: Path, photos: Path) -> None:
    bad, notes = tmp_path / "bad.png", []
    bad.write_bytes(b"no picture")
    done = detector.export(tmp_path / "a.onnx", level="raw", images=[bad, photos / "0.png"], note=notes.append)
    assert done.verification.pictures == 1
    assert any(str(bad) in line and line.endswith("not compared on it") for line in notes)
    with pytest.raises(ImageError, match="none of the pictures to compare on can be read"):
        detector.export(tmp_path / "b.onnx", level="raw", images=[bad], note=silent)
    assert not (tmp_path / "b.onnx").exists()


def test_decoded_boxes_are_heads_again() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (2, 40, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(0, 20, (2, 40, 2)).astype(np.float32)], axis=-1)
    boxes[0, 0, 2:] = boxes[0, 0, :2]
    scores = rng.random((2, 40, 3)).astype(np.float32)
    scores[0, 0], scores[0, 1] = 1, 0
    settings = settings_of_decoded(PostprocessConfig(nms="none", max_detections=200, score_threshold=0), 3)
    geometry = geometry_of_decoded(40, (80, 80), 3)
    assert isinstance(geometry, HeadGeometry)
    found = CompiledForm(geometry)(as_heads(boxes, scores), settings)
    assert found.counts.tolist() == [117, 120]
    order = np.argsort(-scores[1].T.ravel(), kind="stable")
    np.testing.assert_allclose(found.scores[1], scores[1].T.ravel()[order], atol=1e-6)
    np.testing.assert_allclose(found.boxes_xyxy[1], np.tile(boxes[1], (3, 1))[order], atol=1e-3)


def found(*rows: tuple[int, int]) -> Found:
    """Boxes of 10 x 10 at some x, each of a class."""
    boxes = np.array([[x, 0, x + 10, 10] for x, _ in rows], np.float32).reshape(-1, 4)
    return Found(boxes, np.linspace(1, 0.5, len(rows), dtype=np.float32), np.array([c for _, c in rows], np.int64))


@pytest.mark.parametrize(
    ("ours", "theirs", "pairs"),
    [
        ((), (), []),
        (((0, 0),), (), []),
        (((0, 0),), ((0, 1),), []),
        (((0, 0),), ((20, 0), (0, 0)), [(0, 1)]),
        (((0, 0), (1, 0)), ((1, 0), (0, 0)), [(0, 1), (1, 0)]),
        (((0, 0), (0, 0)), ((0, 0),), [(0, 0)]),
        (((0, 0),), ((4, 0),), []),
    ],
)
def test_counterparts(ours: Any, theirs: Any, pairs: list[tuple[int, int]]) -> None:
    mine, yours, _ = counterparts(found(*ours), found(*theirs))
    assert list(zip(mine.tolist(), yours.tolist(), strict=True)) == pairs


def tallied(ours: Found, every: Found, theirs: Found) -> Verification:
    """What is made of two records of a picture, by a detector whose NMS takes boxes that overlap by .45."""
    tally = _Tally(0.95, 0.45)
    tally.add(ours, [ours], lambda: every, theirs, sure=0.3)
    return tally.result(1, "photos", 0.3, BARS["fp32"])


def one(x: float, score: float) -> Found:
    return Found(np.array([[x, 0, x + 10, 10]], np.float32), np.array([score], np.float32), np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("other", "theirs", "agrees"),
    [
        (one(2, 0.9), one(0, 0.9), True),
        (one(2, 0.9), one(2, 0.9 + 1e-5), True),  # rounding chose the other of two that score the same
        (one(2, 0.92), one(2, 0.92), False),  # the other one does not score the same
        (one(2, 0.9), one(2, 0.92), False),
        (one(6, 0.9), one(6, 0.9), False),  # NMS would have kept both
        (one(2, 0.9), one(0.3, 0.9), False),  # the same box, in another place
    ],
)
def test_which_of_two_equal_boxes_survives_is_rounding(other: Found, theirs: Found, agrees: bool) -> None:
    ours = one(0, 0.9)
    every = Found(*(np.concatenate(parts) for parts in zip(ours, other, strict=True)))
    seen = tallied(ours, every, theirs)
    assert seen.agrees is agrees
    assert seen.at_threshold == (agrees and theirs.boxes_xyxy[0, 0] > 0)
