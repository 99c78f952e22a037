from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from singleshot.augment.pipeline import Augmenter
from singleshot.core.structures import Sample
from singleshot.errors import DataError
from singleshot.training.loader import TrainLoader
from singleshot.training.loader_config import LoaderConfig
from singleshot.training.sampler import EpochOrder, repeat_weights
from singleshot.training.training_images import read_encoded
from singleshot.training.worker_processes import auto_workers

# Python 3.12 and later warn of every fork in a process with threads, and torch has threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

SIZE = (48, 40)
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_sample(folder, number, count, **flags):
    path = folder / f"image{number}.png"
    rng = np.random.default_rng(number)
    assert cv2.imwrite(str(path), rng.integers(0, 256, (60, 80, 3), np.uint8))
    low = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 20, (count, 2))], axis=1).astype(np.float32)
    return Sample(path, (60, 80), boxes, np.arange(count, dtype=np.int64) % 3, **flags)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader")
    return [make_sample(folder, number, number % 4) for number in range(10)]


def loader_of(samples, preset="ssd", **settings):
    return TrainLoader(samples, Augmenter(preset, SIZE), LoaderConfig(**{"batch_size": 4, "workers": 0} | settings))


def take(loader, count, first=0):
    stream = loader.stream(first)
    batches = list(itertools.islice(stream, count))
    stream.close()
    return batches


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for first, second in zip(found, expected, strict=True):
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a, b)


def weights_of(class_lists, threshold):
    samples = [Sample("", (1, 1), np.zeros((len(ids), 4), np.float32), np.array(ids, np.int64)) for ids in class_lists]
    return repeat_weights(samples, np.arange(len(samples)), threshold)


@pytest.mark.parametrize(
    ("class_lists", "threshold", "expected"),
    [
        ([[], []], 0.5, [1, 1]),
        ([[0], [0], [0], [1]], 0.0, [1, 1, 1, 1]),
        ([[0], [0], [0], [1]], 0.25, [1, 1, 1, 1]),
        # Class 1 is in a quarter of the images: sqrt(1 / 0.25) = 2, class 0 sqrt(1 / 0.75); the mean becomes 1.
        ([[0], [0], [0, 0], [1, 1, 0]], 1.0, [0.8, 0.8, 0.8, 1.6]),
    ],
)
def test_rare_classes_weigh_more(class_lists, threshold, expected):
    np.testing.assert_allclose(weights_of(class_lists, threshold), expected)


