"""Compiled networks: files, cache, the choice of a backend, and that each finds what torch finds."""

from __future__ import annotations

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy import NAMES, SIZE

from singleshot.core.settings import PostprocessConfig
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, WeightsError
from singleshot.export import cache
from singleshot.export.compiled import compiled_file
from singleshot.export.int8_file import int8_path
from singleshot.export.package import Package, PackageInfo, check_kind, read_info, read_package
from singleshot.images.read import write_image
from singleshot.kernels import detect
from singleshot.models.catalogue import model_spec
from singleshot.runtime import choose
from singleshot.runtime.base import EngineBackend
from singleshot.runtime.registry import Wish

pytest.importorskip("openvino")

pytestmark = pytest.mark.usefixtures("cache_folder")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    paths = [folder / f"{index}.png" for index in range(12)]
    for path in paths:
        write_image(path, rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    return paths


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (count, 3, *SIZE)).astype(np.float32)


def same_as_torch(detector: Detector, backend: str, batch: np.ndarray, **changes: object) -> int:
    settings = detector.spec.postprocess.model_copy(update={"score_threshold": 0.3, **changes})
    engines = detector._engines
    theirs = engines.open(Wish("torch", "fp32")).predict(batch, settings).found
    ours = engines.open(Wish(backend, "fp32", parallel=True)).predict(batch, settings).found  # type: ignore[arg-type]
    assert ours.counts.tolist() == theirs.counts.tolist()
    for row, count in enumerate(ours.counts):
        np.testing.assert_allclose(ours.scores[row, :count], theirs.scores[row, :count], atol=1e-4)
        np.testing.assert_allclose(ours.boxes_xyxy[row, :count], theirs.boxes_xyxy[row, :count], atol=0.05)
    return int(ours.counts.sum())


