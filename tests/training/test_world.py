"""Processes that learn together equal one process: messages, losses, BatchNorm, gradients, guard and evaluation.

One session of two forked processes answers for the whole module.
"""

from __future__ import annotations

import copy
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from engine_fakes import FileStore
from torch import Tensor, nn

from ranks import together
from singleshot.core.settings import CoderConfig, PreprocessConfig
from singleshot.core.structures import Batch, HeadOutput, RefineOutput, Sample
from singleshot.errors import ConfigError, ImageError, SingleshotError
from singleshot.evaluation.collect import detect_samples, detect_share
from singleshot.images.normalise import ImageNormalizer
from singleshot.models.fast_norm import ConvBlock
from singleshot.models.mxnet_norm import MXNetBatchNorm2d
from singleshot.models.shared_norm import SharedBatchNorm2d, share_norms
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Failure
from singleshot.training.build import criterion
from singleshot.training.checkpoint import Learner
from singleshot.training.config import TrainConfig
from singleshot.training.devices import _kind
from singleshot.training.ema import Ema
from singleshot.training.guards import LossGuard, NonFiniteLossError
from singleshot.training.job import Job, notes_of
from singleshot.training.launch import _as_it_was, _failed, _heard, parse_devices
from singleshot.training.loop import Trainer
from singleshot.training.optimizer import build_optimizer
from singleshot.training.optimizer_config import OptimizerConfig, ScheduleConfig
from singleshot.training.parts import Intervals, NoStore
from singleshot.training.running import _told_once
from singleshot.training.sampler import EpochOrder
from singleshot.training.schedule import RunLength
from singleshot.training.train import train
from singleshot.training.worker_processes import WorkerError
from singleshot.training.world import ALONE, LostError, StoppedError, World, is_lost_connection, open_world

CPU = torch.device("cpu")
SIDE, BATCH, STEPS = 32, 5, 8


class Small(nn.Module):
    """64 anchors, 2 classes and background; with ``refines`` the first of RefineDet's two steps, too."""

    def __init__(
        self, norm: type[nn.BatchNorm2d] | None, refines: bool = False, act: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.body = ConvBlock()
        self.body.add_module("conv", nn.Conv2d(3, 6, 3, 4, 1, bias=norm is None))
        if norm is not None:
            self.body.add_module("bn", norm(6))
        self.body.add_module("act", act())
        self.head = nn.Conv2d(6, 4 + 3, 3, 1, 1)
        self.arm = nn.Conv2d(6, 4 + 2, 3, 1, 1) if refines else None

    def forward(self, images: Tensor) -> HeadOutput | RefineOutput:
        maps = self.body(images)
        final = self.head(maps).flatten(2).permute(0, 2, 1)
        if self.arm is None:
            return HeadOutput(final[..., :4], final[..., 4:])
        first = self.arm(maps).flatten(2).permute(0, 2, 1)
        return RefineOutput(final[..., :4], final[..., 4:], first[..., :4], first[..., 4:])


NETWORKS: dict[str, Any] = {
    "no norm": lambda: Small(None),
    "kernel": lambda: Small(nn.BatchNorm2d),
    "plain form": lambda: Small(nn.BatchNorm2d, act=nn.SiLU),
    "mxnet": lambda: Small(MXNetBatchNorm2d),
    "two steps": lambda: Small(nn.BatchNorm2d, refines=True),
}


class Parts:
    """A process's parts of batches of 5: every third image has no objects."""

    images_per_epoch, batch_size = 20, BATCH

    def __init__(self, world: World) -> None:
        self.world = world

    def stream(self, first_batch: int) -> Iterator[Batch]:
        number = first_batch
        while True:
            g = torch.Generator().manual_seed(number)
            corners = torch.rand((BATCH, 3, 2), generator=g) * 16
            batch = Batch(
                images=torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), generator=g, dtype=torch.uint8),
                boxes_xyxy=torch.cat([corners, corners + 4 + torch.rand((BATCH, 3, 2), generator=g) * 10], dim=-1),
                class_ids=torch.randint(0, 2, (BATCH, 3), generator=g),
                valid=torch.rand((BATCH, 3), generator=g) * (torch.arange(BATCH) % 3 > 0)[:, None] > 0.4,
                indices=torch.arange(BATCH) + BATCH * number,
            )
            part = self.world.part(BATCH)
            yield Batch(*(tensor[part] for tensor in batch))
            number += 1


