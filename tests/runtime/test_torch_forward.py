"""How torch runs a network: fixed buffers, what is recorded, compiled or shared; the GPU's recording has a stand-in."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput
from singleshot.detector import Detector
from singleshot.errors import ConfigError
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import ModelSpec
from singleshot.runtime import choose, torch_forward
from singleshot.runtime import torch_engine as runtime_torch
from singleshot.runtime.base import EngineBackend
from singleshot.runtime.choose import choose_plan
from singleshot.runtime.registry import Wish
from singleshot.runtime.source import Source, StoredNetwork
from singleshot.runtime.torch_engine import TorchEngine
from singleshot.runtime.torch_forward import (
    Compute,
    EagerForward,
    StaticForward,
    build_forward,
    check_compiler,
    prepare_network,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SIZE = (96, 96)
HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return model_spec("ssdlite300_mobilenet_v2", ("cat", "dog", "bird"), SIZE)


@pytest.fixture
def source(spec: ModelSpec) -> Source:
    return Source(spec, None, StoredNetwork(spec, {}))


@pytest.fixture
def detector(spec: ModelSpec) -> Detector:
    torch.manual_seed(0)
    return Detector(spec, build_network(spec.network).state_dict())


def batch_of(count: int, size_hw: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(count).normal(0, 1, (count, 3, *size_hw)).astype(np.float32)


def heads(images: Tensor) -> HeadOutput:
    """Heads that tell which image they belong to."""
    means = images.mean(dim=(1, 2, 3))[:, None, None]
    return HeadOutput(means.expand(-1, 5, 4).contiguous(), means.expand(-1, 5, 3).contiguous())


class Recorder:
    """Stands in for a CUDA graph: what was recorded writes each result over the last one."""

    def __init__(self) -> None:
        self.recorded: list[int] = []
        self.replayed: list[int] = []

    def __call__(self, compute: Compute) -> Compute:
        fixed = compute()
        self.recorded.append(len(fixed[0]))

        def replay() -> HeadOutput:
            self.replayed.append(len(fixed[0]))
            for old, new in zip(fixed, compute(), strict=True):
                old.copy_(new)
            return HeadOutput(*fixed[:2])

        return replay


def test_batches_are_padded_and_cut_and_each_shape_is_recorded_once() -> None:
    recorder = Recorder()
    forward = StaticForward(heads, CPU, "fp32", recorder, "stand-in")
    steps = [(3, 3), (2, 3), (0, 3), (3, 3), (1, 3), (5, 5), (4, 5), (2, 3), (5, 5)]
    for count, size in steps:
        batch = batch_of(count)
        output = forward(batch)
        assert recorder.replayed[-1] == size
        assert [tensor.shape for tensor in output] == [(count, 5, 4), (count, 5, 3)]
        np.testing.assert_allclose(output[0][:, 0, 0], batch.mean(axis=(1, 2, 3)), atol=1e-6)
    assert recorder.recorded == [3, 5]
    forward(batch_of(2, (32, 64)))
    assert recorder.recorded == [3, 5, 2]


def test_a_batch_of_none_may_come_first() -> None:
    assert StaticForward(heads, CPU, "fp32", Recorder(), "stand-in")(batch_of(0))[0].shape == (0, 5, 4)


def test_threads_wait_for_each_other() -> None:
    """The heads of one thread's batch are not those of another's, although all lie in the same buffer."""

    def slow(compute: Compute) -> Compute:
        replay = Recorder()(compute)

        def wait() -> HeadOutput:
            output = replay()
            time.sleep(0.002)
            return HeadOutput(*output[:2])

        return wait

    def logits(images: Tensor) -> HeadOutput:
        return HeadOutput(torch.zeros(len(images), 1, 4), images[:, :2, 0, :1].transpose(1, 2).contiguous())

    forward = StaticForward(logits, CPU, "fp32", slow, "stand-in")
    settings = PostprocessConfig(score_threshold=0.0)
    engine = TorchEngine(forward, torch.full((1, 4), 0.5), CoderConfig(), 1)
    batches = [np.full((1, 3, 2, 2), 0, np.float32) for _ in range(24)]
    for index, batch in enumerate(batches):
        batch[:, 1] = index / 8
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda batch: engine.predict(batch, settings).found, batches))
    scores = [float(item.scores[0, 0]) for item in found]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.arange(24) / 8)), atol=1e-5)


@torch.inference_mode()
def test_static_and_eager_agree(detector: Detector) -> None:
    network = prepare_network(detector.network, SIZE, CPU, "fp32")
    eager, static = EagerForward(network), StaticForward(network, CPU, "fp32", Recorder(), "stand-in")
    for count in (2, 1):
        for ours, theirs in zip(static(batch_of(count)), eager(batch_of(count)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_network_stays_as_it_is(detector: Detector, precision: str) -> None:
    network = detector.network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    ready = prepare_network(network, SIZE, CPU, precision)  # type: ignore[arg-type]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    after = network.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
        assert after[name].dtype == tensor.dtype
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_needs_no_change_is_shared() -> None:
    network = build_network(model_spec("ssd300_vgg16", ("a",)).network)
    ready = prepare_network(network.eval(), (300, 300), CPU, "fp32")
    theirs = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert {tensor.data_ptr() for tensor in ready.state_dict().values()} == theirs


@torch.inference_mode()
def test_bf16_is_close(detector: Detector) -> None:
    fp32 = build_forward(detector.network, SIZE, CPU, "fp32", compiled=False)(batch_of(2))
    forward = build_forward(detector.network, SIZE, CPU, "bf16", compiled=False)
    assert forward.name == "torch bf16"
    for ours, theirs in zip(forward(batch_of(2)), fp32, strict=True):
        assert 0 < float((ours.float() - theirs).abs().max()) < 0.1 * float(theirs.abs().max())


def test_thresholds_do_not_prepare_the_network_again(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []

    def counted(*arguments: object) -> object:
        built.append(arguments[2:])
        return build_forward(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runtime_torch, "build_forward", counted)
    for score in (0.3, 0.5, 0.3):
        detector.predictor(score, backend="torch", device="cpu")
    assert len(built) == 1
    detector.predictor(0.3, backend="torch", device="cpu", precision="bf16")
    assert len(built) == 2


def _with_no_grad(network: nn.Module) -> None:
    with torch.no_grad():
        next(network.parameters()).mul_(2)


def _through_data(network: nn.Module) -> None:
    next(network.parameters()).data.mul_(2)


def _by_loading(network: nn.Module) -> None:
    network.load_state_dict({name: 2 * tensor for name, tensor in network.state_dict().items()})


def _by_a_step(network: nn.Module) -> None:
    network.train()
    parameter = next(network.parameters())
    parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD([parameter], lr=1.0).step()


def _by_another_module(network: nn.Module) -> None:
    name, first = next(item for item in network.named_modules() if isinstance(item[1], nn.Conv2d))
    other = type(first)(first.in_channels, first.out_channels, first.kernel_size, first.stride, first.padding)
    network.set_submodule(name, other)


def _by_another_tensor(network: nn.Module) -> None:
    parameter = next(network.parameters())
    parameter.data = parameter.data * 2


@pytest.mark.parametrize(
    "change", [_with_no_grad, _through_data, _by_loading, _by_a_step, _by_another_module, _by_another_tensor]
)
def test_a_network_that_the_user_changes_is_prepared_again(
    detector: Detector, change: Callable[[nn.Module], None]
) -> None:
    def scores() -> np.ndarray:
        return detector.predictor(0.01, backend="torch", device="cpu").backend.predict(batch_of(1)).found.scores

    detector.network  # noqa: B018 # the user holds it from now on
    first = scores()
    kept = detector.predictor(0.01, backend="torch", device="cpu").backend.engine
    assert detector.predictor(0.02, backend="torch", device="cpu").backend.engine is kept
    change(detector.network)
    assert not np.array_equal(scores(), first)


@pytest.mark.parametrize(
    ("asked", "device", "has_bf16", "expected"),
    [
        ("auto", CPU, True, "fp32"),
        ("bf16", CPU, False, "bf16"),
        ("auto", CUDA, True, "bf16"),
        ("auto", CUDA, False, "fp32"),
        ("fp32", CUDA, True, "fp32"),
        ("bf16", CUDA, True, "bf16"),
        ("auto", torch.device("mps"), True, "fp32"),
    ],
)
def test_precision(
    monkeypatch: pytest.MonkeyPatch, source: Source, asked: str, device: torch.device, has_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    monkeypatch.setattr(choose, "choose_device", lambda name: device)
    plan = choose_plan(source, Wish("torch", asked))
    assert (plan.runtime, plan.precision, plan.device) == ("torch", expected, str(device))


def test_bf16_on_a_gpu_without_it(monkeypatch: pytest.MonkeyPatch, source: Source) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(choose, "choose_device", lambda name: CUDA)
    with pytest.raises(ConfigError, match="`precision='bf16'`: torch does not compute in it on cuda; use 'fp32'"):
        choose_plan(source, Wish("torch", "bf16"))


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, detector: Detector) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"'no-such-compiler' is not there: install one .*g\+\+"):
        detector.predictor(backend="torch", device="cpu", compile=True)


def test_no_triton_and_no_gpu_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(torch_forward, "find_spec", lambda name: None)
    check_compiler(CPU)
    with pytest.raises(ConfigError, match="pip install triton"):
        check_compiler(CUDA)
    with pytest.raises(ConfigError, match="not on mps"):
        check_compiler(torch.device("mps"))


@pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler")
def test_what_torch_cannot_compile(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(images: Tensor) -> None:
        raise torch._dynamo.exc.TorchDynamoException("no Python.h\nand a trace")

    monkeypatch.setattr(torch, "compile", lambda network, dynamic: fails)
    with pytest.raises(ConfigError, match=r"cannot compile this network here \(no Python\.h\): leave it out"):
        detector.predict(np.zeros((40, 60, 3), np.uint8), backend="torch", device="cpu", compile=True)


@pytest.mark.heavy
@pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler")
def test_compiled_finds_the_same() -> None:
    class Small(nn.Module):
        """Little to compile."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 14, 3, 8)

        def forward(self, images: Tensor) -> HeadOutput:
            rows = self.conv(images).relu().permute(0, 2, 3, 1).reshape(len(images), -1, 7)
            return HeadOutput(rows[..., :4], rows[..., 4:])

    torch.manual_seed(0)
    network = Small().eval()
    compiled = StaticForward(torch_forward._compiled(network), CPU, "fp32", torch_forward.capture_nothing, "compiled")
    anchors = torch.rand(2 * 12 * 12, 4, generator=torch.Generator().manual_seed(0)) * 90 + 1
    settings = PostprocessConfig(score_threshold=0.4)
    found = [
        [TorchEngine(forward, anchors, CoderConfig(), 2).predict(batch_of(count), settings).found for count in (3, 2)]
        for forward in (EagerForward(network), compiled)
    ]
    for theirs, ours in zip(*found, strict=True):
        assert ours.counts.tolist() == theirs.counts.tolist()
        assert ours.counts.min() > 0
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
        np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=1e-3)


def test_anchors_and_names(spec: ModelSpec, detector: Detector) -> None:
    backend = detector.predictor(backend="torch", device="cpu").backend
    assert backend.name == "torch fp32"
    assert isinstance(backend, EngineBackend)
    assert isinstance(backend.engine, TorchEngine)
    assert backend.device == "cpu"
    assert len(build_anchors(spec, detector.network)) == detector.network(torch.zeros(1, 3, *SIZE))[0].shape[1]
    with pytest.raises(ConfigError, match="`precision='int8'` runs with `backend='openvino'` or `backend='onnx'`"):
        detector._engines.open(Wish("torch", "int8"))