@pytest.fixture(params=["compiled", "no compiler"])
def postprocessing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the C form of postprocessing, and without."""
    if request.param == "no compiler":
        monkeypatch.setattr(detect, "_function", lambda: None)
    elif not detect.fits(PostprocessConfig()):
        pytest.skip("no C compiler here")
    return str(request.param)


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
@pytest.mark.usefixtures("postprocessing")
def test_finds_what_torch_finds(weights: Path, backend: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    detector = load(weights)
    assert same_as_torch(detector, backend, images(1)) > 0
    assert same_as_torch(detector, backend, images(3)) > 0
    assert same_as_torch(detector, backend, images(2), pre_nms_top_k=5) > 0
    assert same_as_torch(detector, backend, images(2), nms="soft_gaussian", max_per_class=5) > 0


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_compiler_changes_nothing(weights: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = images(3)
    compiled = load(weights).predictor(0.3, backend=backend, precision="fp32").detect(batch)  # type: ignore[arg-type]
    monkeypatch.setattr(detect, "_function", lambda: None)
    plain = load(weights).predictor(0.3, backend=backend, precision="fp32").detect(batch)  # type: ignore[arg-type]
    size = int(compiled.counts.max())
    assert compiled.counts.tolist() == plain.counts.tolist()
    assert size > 0
    np.testing.assert_array_equal(compiled.class_ids, plain.class_ids[:, :size])
    np.testing.assert_allclose(compiled.scores, plain.scores[:, :size], atol=1e-6)
    np.testing.assert_allclose(compiled.boxes_xyxy, plain.boxes_xyxy[:, :size], rtol=1e-5, atol=1e-3)


@pytest.mark.usefixtures("postprocessing")
def test_batches_of_several_sizes_and_threads(weights: Path) -> None:
    backend = load(weights).predictor(0.3, backend="openvino", precision="fp32").backend
    batch = images(5)
    alone = [backend.predict(batch[index : index + 1]).found for index in range(5)]
    with ThreadPoolExecutor(3) as pool:
        sizes = [slice(0, 1), slice(0, 5), slice(2, 5), slice(4, 5), slice(0, 4)] * 3
        for which, found in zip(sizes, pool.map(lambda which: backend.predict(batch[which]).found, sizes), strict=True):
            assert found.counts.tolist() == [int(item.counts[0]) for item in alone[which]]


def test_precisions_are_close(weights: Path, photos: list[Path]) -> None:
    detector = load(weights)
    counts = {
        name: sum(len(found) for found in detector.predict(photos, backend=backend, precision=precision))
        for name, backend, precision in (
            ("a", "openvino", "fp32"), ("b", "openvino", "bf16"), ("c", "torch", "bf16"), ("d", "torch", "fp32")
        )
    }  # fmt: skip
    assert counts["a"] == counts["d"] > 0
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_a_changed_network_is_what_runs(weights: Path) -> None:
    detector = load(weights)
    image = np.zeros((40, 60, 3), np.uint8)
    assert len(detector.predict(image, backend="openvino", precision="fp32"))
    for name, parameter in detector.network.named_parameters():
        if "logits" in name:
            parameter.data.zero_()
    assert len(detector.predict(image, score=0.5, backend="openvino", precision="fp32")) == 0


def test_pooling_that_rounds_up_can_be_int8(weights: Path) -> None:
    xml, _ = compiled_file("openvino", weights).parts
    assert b'rounding_type="ceil"' in xml
    assert b"ceil_torch" not in xml


def test_the_cache_is_used_and_mended(weights: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_file("openvino", weights)
    (entry,) = (cache_folder / "compiled").glob("openvino-*")
    entry.write_bytes(entry.read_bytes()[:1000])
    assert compiled_file("openvino", weights).info.spec.class_names == NAMES
    assert read_info(entry) is not None
    monkeypatch.setattr("singleshot.export.compiled.convert_file", lambda *_: pytest.fail("converted again"))
    compiled_file("openvino", weights)


def test_other_weights_have_other_entries(weights: Path) -> None:
    assert cache.cached_path("openvino", "a") != cache.cached_path("openvino", "b")
    assert cache.cached_path("openvino", "a") != cache.cached_path("onnx", "a")


def test_other_code_has_other_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache.cached_path("onnx", "a")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "heads.py").write_text("old")
    old = cache.makers_sha256(tmp_path)
    (tmp_path / "models" / "heads.py").write_text("new")
    cache.makers_sha256.cache_clear()
    assert cache.makers_sha256(tmp_path) != old
    monkeypatch.setattr(cache, "makers_sha256", lambda: old)
    assert cache.cached_path("onnx", "a") != before


def test_the_cache_forgets_what_was_not_used(tmp_path: Path) -> None:
    import os

    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / f"{name}{cache.SUFFIX}"
        path.write_bytes(b"0" * 100)
        os.utime(path, (1000 - age, 1000 - age))
    cache.prune(tmp_path, max_bytes=250)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["middle", "new"]
    cache.prune(tmp_path, max_bytes=0)
    assert [path.stem for path in tmp_path.iterdir()] == ["new"]


def package() -> Package:
    info = PackageInfo(kind="onnx", spec=model_spec("ssd300_vgg16", NAMES), weights_sha256="12")
    return Package(info, np.arange(8, dtype=np.float32).reshape(2, 4), (b"graph",))


def test_a_package_reads_back(tmp_path: Path) -> None:
    path = package().save(tmp_path / "p")
    again = read_package(path)
    assert again.info.model_copy(update={"parts_sha256": {}}) == package().info
    assert again.parts == package().parts
    assert np.array_equal(again.anchors_cxcywh, package().anchors_cxcywh)
    assert path.read_bytes() == package().save(tmp_path / "q").read_bytes()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text"])
def test_damaged_packages_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a compiled network"):
        read_info(path)
    assert read_info(tmp_path / "missing") is None
    with pytest.raises(WeightsError, match="not a compiled network"):
        read_package(path)
    with pytest.raises(WeightsError, match="no such file"):
        read_package(tmp_path / "missing")


def test_auto_prefers_what_is_ready(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path))
    monkeypatch.setattr(choose, "has_gpu", lambda: False)

    def choice(images: int, **changes: object) -> str:
        return load(copy).predictor(0.3, images=images, **changes).backend.name.split()[0]  # type: ignore[arg-type]

    assert choice(1) == "torch"
    assert choice(choose.COMPILE_FROM) == "openvino"
    assert choice(1) == "openvino"
    assert choice(1, backend="torch") == "torch"
    detector = Detector(load(copy).spec, load(copy).network.state_dict())
    assert detector.predictor(0.3, images=10_000).backend.name == "torch fp32"


@pytest.mark.parametrize(("loss", "chosen"), [(0.0, True), (0.0015, True), (0.0025, False)])
def test_auto_leaves_lossy_int8_alone(weights: Path, tmp_path: Path, loss: float, chosen: bool) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    package = compiled_file("openvino", copy)
    measured = {"fp32_AP": 0.25, "int8_AP": 0.25 - loss}
    info = package.info.model_copy(update={"quantized": True, "quantization": measured})
    replace(package, info=info).save(int8_path(copy))
    assert load(copy).predictor(0.3, backend="openvino").backend.name.endswith("int8") is chosen
    assert load(copy).predictor(0.3, backend="openvino", precision="int8").backend.name == "openvino int8"


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_int8_needs_a_calibrated_file(
    weights: Path, photos: list[Path], tmp_path: Path, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("nncf")
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    from singleshot.export.quantize import quantize_package

    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    kind = check_kind(backend)
    with pytest.raises(ConfigError, match="singleshot quantize"):
        load(copy).predict(photos[0], backend=kind, precision="int8")
    with pytest.raises(ConfigError, match="at least 10 images"):
        quantize_package(compiled_file(kind, copy), photos[:9])
    (tmp_path / "broken.jpg").write_bytes(photos[0].read_bytes()[:40])
    with caplog.at_level(logging.WARNING, "singleshot.export.quantize"):
        package = quantize_package(compiled_file(kind, copy), [*photos, tmp_path / "broken.jpg"])
    assert [record.name for record in caplog.records if "broken.jpg" in record.getMessage()] == [
        quantize_package.__module__
    ]
    assert package.info.quantization["images"] == len(photos)
    package.save(int8_path(copy, kind))
    predictor = load(copy).predictor(0.3, backend=kind)
    assert predictor.backend.name == f"{backend} int8"
    float_count = sum(map(len, load(copy).predict(photos, backend=kind, precision="fp32")))
    int8_count = sum(map(len, load(copy).predict(photos, backend=kind)))
    assert 0.5 * float_count < int8_count < 2 * float_count
    changed = {name: tensor * 1.01 for name, tensor in load(copy).network.state_dict().items()}
    Detector(load(copy).spec, changed).save(copy)
    with pytest.raises(ConfigError, match="is of other weights"):
        load(copy).predict(photos[0], backend=kind, precision="int8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "tensorrt"}, "`backend='tensorrt'`: unknown; choose from auto, torch"),
        ({"precision": "fp8"}, "`precision='fp8'`: unknown; choose from"),
        ({"backend": "torch", "precision": "int8"}, "not with torch"),
        ({"backend": "onnx", "precision": "bf16"}, "ONNX Runtime has none"),
        ({"precision": "int8"}, "small.int8.openvino is missing, .*singleshot quantize"),
    ],
)
def test_mistakes(weights: Path, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(weights).predictor(0.3, **arguments)  # type: ignore[arg-type]


def test_names() -> None:
    assert Wish("openvino", "int8").backend == "openvino"
    with pytest.raises(ConfigError, match="choose from openvino, onnx"):
        check_kind("torch")


@pytest.mark.parametrize("kernels", ["on", "off"])
def test_a_compiled_detector_needs_no_torch(
    weights: Path, photos: list[Path], kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGLESHOT_KERNELS", kernels)
    compiled_file("openvino", weights)
    program = (
        "import sys; from singleshot.detector import load;"
        f"found = load({str(weights)!r}).predict([{str(photos[0])!r}, {str(photos[1])!r}]);"
        "assert len(found) == 2; assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_small_batches_that_go_on_coming_get_a_model_of_their_own(weights: Path) -> None:
    """A folder's last batch is padded to the others' size, which is sooner done than compiling; a habit is not."""
    pytest.importorskip("openvino")
    detector = load(weights)
    engine = detector._engines.open(Wish("openvino", "fp32"))
    backend = EngineBackend(engine, detector.spec.postprocess)
    batch = images(8)
    many = backend.predict(batch).found
    alone = [backend.predict(batch[:1]).found for _ in range(4)]
    assert sorted(engine._models) == [1, 8]  # type: ignore[attr-defined]
    assert len(backend.predict(batch[:5]).found.counts) == 5
    assert sorted(engine._models) == [1, 8]  # type: ignore[attr-defined]
    for found in alone:
        count = found.counts[0]
        assert count == many.counts[0]
        np.testing.assert_allclose(found.scores[0, :count], many.scores[0, :count], atol=1e-5)
