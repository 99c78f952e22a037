"""PyTorch checkpoints: what is read, and that nothing is ever run, believed or allocated without reason."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import resource
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import singleshot
from singleshot.errors import WeightsError
from singleshot.weights import pickle_check
from singleshot.weights.torch_file import read_checkpoint
from singleshot.weights.torch_pickle import sides

FORMATS = (True, False)
"""Zip, and the format before it."""


def save(value: Any, path: Path, zipped: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.fixture
def module() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


@pytest.mark.parametrize("zipped", FORMATS)
def test_state_dicts_of_all_kinds(module: torch.nn.Module, tmp_path: Path, zipped: bool) -> None:
    state = module.state_dict()
    prefixed = OrderedDict((f"module.{key}", value) for key, value in state.items())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    training = {
        "epoch": np.float64(3.5),
        "optimizer": optimizer.state_dict(),
        "milestones": Counter([3, 4]),
        "args": argparse.Namespace(lr=0.1),
        "shape": torch.Size([1, 2]),
        "seen": {1, 2},
    }
    for value in (state, prefixed, {"model": state, **training}, {"state_dict": prefixed}, {"model": dict(state)}):
        found = read_checkpoint(save(value, tmp_path / "x.pth", zipped))
        assert list(found) == list(state)
        assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize("zipped", FORMATS)
def test_views_halves_and_empty_tensors(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "transposed": base.t(),
        "part": base[1:3, ::2],
        "half": base.half(),
        "brain": base.bfloat16(),
        "empty": torch.zeros(0, 3),
        "count": torch.tensor(7),
        "parameter": torch.nn.Parameter(base),
    }
    found = read_checkpoint(save(state, tmp_path / "x.pth", zipped))
    for key, value in state.items():
        assert torch.equal(found[key], value.detach().float() if value.is_floating_point() else value), key
        assert found[key].is_contiguous()


def test_a_real_checkpoint_reads_as_torch_reads_it(reference: Path) -> None:
    path = reference / "weights/mobilenet_v2-b0353104.pth"
    theirs = torch.load(path, weights_only=True)
    ours = read_checkpoint(path)
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


class Evil:
    """Makes a folder when a careless reader unpickles it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", FORMATS)
def test_a_malicious_checkpoint_does_nothing(module: torch.nn.Module, tmp_path: Path, zipped: bool) -> None:
    for value in (Evil(tmp_path / "bad"), {"model": module.state_dict(), "extra": Evil(tmp_path / "bad")}):
        path = save(value, tmp_path / "x.pth", zipped)
        with pytest.raises(WeightsError, match=r"posix\.mkdir.*nothing of it was run"):
            singleshot.import_weights(path)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_does_nothing(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps(Evil(tmp_path / "bad"), protocol))
    with pytest.raises(WeightsError):
        singleshot.import_weights(path)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("zipped", FORMATS)
def test_a_whole_module_is_refused_with_the_remedy(module: torch.nn.Module, tmp_path: Path, zipped: bool) -> None:
    """As the tutorial of sgrvinod saves its checkpoints."""
    path = save({"epoch": 1, "model": module}, tmp_path / "x.pth.tar", zipped)
    with pytest.raises(WeightsError, match=r"Sequential.*torch\.save\(model\.state_dict\(\)"):
        singleshot.import_weights(path)


@pytest.mark.parametrize("zipped", FORMATS)
def test_truncation_anywhere_is_one_error(module: torch.nn.Module, tmp_path: Path, zipped: bool) -> None:
    raw = save(module.state_dict(), tmp_path / "x.pth", zipped).read_bytes()
    for length in (0, 1, 5, 40, len(raw) // 3, len(raw) // 2, len(raw) - 30, len(raw) - 1):
        (tmp_path / "cut.pth").write_bytes(raw[:length])
        with pytest.raises(WeightsError, match=r"cut\.pth"):
            singleshot.import_weights(tmp_path / "cut.pth")


def test_a_changed_number_is_noticed(module: torch.nn.Module, tmp_path: Path) -> None:
    raw = bytearray(save(module.state_dict(), tmp_path / "x.pth").read_bytes())
    at = raw.index(module[0].weight.detach().numpy().tobytes())
    raw[at] ^= 1
    (tmp_path / "bad.pth").write_bytes(raw)
    with pytest.raises(WeightsError, match="damaged"):
        read_checkpoint(tmp_path / "bad.pth")


def forged(path: Path, rebuild: tuple[Any, ...], count: int, stored: int = 16) -> Path:
    """A zip checkpoint of one tensor that claims what its maker likes."""

    class Record:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Handle(), *rebuild, False, OrderedDict())

    class Handle:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(value, Handle) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"loc.0.weight": Record()})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/data/0", b"\0" * stored)
    return path