def learn(world: World, kind: str, folder: Path, shares: bool = True, steps: int = STEPS) -> dict[str, Any]:
    """Losses of steps of 2 forwards each, and what the network and its average are then."""
    torch.manual_seed(7)
    network = NETWORKS[kind]().to(memory_format=torch.channels_last)
    if shares and world.size > 1:
        share_norms(network, world)
    optimizer = OptimizerConfig(name="sgd", lr=0.01)
    learner = Learner(network, build_optimizer(network, optimizer, 0.01), Ema(network, 0.9))
    centres = torch.arange(2, SIDE, 4.0)
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).reshape(-1, 2)
    anchors = torch.cat([grid, torch.full_like(grid, 9.0)], dim=1)
    norms = [m for n in (network, learner.ema.network) for m in n.modules() if isinstance(m, nn.BatchNorm2d)]  # type: ignore[union-attr]
    own = [t for m in norms if type(m) is not SharedBatchNorm2d for t in (m.running_mean, m.running_var)]
    losses: list[float] = []
    trainer = Trainer(
        learner=learner,
        criterion=criterion(anchors, CoderConfig(), TrainConfig(), (SIDE, SIDE), world),
        batches=Parts(world),
        normalizer=ImageNormalizer(PreprocessConfig(size_hw=(SIDE, SIDE), std=(60, 60, 60)), CPU),
        length=RunLength("steps", steps, 2),
        schedule=ScheduleConfig(),
        guard=LossGuard(str, world=world),
        store=FileStore(folder) if world.is_first else NoStore(),
        intervals=Intervals(log=1),
        accumulate=2,
        observers=[
            SimpleNamespace(
                on_step=lambda r: losses.append(r.losses["total"]), on_evaluation=lambda r: None, close=lambda: None
            )
        ],
        world=world,
        own_statistics=own,  # type: ignore[arg-type]
    )
    assert trainer.fit() == "finished"
    states = {"network": learner.network.state_dict(), "ema": learner.ema.network.state_dict()}  # type: ignore[union-attr]
    return {"losses": losses, "states": copy.deepcopy(states), "time": trainer.run.elapsed_s}


def samples_of(count: int) -> list[Sample]:
    none = np.zeros(0, bool)
    return [
        Sample(Path(f"{i}.jpg"), (10, 20), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), none, none)
        for i in range(count)
    ]


class FakePredictor:
    """Finds what depends on which images are in a batch together; every seventh image cannot be read."""

    class_names, category_ids = ("a", "b"), (3, 9)

    def stream(self, paths: Any, batch_size: int) -> Iterator[Any]:
        numbers = [int(path.stem) for path in paths]
        for begin in range(0, len(numbers), batch_size):
            batch = numbers[begin : begin + batch_size]
            for number in batch:
                if number % 7 == 6:
                    yield Failure(None, ImageError(f"{number} is broken"))  # type: ignore[arg-type]
                    continue
                rng = np.random.default_rng([number, *batch])
                boxes = np.sort(rng.random((number % 4, 4), np.float32), axis=1)
                found = Detections(
                    boxes, rng.random(number % 4, np.float32), rng.integers(0, 2, number % 4), self.class_names,
                    (10, 20), Path(f"{number}.jpg"), self.category_ids,
                )  # fmt: skip
                yield SimpleNamespace(detections=found)


def poisoned(world: World) -> str:
    """What all processes raise where one has a loss that is no number."""
    guard = LossGuard(lambda index: f"picture-{index}.jpg", world=world)
    batch = next(Parts(world).stream(0))
    try:
        guard.watch(3, torch.tensor(float("nan") if world.rank == 1 else 1.0), batch)
    except NonFiniteLossError as error:
        return str(error)
    return ""