def test_an_epoch_shows_every_image_once():
    order = EpochOrder(np.array([3, 5, 8]), np.ones(3), seed=1)
    epochs = [order.epoch(epoch).tolist() for epoch in range(20)]
    assert all(sorted(epoch) == [3, 5, 8] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert epochs == [order.epoch(epoch).tolist() for epoch in range(20)]


def test_seeds_order_differently():
    orders = [EpochOrder(np.arange(50), np.ones(50), seed).epoch(0).tolist() for seed in (0, 1)]
    assert orders[0] != orders[1]


def test_repetition_keeps_the_length_of_an_epoch():
    weights = np.array([0.5, 0.5, 0.5, 2.5])
    order = EpochOrder(np.arange(4), weights, seed=0)
    epochs = np.array([np.bincount(order.epoch(epoch), minlength=4) for epoch in range(400)])
    assert (epochs.sum(axis=1) == 4).all()
    assert (np.abs(epochs - weights) < 1).all()
    np.testing.assert_allclose(epochs.mean(axis=0), weights, atol=0.1)


@pytest.mark.parametrize("first", [0, 1, 6, 7, 8, 20])
def test_positions_do_not_depend_on_where_they_begin(first):
    order = EpochOrder(np.arange(7), np.ones(7), seed=0)
    whole = list(itertools.islice(order.positions(0), 30))
    assert [position for position, _ in whole] == list(range(30))
    assert list(itertools.islice(order.positions(first), 30 - first)) == whole[first:]


def test_colours_without_limits_make_float_batches(samples):
    for batch in take(loader_of(samples, "ssd_pytorch"), 3):
        assert (batch.images.shape, batch.images.dtype) == ((4, 3, *SIZE), torch.float32)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_batches(samples):
    loader = loader_of(samples)
    batches = take(loader, 5)
    assert (loader.images_per_epoch, loader.batch_size) == (10, 4)
    assert torch.cat([b.indices for b in batches])[:10].sort().values.tolist() == list(range(10))
    for batch in batches:
        assert (batch.images.shape, batch.images.dtype) == ((4, 3, *SIZE), torch.uint8)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        most = batch.boxes_xyxy.shape[1]
        assert batch.class_ids.shape == batch.valid.shape == (4, most)
        assert batch.class_ids.dtype == batch.indices.dtype == torch.int64
        assert torch.equal(batch.valid, batch.class_ids >= 0)
        assert batch.valid.sum(dim=1).max() == most
        assert (batch.boxes_xyxy[~batch.valid] == 0).all()


def test_boxes_and_pixels_belong_to_the_sample(samples):
    for batch in take(loader_of(samples, "none"), 3):
        for row, index in enumerate(batch.indices.tolist()):
            sample = samples[index]
            scale = np.array([SIZE[1] / 80, SIZE[0] / 60] * 2)
            np.testing.assert_allclose(batch.boxes_xyxy[row][batch.valid[row]], sample.boxes_xyxy * scale, rtol=1e-5)
            np.testing.assert_array_equal(batch.class_ids[row][batch.valid[row]], sample.class_ids)
            image = cv2.imread(str(sample.image_path))[..., ::-1]
            expected = cv2.resize(np.ascontiguousarray(image), SIZE[::-1])
            np.testing.assert_array_equal(batch.images[row].permute(1, 2, 0), expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(samples, workers):
    if workers > CORES:
        pytest.skip("torch warns of more workers than cores")
    assert_equal(take(loader_of(samples, workers=workers), 6), take(loader_of(samples), 6))


@pytest.mark.parametrize("first", [1, 3, 5])
def test_a_stream_may_begin_anywhere(samples, first):
    assert_equal(take(loader_of(samples), 6 - first, first), take(loader_of(samples), 6)[first:])


def test_epochs_and_seeds_change_the_augmentation(samples):
    one = [loader_of(samples[1:2], seed=seed, batch_size=1) for seed in (0, 1)]
    images = [batch.images.numpy().tobytes() for loader in one for batch in take(loader, 3)]
    assert len(set(images)) == 6


def test_images_without_objects(samples):
    for batch in take(loader_of([samples[0], samples[4]]), 2):
        assert batch.boxes_xyxy.shape == (4, 0, 4)
        assert batch.class_ids.shape == batch.valid.shape == (4, 0)


def test_images_without_objects_may_be_dropped(samples):
    loader = loader_of(samples, keep_empty=False)
    seen = torch.cat([batch.indices for batch in take(loader, 8)]).unique().tolist()
    assert seen == [index for index, sample in enumerate(samples) if len(sample)]
    assert loader.images_per_epoch == len(seen)


@pytest.mark.parametrize(("few", "keep_empty"), [([], True), ([0, 4], False)])
def test_nothing_to_train_on(samples, few, keep_empty):
    with pytest.raises(DataError, match="none of"):
        loader_of([samples[i] for i in few], keep_empty=keep_empty)


def test_crowds_and_difficult_objects(tmp_path):
    flags = {"iscrowd": np.array([True, False, False]), "difficult": np.array([False, True, False])}
    sample = make_sample(tmp_path, 0, 3, **flags)
    for use_difficult, expected in ((True, [False, True, True]), (False, [False, False, True])):
        (batch,) = take(loader_of([sample], "none", batch_size=1, use_difficult=use_difficult), 1)
        assert batch.valid[0].tolist() == expected
        assert batch.class_ids[0].tolist() == [0, 1, 2]


def test_rare_classes_are_shown_more_often(samples):
    rare = [sample for sample in samples if len(sample) in (1, 3)]
    loader = loader_of(rare, repeat_threshold=1.0)
    seen = torch.cat([batch.indices for batch in take(loader, 25)]).bincount().numpy()
    assert seen.sum() == 100
    with_rare = np.array([len(sample) == 3 for sample in rare])
    assert seen[with_rare].min() > seen[~with_rare].max()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_replaced_and_named(samples, tmp_path, workers, caplog):
    bad = make_sample(tmp_path, 77, 2)
    bad.image_path.write_bytes(bad.image_path.read_bytes()[:200])
    gone = make_sample(tmp_path, 78, 2)
    gone.image_path.unlink()
    loader = loader_of([*samples, bad, gone], workers=workers)
    with caplog.at_level(logging.WARNING):
        batches = take(loader, 6)
    assert all(len(batch.images) == 4 for batch in batches)
    assert not set(torch.cat([batch.indices for batch in batches]).tolist()) & {10, 11}
    assert set(loader.skipped) == {10, 11}
    assert "image77.png" in loader.skipped[10]
    assert "image78.png" in loader.skipped[11]
    assert len(caplog.records) == 2  # once each, although two epochs met them
    assert_equal(batches, take(loader_of([*samples, bad, gone]), 6))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_disk_ends_the_run(tmp_path, workers):
    broken = [make_sample(tmp_path, number, 1) for number in range(3)]
    for sample in broken:
        sample.image_path.unlink()
    with pytest.raises(DataError, match=r"^16 images in a row cannot be read(.|\n)*image\d\.png"):
        take(loader_of(broken, workers=workers), 1)


def test_files_may_be_kept_in_memory(tmp_path):
    kept = [make_sample(tmp_path, number, 1) for number in range(4)]
    expected = take(loader_of(kept), 3)
    loader = loader_of(kept, cache_bytes=10**6)
    for sample in kept:
        sample.image_path.unlink()
    assert_equal(take(loader, 3), expected)
    assert not loader.skipped


def test_memory_for_files_is_bounded(samples, tmp_path):
    sizes = [sample.image_path.stat().st_size for sample in samples]
    everything = np.arange(len(samples))
    assert read_encoded(samples, everything, 0) == {}
    for limit in (sizes[0] - 1, sizes[0], sum(sizes[:3]), sum(sizes[:3]) + 1):
        encoded = read_encoded(samples, everything, limit)
        assert sum(map(len, encoded.values())) <= limit
        assert len(encoded) == sum(total <= limit for total in itertools.accumulate(sizes))
    gone = make_sample(tmp_path, 5, 0)
    gone.image_path.unlink()
    assert list(read_encoded([gone, samples[1]], np.arange(2), 10**6)) == [1]


def test_bad_bytes_in_memory_name_their_file(samples, tmp_path):
    bad = make_sample(tmp_path, 79, 2)
    bad.image_path.write_bytes(b"nothing")
    loader = loader_of([samples[1], bad], cache_bytes=10**6)
    take(loader, 2)
    assert "image79.png" in loader.skipped[1]


def test_workers_may_be_started_anew_in_any_way(samples):
    """Spawned processes get the loader pickled."""
    loader = loader_of(samples)
    assert_equal(take(pickle.loads(pickle.dumps(loader)), 2), take(loader, 2))  # noqa: S301 our own bytes


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_to_the_trainer(samples, number):
    stream = loader_of(samples, workers=1).stream()
    next(stream)
    workers = multiprocessing.active_children()
    assert len(workers) == 1
    for worker in workers:
        os.kill(worker.pid, number)
    for _ in range(5):
        next(stream)
    stream.close()
    for worker in workers:
        worker.join(timeout=10)
        assert not worker.is_alive()


def test_auto_leaves_a_core():
    assert 1 <= auto_workers() <= max(1, CORES - 1)


def test_a_killed_worker_is_explained(samples):
    code = f"""
import itertools, multiprocessing, pickle, sys
sys.path[:0] = {sys.path!r}
from test_loader import loader_of
from singleshot.training.worker_processes import WorkerError, explaining_workers
try:
    with explaining_workers(1):
        stream = loader_of(pickle.loads({pickle.dumps(samples)!r}), workers=1).stream()
        next(stream)
        known = id(stream.gi_frame.f_locals["batches"])
        for child in multiprocessing.active_children():
            child.kill()
        list(itertools.islice(stream, 100))
except WorkerError as error:
    print(error)
from torch._C import _remove_worker_pids
try:
    _remove_worker_pids(known)
except ValueError:
    print("torch waits for no worker any more")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=200)
    assert "`resume=True` and fewer `workers` (now 1" in done.stdout, done.stderr
    assert "torch waits for no worker any more" in done.stdout
