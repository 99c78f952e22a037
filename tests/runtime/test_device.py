"""Which device and backend "auto" means, and what is said where the wish cannot be fulfilled."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from singleshot.errors import ConfigError
from singleshot.models.catalogue import model_spec
from singleshot.runtime import choose, device
from singleshot.runtime.choose import choose_plan, choose_runtime
from singleshot.runtime.device import check_device, choose_device, has_gpu
from singleshot.runtime.registry import Wish
from singleshot.runtime.source import Source, StoredNetwork


class Unbuilt(StoredNetwork):
    """A network that a choice must not need."""

    def __init__(self) -> None:
        return

    def get(self) -> Any:
        pytest.fail("the network was built")


SOURCE = Source(model_spec("ssd300_vgg16", ("a",)), None, Unbuilt())


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "CPU", "meta", "tpu"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown; choose from auto, cpu, cuda, cuda:1, mps"):
        check_device(name)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:11", "mps"])
def test_names(name: str) -> None:
    assert check_device(name) == name


@pytest.mark.parametrize("there", [True, False])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device("auto").type == ("cuda" if there else "cpu")
    assert choose_device("cpu").type == "cpu"
    assert has_gpu() is there


def test_without_a_driver_torch_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_has_driver", lambda: False)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("asked"))
    assert has_gpu() is False


@pytest.mark.parametrize(
    ("build", "gpus", "name", "message"),
    [
        (None, 0, "cuda", "built for CPUs only: install a CUDA build"),
        ("12.8", 0, "cuda:1", "sees no GPU here"),
        ("12.8", 2, "cuda:7", "there are 2 GPUs, counted from cuda:0"),
        (None, 0, "mps", "no Apple GPU"),
    ],
)
def test_devices_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, build: str | None, gpus: int, name: str, message: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no such device\nand a trace")

    monkeypatch.setattr(torch, "empty", refuse)
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=f"device '{name}' cannot be used.*{message}"):
        choose_device(name)


@pytest.mark.parametrize(
    ("wish", "with_gpu", "without"),
    [
        ({}, "torch", "cpu"),
        ({"is_long": True}, "torch", "cpu"),
        ({"device": "cpu"}, "cpu", "cpu"),
        ({"precision": "int8"}, "openvino", "openvino"),
        ({"precision": "bf16"}, "torch", "cpu"),
        ({"device": "cuda"}, "torch", "torch"),
        ({"device": "cuda", "precision": "int8"}, "torch", "torch"),
        ({"compile": True, "is_long": True}, "torch", "torch"),
        ({"backend": "torch", "device": "cpu"}, "torch", "torch"),
        ({"backend": "openvino"}, "openvino", "openvino"),
        ({"backend": "onnx", "device": "cpu"}, "onnx", "onnx"),
    ],
)
def test_auto_backend(monkeypatch: pytest.MonkeyPatch, wish: dict[str, object], with_gpu: str, without: str) -> None:
    """Where a GPU is there, and where none is; "cpu" stands for the rule of CPUs, which here takes OpenVINO."""
    monkeypatch.setattr(choose, "_openvino_pays", lambda source, wish: True)
    monkeypatch.setattr(choose, "kernel", lambda: None)
    for there, expected in ((True, with_gpu), (False, without)):
        monkeypatch.setattr(choose, "has_gpu", lambda there=there: there)
        chosen = choose_runtime(SOURCE, Wish(**wish))  # type: ignore[arg-type]
        assert chosen == ("openvino" if expected == "cpu" else expected)


@pytest.mark.parametrize(
    ("model", "precision", "flags", "there", "expected"),
    [
        ("ssd300_vgg16", "auto", {"avx512f", "avx512_bf16"}, True, "torch"),
        ("ssd300_vgg16", "auto", {"avx512f", "amx_bf16"}, True, "openvino"),
        ("ssd300_vgg16", "fp32", {"avx512f", "amx_bf16"}, True, "torch"),
        ("ssd300_vgg16", "bf16", {"avx512f"}, True, "torch"),
        ("ssd300_vgg16", "bf16", {"avx512f", "amx_bf16"}, True, "openvino"),
        ("ssd300_vgg16", "int8", {"avx512f"}, True, "openvino"),
        ("ssd300_vgg16", "fp32", set(), False, "openvino"),
        ("ssd300_resnet50", "fp32", set(), True, "openvino"),
    ],
)
def test_our_convolutions_against_openvino(
    monkeypatch: pytest.MonkeyPatch, model: str, precision: str, flags: set[str], there: bool, expected: str
) -> None:
    monkeypatch.setattr(choose, "_openvino_pays", lambda source, wish: True)
    monkeypatch.setattr(choose, "has_gpu", lambda: False)
    monkeypatch.setattr(choose, "processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr(choose, "kernel", lambda: object() if there else None)
    source = Source(model_spec(model, ("a",)), None, Unbuilt())
    assert choose_runtime(source, Wish(precision=precision, is_long=True)) == expected


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"backend": "openvino", "device": "cuda"}, "`device='cuda'` goes with `backend='torch'`, not 'openvino'"),
        ({"backend": "onnx", "device": "mps"}, "`device='mps'` goes with `backend='torch'`, not 'onnx'"),
        ({"backend": "onnx", "compile": True}, "`compile=True` goes with `backend='torch'`, not 'onnx'"),
        ({"device": "tpu"}, "`device='tpu'`: unknown"),
    ],
)
def test_what_only_torch_can(wish: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_plan(SOURCE, Wish(**wish))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_after_a_fork(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(ConfigError, match="spawn"):
        choose_device(name)
    assert choose_device("cpu").type == "cpu"
