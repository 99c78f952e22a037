from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singleshot.errors import WeightsError
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.config import ModelSpec
from singleshot.weights.file import load_state, read_header, read_spec, read_state, save_weights
from singleshot.weights.find import find_weights

SPEC = model_spec("ssdlite300_mobilenet_v2", ("cat", "dog"))
STATE = {"conv.weight": torch.arange(8.0).reshape(2, 1, 2, 2) / 3, "bn.bias": torch.tensor([1 / 3, 2.0])}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return save_weights(tmp_path / "good.safetensors", SPEC, STATE)


def header_of(entries: dict[str, Any], data: bytes = b"") -> bytes:
    raw = json.dumps(entries).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def test_no_tensors_at_all(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "empty.safetensors", SPEC, {})
    assert read_spec(path) == SPEC
    assert read_state(path) == {}


def test_round_trip(good: Path) -> None:
    assert read_spec(good) == SPEC
    state = read_state(good)
    assert list(state) == sorted(STATE)
    assert all(torch.equal(state[name], value) for name, value in STATE.items())


def test_half_precision_is_stored_for_kernels_only_and_read_as_float32(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "half.safetensors", SPEC, STATE, torch.float16)
    _, entries = read_header(path)
    assert {name: entry["dtype"] for name, entry in entries.items()} == {"conv.weight": "F16", "bn.bias": "F32"}
    state = read_state(path)
    assert torch.equal(state["conv.weight"], STATE["conv.weight"].half().float())
    assert torch.equal(state["bn.bias"], STATE["bn.bias"])


def test_a_whole_network(tmp_path: Path) -> None:
    network = build_network(SPEC.network)
    path = save_weights(tmp_path / "net.safetensors", SPEC, network.state_dict())
    other = build_network(SPEC.network)
    load_state(other, read_state(path), path)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in other.state_dict().items())


def test_shared_and_strided_tensors_are_stored_as_they_look(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    path = save_weights(tmp_path / "a.safetensors", SPEC, {"a": base, "b": base, "c": base.T})
    state = read_state(path)
    assert torch.equal(state["b"], base)
    assert torch.equal(state["c"], base.T)


def test_a_failed_write_keeps_the_old_file(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = good.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_weights(good, SPEC, {})
    assert good.read_bytes() == before
    assert [path.name for path in good.parent.iterdir()] == [good.name]


def test_reading_the_spec_needs_no_torch(good: Path) -> None:
    code = f"import sys; from singleshot.weights.file import read_spec; read_spec({str(good)!r}); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


HUGE = (1 << 62).to_bytes(8, "little")
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

DAMAGED = [
    (b"", "empty"),
    (b"abc", "not a safetensors file"),
    (HUGE + b"{}", "not a safetensors file"),
    (b"PK\x03\x04" + b"\0" * 100, "PyTorch checkpoint.*singleshot import"),
    (b"\x12\x01" + b"\0" * 100, "MXNet"),
    (b"\x80\x02" + b"\0" * 100, "pickle"),
    (header_of({"a": ENTRY}, b"1234"), "truncated"),
    (header_of({"a": ENTRY}, b"123456789"), "after its end"),
    (header_of({"a": {**ENTRY, "shape": [3]}}, b"12345678"), "does not fit its shape"),
    (header_of({"a": {**ENTRY, "shape": [-1, -2]}}, b"12345678"), "does not fit its shape"),
    (header_of({"a": {**ENTRY, "dtype": "F31"}}, b"12345678"), "damaged safetensors header"),
    (header_of({"a": 1}), "damaged safetensors header"),
    (header_of({"a": {**ENTRY, "data_offsets": [8, 0]}}), "does not fit its shape"),
    (header_of({"__metadata__": {"x": 1}}), "absurd"),
    (header_of({}), "not one of singleshot's"),
    (header_of({"__metadata__": {"singleshot": "{}", "singleshot_format": "99"}}), "upgrade singleshot"),
    (header_of({"__metadata__": {"singleshot": "{}", "singleshot_format": "1"}}), "description is damaged: name"),
    (header_of({"__metadata__": {"singleshot": "nonsense", "singleshot_format": "1"}}), "description is damaged"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_damaged_and_foreign_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_spec(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights file"):
        read_state(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="a folder"):
        read_spec(tmp_path)


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_every_truncation_is_one_clear_error(tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = save_weights(folder / "a.safetensors", SPEC, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(WeightsError):
        read_state(path)


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 600), value=st.integers(0, 255))
def test_a_flipped_byte_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    path = save_weights(tmp_path_factory.mktemp("flip") / "a.safetensors", SPEC, STATE)
    content = bytearray(path.read_bytes())
    content[position] = value
    path.write_bytes(content)
    with suppress(WeightsError):
        read_spec(path)
        read_state(path)


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "nan.safetensors", SPEC, {"a": torch.tensor([1.0, float("nan")])})
    with pytest.raises(WeightsError, match="'a' holds numbers that are not finite"):
        read_state(path)


def test_state_that_does_not_fit() -> None:
    layer = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    state = dict(layer.state_dict())
    del state["1.num_batches_tracked"]
    load_state(layer, state)
    state["0.weight"] = torch.zeros(3, 1, 1, 1)
    state["extra"] = state.pop("0.bias")
    with pytest.raises(WeightsError) as caught:
        load_state(layer, state, "file.safetensors")
    for text in ("file.safetensors", "1 missing (0.bias)", "1 not of this network (extra)", "(3, 1, 1, 1), needed"):
        assert text in str(caught.value)


def test_metadata_is_the_whole_spec(good: Path) -> None:
    metadata, _ = read_header(good)
    assert ModelSpec.model_validate_json(metadata["singleshot"]) == SPEC


def test_a_pipe_is_no_weights_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(WeightsError, match="a pipe or a device"):
        read_header(tmp_path / "pipe.safetensors")
    with pytest.raises(WeightsError, match="a pipe or a device"):
        find_weights(tmp_path / "pipe.safetensors")
