"""Streams of tar shards: every record once in an epoch, whoever reads, wherever it was interrupted."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
import threading
from collections import Counter
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from data_makers import make_image, make_list, make_voc_image, voc_object
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from singleshot import data
from singleshot.data import remote
from singleshot.data.convert import convert
from singleshot.data.stream_order import StreamOrder, positions_after
from singleshot.data.streaming import ShardStream
from singleshot.errors import ConfigError, DataError

IMAGES = 23


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    for number in range(IMAGES):
        make_voc_image(root / "voc", f"p{number:02d}", *[voc_object("cat", (1 + number, 2, 40, 30))] * (number % 3 > 0))
    make_list(root / "voc", "train", *(f"p{number:02d}" for number in range(20)))
    make_list(root / "voc", "val", *(f"p{number:02d}" for number in range(20, IMAGES)))
    convert(root / "voc", root / "shards", "shards")
    return root / "shards"


Places = list[tuple[int, int]]


def records(order: StreamOrder, epoch: int, reader: int = 0, readers: int = 1, position: int = 0) -> Places:
    windows = order.windows(epoch, reader, readers, position)
    return [(window.chunks[place].shard, row) for window in windows for place, row in window.order.tolist()]


def test_no_records() -> None:
    assert records(StreamOrder([], 0, 4, 4), 0) == records(StreamOrder([0, 0], 0, 4, 4), 0) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=6), *(st.integers(1, most) for most in (9, 5, 5, 99)))
def test_every_record_once_an_epoch_over_all_readers(
    counts: list[int], chunk: int, window: int, readers: int, seed: int
) -> None:
    order = StreamOrder(counts, seed, chunk, window)
    everything = {(shard, row) for shard, count in enumerate(counts) for row in range(count)}
    for epoch in range(2):
        found = [records(order, epoch, reader, readers) for reader in range(readers)]
        assert Counter(itertools.chain(*found)) == Counter(everything)
        assert [order.count(epoch, reader, readers) for reader in range(readers)] == list(map(len, found))
        for position in {0, len(found[0]) // 2, len(found[0])}:
            assert records(order, epoch, 0, readers, position) == found[0][position:]


def test_three_epochs_with_twenty_kills_give_every_record_three_times(shards: Path) -> None:
    rng = np.random.default_rng(5)

    def opened() -> ShardStream:
        return data.stream(shards, size=16, chunk=3, window=2, seed=4)

    whole = opened()
    expected = [[target.image_index for _, target in whole] for _ in range(3)]
    kills = sorted(rng.integers(0, 3 * IMAGES, 20).tolist())
    seen: list[int] = []
    state = opened().state_dict()
    for kill in [*kills, 3 * IMAGES]:
        stream = opened()  # another process, which knows the state alone
        stream.load_state_dict(state)
        while len(seen) < kill:
            for _, target in stream:
                seen.append(target.image_index)
                state = stream.state_dict()
                if len(seen) == kill:
                    break
            else:
                state = stream.state_dict()
    assert seen == list(itertools.chain(*expected))
    assert Counter(seen) == dict.fromkeys(range(IMAGES), 3)
    assert len({tuple(epoch) for epoch in expected}) == 3


def test_an_item_is_that_of_the_open_data_set(shards: Path) -> None:
    samples = data.open(shards, "train")
    opened = samples.torch(size=16)
    streamed = data.stream(shards, "train", size=16, shuffle=False)
    for (image, targets), (same, own) in zip(streamed, (opened[index] for index in range(len(opened))), strict=True):
        assert torch.equal(image, same)
        assert torch.equal(targets.boxes_xyxy, own.boxes_xyxy)
        assert targets.class_ids.tolist() == own.class_ids.tolist()
    assert streamed.class_map.names == samples.class_map.names


def test_random_changes_depend_on_the_record_and_the_epoch(shards: Path) -> None:
    def noise(image, boxes_xyxy, class_ids, rng):
        return rng.integers(0, 256, image.shape, np.uint8), boxes_xyxy, class_ids

    first, second = (data.stream(shards, "val", noise, 16, seed=1) for _ in range(2))
    images = {target.image_index: image for image, target in first}
    second.set_epoch(0)
    assert all(torch.equal(images[target.image_index], image) for image, target in second)
    assert not any(torch.equal(images[target.image_index], image) for image, target in second)  # the next epoch


@pytest.mark.parametrize("drop_last", [False, True])
def test_workers_of_a_loader_go_on_after_some_batches(shards: Path, drop_last: bool) -> None:
    def loader(stream: ShardStream) -> DataLoader[object]:
        return DataLoader(stream, batch_size=4, num_workers=2, collate_fn=stream.collate, drop_last=drop_last)

    def opened() -> ShardStream:
        return data.stream(shards, size=8, chunk=5, window=2, rank=1, world_size=2)

    expected = [batch.indices.tolist() for batch in loader(opened())]
    stream = opened()
    stream.set_epoch(0, batches=2, batch_size=4, workers=2, drop_last=drop_last)
    assert [batch.indices.tolist() for batch in loader(stream)] == expected[2:]


def test_workers_that_have_no_more_are_passed_over() -> None:
    assert positions_after([10, 3], 0, 4, drop_last=False) == [0, 0]
    assert positions_after([10, 3], 3, 4, drop_last=False) == [8, 3]
    assert positions_after([10, 3], 9, 4, drop_last=False) == [10, 3]
    assert positions_after([10, 3], 2, 4, drop_last=True) == [8, 0]


def test_a_broken_image_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_voc_image(tmp_path / "voc", "a")
    make_voc_image(tmp_path / "voc", "b")
    convert(tmp_path / "voc", tmp_path / "new", "shards")
    tar = tmp_path / "new" / "shards" / "data-000000.tar"
    content, jpg = tar.read_bytes(), make_image(tmp_path / "x.jpg").read_bytes()
    start = content.index(jpg[:100])
    tar.write_bytes(content[: start + 2] + bytes(200) + content[start + 202 :])
    assert len(list(data.stream(tmp_path / "new", size=8))) == 1
    assert "a.jpg" in caplog.text


def test_shards_of_others_have_the_labels_of_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    upright, turned = (make_image(tmp_path / f"{turn}.jpg", orientation=turn).read_bytes() for turn in (1, 6))
    shards = (  # each with classes of its own
        (("cat", [[5, 5, 10, 10]]), ("dog", [[50, 30, 30, 30], [5, 5, 0, 10]])),
        (("dog", [[5, 5, 10, 20], [5, 5, 10, 20]]),),
        (("bird", [[-5, -5, 20, 20], [70, 50, 5, 5]]),),
    )
    for number, images in enumerate(shards):
        with tarfile.open(tmp_path / f"train-{number:06d}.tar", "w") as tar:
            for place, (name, boxes) in enumerate(images):
                label = json.dumps({"objects": [{"class": name, "bbox": box} for box in boxes]}).encode()
                for suffix, content in (("jpg", turned if number == 1 else upright), ("json", label)):
                    member = tarfile.TarInfo(f"{number}{place}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    opened = data.open(tmp_path)
    assert opened.class_map.names == ("bird", "cat", "dog")
    assert [len(sample) for sample in opened] == [1, 1, 1, 1]
    stream = data.stream(tmp_path, shuffle=False, size="40x60")
    assert stream.class_map.names == opened.class_map.names
    for (_, target), sample in zip(stream, opened, strict=True):
        scale = np.tile(np.array([60, 40]) / sample.image_size_hw[::-1], 2)
        assert target.class_ids.tolist() == sample.class_ids.tolist()
        np.testing.assert_allclose(target.boxes_xyxy, sample.boxes_xyxy * scale, atol=1e-4)
    counts = "2 x clipped, 1 x degenerate, 1 x outside, 1 x duplicate-box: skipped or repaired; `singleshot data check`"
    assert counts in caplog.text


def test_urls(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path))
    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/bucket/set", recursive=True)
    local = [target.image_index for _, target in data.stream(shards, "train", size=8)]
    assert [target.image_index for _, target in data.stream("memory://bucket/set", "train", size=8)] == local
    tars = "memory://bucket/set/shards/train-{000000..000000}.tar"
    assert [target.image_index for _, target in data.stream(tars, size=8)] == local
    with pytest.raises(DataError, match=r"memory://bucket/none/index\.json: cannot be read"):
        data.stream("memory://bucket/none")
    for told in ("[]", '{"splits": {}}', '{"singleshot_shards": 1, "splits": {"a": 3}}'):
        memory.pipe("/bucket/bad/index.json", told.encode())
        with pytest.raises(DataError, match=r"bad/index\.json: no index of shards"):
            data.stream("memory://bucket/bad")
    with pytest.raises(DataError, match="Protocol not known"):
        data.stream("nowhere://bucket/set")


def test_a_url_that_fails_for_a_moment_is_asked_again(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path))
    waited: list[float] = []
    monkeypatch.setattr("singleshot.data.remote.time.sleep", waited.append)
    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/flaky/set", recursive=True)
    read, failing = type(memory).cat_file, [True, True]

    def cat_file(own: object, path: str, **part: int) -> bytes:
        if failing:
            failing.pop()
            raise ConnectionError("reset by peer")
        found: bytes = read(own, path, **part)
        return found

    monkeypatch.setattr(type(memory), "cat_file", cat_file)
    local = len(list(data.stream(shards, "train", size=8)))
    assert len(list(data.stream("memory://flaky/set", "train", size=8))) == local
    assert (waited, caplog.text.count("cannot be read: reset by peer; again in")) == ([1, 2], 2)
    opened, failing_index = type(memory).open, [True, True]

    def open_index(own: object, *arguments: object, **settings: object) -> object:
        if failing_index:
            failing_index.pop()
            raise ConnectionError("no route")
        return opened(own, *arguments, **settings)

    monkeypatch.setattr(type(memory), "open", open_index)
    assert len(list(data.stream("memory://flaky/set", "train", size=8))) == local
    assert (waited[2:], caplog.text.count("cannot be read: no route; again in")) == ([1, 2], 2)
    failing.extend([True] * 3)
    with pytest.raises(DataError, match=r"train-000000\.tar: cannot be read: reset by peer"):
        list(data.stream("memory://flaky/set", "train", size=8))
    monkeypatch.setattr("singleshot.data.remote.MAX_INDEX_BYTES", 100)
    with pytest.raises(DataError, match=r"index\.json: more than 100 bytes, too many for the index of a shard"):
        data.stream("memory://flaky/set")


def test_a_server_without_ranges_is_told_from_a_tar_that_is_cut_off(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(shards)))
    with closing(server.socket):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        large = bytes(range(256)) * 20_000  # more than a socket gives at once
        (shards / "large").write_bytes(large)
        assert remote._fetch(f"http://127.0.0.1:{server.server_port}/large") == large
        (shards / "large").unlink()
        stream = data.stream(f"http://127.0.0.1:{server.server_port}", "train", size=8)
        with pytest.raises(DataError, match=r"000000\.tar: its server sends whole files where parts are asked for"):
            list(stream)
        server.shutdown()


def test_what_cannot_be(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`rank` 2 of `world_size` 2"):
        data.stream(shards, rank=2, world_size=2)
    with pytest.raises(DataError, match="no tar shards"):
        data.stream(tmp_path)
    stream = data.stream(shards, seed=1)
    with pytest.raises(ConfigError, match="'seed': 0"):
        stream.load_state_dict(data.stream(shards).state_dict())
    stream.load_state_dict(stream.state_dict() | {"positions": [3, 4]})
    with pytest.raises(ConfigError, match="of 2 workers"):
        next(iter(stream))