@pytest.mark.parametrize(
    ("rebuild", "count", "message"),
    [
        ((0, (10**12,), (1,)), 10**12, "claims 1000000000000 numbers"),
        ((0, (10**6, 10**6), (0, 0)), 4, "impossible shape"),
        ((0, (4,), (1,)), 4, ""),
        ((1, (4,), (1,)), 4, "reaches beyond"),
        ((0, (2, 2), (4, 1)), 4, "reaches beyond"),
        ((0, (-2,), (1,)), 4, "impossible shape"),
        ((-1, (2,), (1,)), 4, "impossible shape"),
        ((0, (2.5,), (1,)), 4, "impossible shape"),
        ((0, (1,) * 9, (1,) * 9), 4, "impossible shape"),
        ((0, (2,), (1,)), 5, "claims 5 numbers"),
        ((0, "ab", (1,)), 4, "impossible shape"),
    ],
)
def test_absurd_sizes(tmp_path: Path, rebuild: tuple[Any, ...], count: int, message: str) -> None:
    path = forged(tmp_path / "x.pth", rebuild, count)
    if not message:
        assert torch.equal(read_checkpoint(path)["loc.0.weight"], torch.zeros(4))
        return
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(path)


def test_zips_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for name, message in (("readme.txt", "no data.pkl"), ("archive/constants.pkl", "TorchScript")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"")
            if "archive" in name:
                archive.writestr("archive/data.pkl", b"")
        with pytest.raises(WeightsError, match=message):
            read_checkpoint(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(WeightsError, match="compressed"):
        read_checkpoint(path)


def test_no_state_dict_in_it(tmp_path: Path) -> None:
    for value, shown in (({"lr": 0.1}, "lr"), ([1, 2], "list"), ({}, "it holds: ")):
        with pytest.raises(WeightsError, match=f"no state dict.*{shown}"):
            read_checkpoint(save(value, tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x80\x05\x96" + (1 << 60).to_bytes(8, "little") + b"abc.", "not enough data|bytearray8"),
        (pickle.dumps(bytearray(b"abc"), protocol=5), "BYTEARRAY8"),
        (b"S'\\l'\n.", "STRING"),
    ],
)
def test_codes_that_pytorch_never_writes(content: bytes, code: str, tmp_path: Path, capfd: Any) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/version", "3")
        archive.writestr("x/data.pkl", content)
    with pytest.raises(WeightsError, match=code):
        read_checkpoint(tmp_path / "x.pth")
    assert capfd.readouterr().err == ""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_or_harmless(data: st.DataObject, tmp_path: Path) -> None:
    zipped = data.draw(st.booleans())
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}
    raw = bytearray(save(state, tmp_path / "x.pth", zipped).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "y.pth").write_bytes(raw)
    try:
        found = read_checkpoint(tmp_path / "y.pth")
    except WeightsError:
        return
    assert sum(tensor.numel() for tensor in found.values()) <= 4 * len(raw)


def zip_of(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return path


BOMBS = {
    "memo": b"\x80\x02}r\x00\x00\x00\x10.",
    "memo of the largest index": b"\x80\x02}r\xff\xff\xff\x7f.",
    "memo as text": b"\x80\x02}p268435456\n.",
    "deep tuple": b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.",
    "deep tuple by marks": b"\x80\x02}" + b"(" * 200_000 + b"t" * 200_000 + b"Ns.",
    "tuples that share": b"\x80\x02}N" + b"".join(b"q%ch%ch%c\x87" % (k, k, k) for k in range(60)) + b"Ns.",
    "long text": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "long bytes": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fabc.",
    "many codes": b"\x80\x02}" + b"N0" * 2_000 + b".",
    "underflow": b"\x80\x02s.",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_small_files_that_ask_for_much(name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "many codes":
        monkeypatch.setattr(pickle_check, "MAX_CODES", 3_000)
    path = tmp_path / "x.pth"
    if form == "zip":
        zip_of(path, BOMBS[name])
    else:
        path.write_bytes(BOMBS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"x\.pth"):
        read_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024


def test_shapes_are_a_few_whole_numbers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than 8 sides"):
        sides((1,) * 300_000)
    with pytest.raises(ValueError, match="whole numbers"):
        sides(((1,),))
    assert sides([2, 3]) == (2, 3)
    assert sides() == ()