def messages(world: World) -> dict[str, Any]:
    averaged = [torch.full((2, 3), float(world.rank)), torch.tensor([4.0 * world.rank])]
    world.average_(averaged)
    return {
        "sum": world.sum(torch.tensor([world.rank + 1])).tolist(),
        "gather": [part.tolist() for part in world.gather(torch.tensor([world.rank]))],
        "bytes": world.gather_bytes(b"x" * (3 * world.rank)),
        "first": world.first({"a": [1.5, None, float("nan")]} if world.is_first else {}),
        "number": world.first_number(0.1 + world.rank),
        "any": (world.any(False), world.any(world.rank == 1)),
        "average": [tensor.flatten().tolist() for tensor in averaged],
        "part": [world.part(n).indices(n)[:2] for n in (2, 5, 8)],
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes saw."""
    folder = tmp_path_factory.mktemp("ranks")

    def work() -> dict[str, Any]:
        with open_world(CPU) as world:
            return {
                "messages": messages(world),
                "learnt": {kind: learn(world, kind, folder) for kind in NETWORKS},
                "unshared": learn(world, "kernel", folder, shares=False),
                "poisoned": poisoned(world),
                "found": detect_share(FakePredictor(), samples_of(23), 4, world),  # type: ignore[arg-type]
            }

    seen = together(work, folder)
    for answer in seen:
        if not isinstance(answer, dict):
            raise AssertionError(f"a process failed: {answer!r}")
    return seen


def test_they_hear_each_other(both: list[dict[str, Any]]) -> None:
    for rank in (0, 1):
        said = both[rank]["messages"]
        assert said["sum"] == [3]
        assert said["gather"] == [[0], [1]]
        assert said["bytes"] == [b"", b"xxx"]
        assert said["first"]["a"][:2] == [1.5, None]
        assert said["number"] == 0.1
        assert said["any"] == (False, True)
        assert said["average"] == [[0.5] * 6, [2.0]]
    assert [seen["messages"]["part"] for seen in both] == [[(0, 1), (0, 2), (0, 4)], [(1, 2), (2, 5), (4, 8)]]


@pytest.mark.parametrize("kind", NETWORKS)
def test_two_processes_learn_what_one_does(both: list[dict[str, Any]], kind: str, tmp_path: Path) -> None:
    """Batches of 5 are 2 and 3; a third of the images has no objects."""
    check_equal(learn(ALONE, kind, tmp_path), *(seen["learnt"][kind] for seen in both))


@pytest.mark.heavy
@pytest.mark.parametrize("kind", NETWORKS)
def test_so_they_do_in_fifty_steps(kind: str, tmp_path: Path) -> None:
    def work() -> dict[str, Any]:
        with open_world(CPU) as world:
            return learn(world, kind, tmp_path, steps=50)

    check_equal(learn(ALONE, kind, tmp_path, steps=50), *together(work, tmp_path))


def check_equal(alone: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["losses"] == second["losses"]
    assert len(alone["losses"]) >= STEPS
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=1e-5)
    for name in ("network", "ema"):
        for key, value in alone["states"][name].items():
            assert torch.equal(first["states"][name][key], second["states"][name][key])
            torch.testing.assert_close(first["states"][name][key], value, atol=1e-4, rtol=1e-4)


def test_own_statistics_are_averaged_before_they_are_saved(both: list[dict[str, Any]]) -> None:
    first, second = (seen["unshared"]["states"] for seen in both)
    for name in ("network", "ema"):
        assert all(torch.equal(first[name][key], second[name][key]) for key in first[name])
    shared = both[0]["learnt"]["kernel"]["states"]["network"]["body.bn.running_mean"]
    assert not torch.equal(first["network"]["body.bn.running_mean"], shared)


def test_the_clock_is_the_first_process_s(both: list[dict[str, Any]]) -> None:
    times = [seen["learnt"]["kernel"]["time"] for seen in both]
    assert times[0] == times[1] > 0


def test_all_stop_for_a_loss_of_one(both: list[dict[str, Any]]) -> None:
    texts = [seen["poisoned"] for seen in both]
    assert texts[0] == texts[1]
    assert "picture-4.jpg" in texts[0]
    assert "picture-1.jpg" not in texts[0]  # of the other process


def test_measuring_together_gives_the_same_to_the_last_digit(both: list[dict[str, Any]]) -> None:
    alone = detect_samples(FakePredictor(), samples_of(23), 4, None, None)  # type: ignore[arg-type]
    for seen in both:
        read, found, failed = seen["found"]
        assert [sample.image_path for sample in read] == [sample.image_path for sample in alone[0]]
        assert failed == alone[2] == ["6 is broken", "13 is broken", "20 is broken"]
        for ours, theirs in zip(found, alone[1], strict=True):
            assert ours == theirs
            assert (ours.path, ours.category_ids) == (theirs.path, theirs.category_ids)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_image_is_seen_once_an_epoch(size: int) -> None:
    """Also where a run goes on with another number of processes: the order is that of one."""
    order, batch = EpochOrder(np.arange(24), np.ones(24), seed=3), 8
    stream = [order.positions(0) for _ in range(size)]
    seen = []
    for number in range(6):
        whole = [[next(one) for _ in range(batch)] for one in stream]
        parts = [whole[rank][World(rank, size).part(batch)] for rank in range(size)]
        seen += [key for part in parts for key in part]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1, number
    alone = order.positions(0)
    assert seen == [next(alone) for _ in range(48)]
    assert sorted(image for _, image in seen[:24]) == list(range(24))


def test_alone_nothing_is_copied() -> None:
    tensor = torch.ones(3)
    assert ALONE.sum(tensor) is tensor
    assert ALONE.gather(tensor) == [tensor]
    assert ALONE.parallel(module := nn.Linear(1, 1), CPU) is module
    assert ALONE.first(module) is module
    assert (ALONE.part(7), ALONE.any(True), ALONE.gather_bytes(b"1")) == (slice(0, 7), True, [b"1"])


def test_devices_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singleshot.training.launch.usable_cores", lambda: 2)
    assert parse_devices(2, "cpu") == parse_devices("2", "cpu") == [CPU, CPU]
    for wrong, says in (
        ("3", "there are 2 cores here"),
        ("0,1", "names GPUs by number"),
        ("0", "names GPUs"),
        ("two", "give how many"),
        ("1,1", "give how many"),
        ("-1", "give how many"),
        ("", "give how many"),
    ):
        with pytest.raises(ConfigError, match=says):
            parse_devices(wrong, "cpu")
    with pytest.raises(ConfigError, match="names one device"):
        parse_devices(2, "cuda:1")


def test_one_process_of_a_job_tells_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    notes = notes_of(12, "abc/../def")
    assert notes is not None
    assert notes.parent == tmp_path
    assert Job().tell(is_final=True)
    first, restarted = Job(notes), Job(notes, restarts=1)
    assert (first.begun(), restarted.begun(), first.has_failed()) == (None, None, False)
    first.begin(tmp_path / "run")
    assert (first.begun(), restarted.begun()) == (None, tmp_path / "run")
    assert [first.tell(is_final=False), first.tell(is_final=True)] == [True, False]
    assert not restarted.has_failed()
    assert restarted.tell(is_final=True)
    assert restarted.has_failed()
    first.forget()
    assert not notes.exists()
    assert first.tell(is_final=True)  # said twice is better than never
    with monkeypatch.context() as patch:  # another process with the number, as always in a container
        patch.setattr("singleshot.training.job._beginning", lambda process: "1")
        assert notes_of(12, "abc/../def") != notes
    other = tmp_path / notes.name
    other.symlink_to(tmp_path)  # another user's trap
    assert notes_of(12, "abc/../def") is None


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ConfigError("data.path: connection"), False),
    ],
)
def test_what_only_says_that_another_is_gone(error: Exception, lost: bool) -> None:
    assert is_lost_connection(error) is lost


GLOO = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2")


@pytest.mark.parametrize(
    ("error", "others", "raised", "is_final"),
    [
        (ConfigError("data.path"), False, ConfigError, True),
        (ConfigError("data.path"), True, StoppedError, False),
        (RuntimeError("CUDA error: uncorrectable ECC error"), False, RuntimeError, False),
        (WorkerError("memory"), False, WorkerError, False),
        (GLOO, False, LostError, False),  # nobody else says why
        (GLOO, True, StoppedError, False),
    ],
)
def test_one_process_tells_and_only_mistakes_are_final(
    tmp_path: Path, error: Exception, others: bool, raised: type[Exception], is_final: bool
) -> None:
    job = Job(tmp_path)
    if others:
        job.tell(is_final=False)
    with pytest.raises(raised), _told_once(job):
        raise error
    assert job.has_failed() is is_final


@pytest.mark.parametrize(
    ("codes", "has_told", "code", "reason"),
    [
        ({0: 2, 1: -15}, True, 2, ""),
        ({0: 1, 1: -15}, True, 2, ""),  # after a restart, which did not repeat the error
        ({0: 2, 1: -9}, False, 1, "the process of device 1 was ended by SIGKILL"),
        ({0: 1, 1: -15}, False, 1, ""),
        ({0: -15, 1: -15}, False, 1, ""),
    ],
)
def test_how_processes_ended(codes: dict[int, int], has_told: bool, code: int, reason: str) -> None:
    ended = _failed(codes, has_told=has_told)
    assert (ended.code, ended.reason[: len(reason)]) == (code, reason)


def test_the_agent_hears_what_nohup_leaves_and_leaves_all_as_it_was() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logger = logging.getLogger("torch.distributed.elastic.test")
    logger.setLevel(logging.WARNING)  # as torch gives each a level
    try:
        assert "SIGHUP" not in _heard()
        with _as_it_was():
            assert not logger.isEnabledFor(logging.ERROR)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert logger.level == logging.WARNING
    finally:
        signal.signal(signal.SIGHUP, before)
    assert {"SIGHUP", "SIGTERM", "SIGINT"} <= set(_heard())
    failed: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with _as_it_was():
                pass
        except ValueError as error:  # signals are the main thread's
            failed.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert not failed


@pytest.mark.parametrize("kind", [ConfigError, NonFiniteLossError, WorkerError])
def test_errors_are_what_they_were_in_the_other_process(kind: type[Exception]) -> None:
    assert _kind(kind.__name__) is kind


@pytest.mark.parametrize("name", ["MissingExtraError", "KeyError", "annotations"])
def test_others_are_plain(name: str) -> None:
    assert _kind(name) is SingleshotError


def test_restarts_are_of_devices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give `devices=1`"):
        train(tmp_path, max_restarts=2)
