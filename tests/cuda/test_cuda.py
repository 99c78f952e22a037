"""What runs on a GPU gives what the CPU gives. Skipped where torch sees no GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import singleshot
from singleshot.core.settings import LossConfig, MatchConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.demo.scenes import make_scenes
from singleshot.export.graph_torch import postprocess_static
from singleshot.models.build import build_anchors, build_network
from singleshot.models.catalogue import model_spec
from singleshot.multibox.decode import postprocess
from singleshot.multibox.loss import multibox_loss
from singleshot.multibox.matching import match_anchors
from singleshot.multibox.refine import refine_loss
from singleshot.runtime.torch_engine import TorchEngine
from singleshot.runtime.torch_forward import build_forward
from singleshot.training.optimizer import freeze_parts
from singleshot.training.train import train
from singleshot.weights.file import read_state

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")

CUDA = torch.device("cuda")
SIZE = 300
ANCHORS = 2000
CLASSES = 4


def anchors() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(ANCHORS, 4, generator=generator) * torch.tensor([280, 280, 90, 90]) + 10


def objects(counts: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    most = max(counts)
    low = torch.rand(len(counts), most, 2, generator=generator) * 220
    boxes = torch.cat([low, low + 5 + torch.rand(low.shape, generator=generator) * 70], dim=2)
    valid = torch.arange(most) < torch.tensor(counts)[:, None]
    return boxes, torch.randint(0, CLASSES, (len(counts), most), generator=generator), valid


def heads(batch: int, refined: bool = False) -> HeadOutput | RefineOutput:
    generator = torch.Generator().manual_seed(3)

    def noise(columns: int) -> Tensor:
        return torch.randn(batch, ANCHORS, columns, generator=generator)

    if refined:
        return RefineOutput(noise(4), noise(CLASSES + 1) * 2, noise(4), noise(2))
    return HeadOutput(noise(4), noise(CLASSES + 1) * 2)


def on_gpu(tensors: Any) -> list[Tensor]:
    return [tensor.cuda() for tensor in tensors]


@pytest.mark.parametrize("counts", [[0, 0], [1, 0, 3], [40, 2, 17, 40]])
@pytest.mark.parametrize("forced", ["none", "bipartite", "last_wins"])
def test_matching(counts: list[int], forced: Any) -> None:
    boxes, _, valid = objects(counts)
    config = MatchConfig(forced=forced)
    on_cpu = match_anchors(anchors(), boxes, valid, config)
    found = match_anchors(anchors().cuda(), boxes.cuda(), valid.cuda(), config)
    assert torch.equal(found.object_index.cpu(), on_cpu.object_index)
    torch.testing.assert_close(found.best_iou.cpu(), on_cpu.best_iou, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "focal"])
@pytest.mark.parametrize("counts", [[0, 0], [1, 0, 3], [9, 2, 17, 4]])
def test_loss_and_gradients(kind: Any, counts: list[int]) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        output = HeadOutput(*(tensor.to(device).requires_grad_() for tensor in heads(len(counts))))
        scene = [tensor.to(device) for tensor in objects(counts)]
        loss = multibox_loss(output, anchors().to(device), *scene, loss=LossConfig(classification=kind))
        loss["total"].backward()
        losses.append([loss["total"].detach().cpu(), *(tensor.grad.cpu() for tensor in output)])
    for ours, theirs in zip(*losses, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_loss_of_two_steps() -> None:
    losses = []
    for device in ("cpu", "cuda"):
        output = heads(3, refined=True)
        assert isinstance(output, RefineOutput)
        scene = [tensor.to(device) for tensor in objects([2, 0, 7])]
        loss = refine_loss(RefineOutput(*(tensor.to(device) for tensor in output)), anchors().to(device), *scene)
        losses.append({name: float(value) for name, value in loss.items()})
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"score_threshold": 0.999999},
        {"class_agnostic": True},
        {"score_function": "sigmoid"},
        {"candidates": "best_class"},
        {"nms": "none"},
        {"clip": "before"},
        {"nms": "soft_gaussian"},
    ],
)
def test_postprocessing(refined: bool, settings: dict[str, Any]) -> None:
    output, config = heads(3, refined), PostprocessConfig(**({"score_threshold": 0.4, "pre_nms_top_k": 200} | settings))
    on_cpu = postprocess(output, anchors(), config, image_size_hw=(SIZE, SIZE))
    forms = [postprocess] if config.nms.startswith("soft") else [postprocess, postprocess_static]
    for form in forms:
        found = form(type(output)(*on_gpu(output)), anchors().cuda(), config, image_size_hw=(SIZE, SIZE))
        assert found.counts.tolist() == on_cpu.counts.tolist(), form.__name__
        torch.testing.assert_close(found.scores.cpu(), on_cpu.scores, rtol=0, atol=1e-5)
        assert torch.equal(found.class_ids.cpu(), on_cpu.class_ids)
        torch.testing.assert_close(found.boxes_xyxy.cpu(), on_cpu.boxes_xyxy, rtol=0, atol=1e-2)


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (7, 6, 8, 3), dtype=np.uint8)
    return [np.kron(image, np.ones((40, 50, 1), np.uint8)) for image in coarse]


@pytest.mark.parametrize(("precision", "difference"), [("fp32", 1e-3), ("bf16", 0.1)])
def test_the_bundled_detector(photos: list[np.ndarray], precision: Any, difference: float) -> None:
    model = singleshot.load("coco")
    options: dict[str, Any] = {"score_threshold": 0.0, "max_detections": 5}
    on_cpu = model.predict(photos, backend="torch", device="cpu", precision="fp32", **options)
    for batch in (1, 3, 7):
        found = model.predict(photos, device="cuda", precision=precision, batch_size=batch, **options)
        for ours, theirs in zip(found, on_cpu, strict=True):
            assert ours.scores.max() == pytest.approx(theirs.scores.max(), abs=difference)
    auto = model.predict(photos[0], **options)
    assert len(auto) == 5


def test_threads_share_a_detector(photos: list[np.ndarray]) -> None:
    model = singleshot.load("coco")
    alone = [model.predict(photo, 0.05, device="cuda", precision="fp32") for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(model.predict, photo, 0.05, device="cuda", precision="fp32") for photo in photos * 5]
        together = [job.result() for job in jobs]
    for ours, theirs in zip(together, alone * 5, strict=True):
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)


@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssd300_resnet50", "ssdlite320_mobilenet_v3_large"])
def test_heads_of_networks(name: str) -> None:
    spec = model_spec(name, ("a", "b"))
    torch.manual_seed(0)
    network = build_network(spec.network).eval()
    size = spec.preprocess.size_hw
    batch = np.random.default_rng(0).normal(0, 1, (2, 3, *size)).astype(np.float32)
    forward = build_forward(network, size, CUDA, "fp32", compiled=False)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(batch))
        found = [tensor.float().cpu() for tensor in forward(batch)]
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours - theirs).norm() < 1e-4 * theirs.norm()
    settings = spec.postprocess.model_copy(update={"score_threshold": 0.2})
    engine = TorchEngine(forward, build_anchors(spec, network), spec.coder, 2)
    assert engine.predict(batch[:1], settings).found.counts.shape == (1,)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes", count=24, size_hw=(120, 160))


@pytest.mark.parametrize("amp", ["auto", "fp32", "fp16"])
def test_training_learns(scenes: Path, tmp_path: Path, amp: str) -> None:
    settings = {"size_hw": [128, 128], "workers": 2, "amp": amp, "evaluation.every": 0, "log_every": 1}
    result = train(scenes, out=tmp_path / "run", steps=12, batch_size=8, settings=settings)
    state = read_state(result.folder / "last.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())
    resumed = train(out=result.folder, resume=True, steps=14)
    assert resumed.steps == 14
    assert len(resumed.load().predict(np.zeros((50, 60, 3), np.uint8), 0.0, max_detections=3)) == 3


def test_frozen_parts_stay(scenes: Path, tmp_path: Path) -> None:
    settings = {"size_hw": [128, 128], "workers": 0, "freeze": ["backbone"], "evaluation.every": 0}
    result = train(scenes, out=tmp_path / "run", steps=3, batch_size=4, settings=settings)
    before, after = read_state(singleshot.weights.bundled.bundled_path("coco")), read_state(result.last)
    network = build_network(singleshot.load("coco").spec.network)
    for name in freeze_parts(network, ("backbone",)):
        torch.testing.assert_close(after[name].float(), before[name].float(), rtol=1e-3, atol=1e-3)
