"""Winograd's convolution against a plain one in float64."""

from __future__ import annotations

import copy
import ctypes

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from singleshot.kernels.library import load, processor_flags
from singleshot.kernels.winograd import ConvLayer, Memory, bind, convolve, filter_gradients, kernel, transform_filters
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.fast_conv.inference import (
    WinogradConv2d,
    check_images,
    convolve_batch,
    filters_at_points,
    fits,
    halves,
    padded_bias,
)
from singleshot.models.layers import SameConv2d
from singleshot.runtime import fold, torch_forward
from singleshot.runtime.fold import fold_batch_norms, use_winograd
from singleshot.runtime.torch_forward import EagerForward, prepare_network

needs_kernel = pytest.mark.skipif(kernel() is None, reason="no C compiler here")

PLAIN = ("-fopenmp", "-ffp-contract=fast", "-Wno-psabi")


def libraries() -> list[ctypes.CDLL]:
    """The kernel as it is compiled here, and with narrow panels as older processors have it."""
    narrow = load("winograd", *PLAIN, "-mno-avx512f") if "avx512f" in processor_flags() else None
    return [library for library in (kernel(), bind(narrow)) if library is not None]


def exact(conv: nn.Conv2d, images: Tensor, relu: bool, pool: nn.MaxPool2d | None) -> Tensor:
    result = copy.deepcopy(conv).double()(images.double())
    result = result.relu() if relu else result
    return pool(result) if pool else result


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-4)


@needs_kernel
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_equals_a_plain_convolution(data: st.DataObject) -> None:
    batch, height, width = (data.draw(st.integers(1, high)) for high in (3, 23, 23))
    channels, filters = 16 * data.draw(st.integers(1, 5)), data.draw(st.integers(1, 150))
    dilation, pooling = data.draw(st.integers(1, 3)), data.draw(st.sampled_from(["", "floor", "ceil"]))
    pooling = pooling if dilation == 1 else ""
    padding = data.draw(st.integers(0, dilation + 1))
    relu, has_bias = data.draw(st.booleans()), data.draw(st.booleans())
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    conv = nn.Conv2d(channels, filters, 3, padding=padding, dilation=dilation, bias=has_bias).requires_grad_(False)
    pool = nn.MaxPool2d(2, 2, ceil_mode=pooling == "ceil") if pooling else None
    layer = ConvLayer(batch, channels, height, width, filters, padding, dilation, relu, pooling)
    if min(layer.out_hw) < 1:
        return
    images = torch.randn(batch, channels, height, width)
    expected = exact(conv, images, relu, pool)
    for library in libraries():
        module = WinogradConv2d(library, conv, relu, pool)
        assert_close(module(images), expected)
        assert_close(module(images.contiguous(memory_format=torch.channels_last)), expected)


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [(64, 64, 37), (512, 192, 19), (256, 512, 10)])
def test_any_number_of_threads_gives_the_same_bits(size: tuple[int, int, int], threads: int) -> None:
    channels, filters, side = size
    conv = nn.Conv2d(channels, filters, 3, padding=1).requires_grad_(False)
    images = torch.randn(2, channels, side, side)
    before = torch.get_num_threads()
    try:
        for library in libraries():
            torch.set_num_threads(1)
            alone = WinogradConv2d(library, conv)(images)
            torch.set_num_threads(threads)
            assert torch.equal(WinogradConv2d(library, conv)(images), alone)
    finally:
        torch.set_num_threads(before)
    assert_close(alone, exact(conv, images, False, None))


@needs_kernel
def test_nan_is_not_lost() -> None:
    conv = nn.Conv2d(16, 20, 3, padding=1).requires_grad_(False)
    images = torch.randn(1, 16, 20, 20)
    images[0, 3, 9, 9] = torch.nan
    for library in libraries():
        found = WinogradConv2d(library, conv, True, nn.MaxPool2d(2))(images)
        assert found[0, :, 4, 4].isnan().all()
        assert not found[0, :, 0, 0].isnan().any()


@needs_kernel
def test_what_the_kernel_does_not_compute_falls_to_torch() -> None:
    library = libraries()[0]
    conv = nn.Conv2d(16, 8, 3, padding=1).requires_grad_(False)
    module = WinogradConv2d(library, conv, True)
    small = torch.randn(2, 16, 1, 1)  # 36 products where a plain convolution needs 9
    assert not ConvLayer(2, 16, 1, 1, 8).is_worthwhile
    assert torch.equal(module(small), conv(small).relu())
    assert module(torch.randn(0, 16, 30, 30)).shape == (0, 8, 30, 30)
    with pytest.raises(RuntimeError, match="channels"):
        module(torch.randn(1, 32, 30, 30))
    doubled = WinogradConv2d(library, copy.deepcopy(conv).double())
    images = torch.randn(1, 16, 30, 30, dtype=torch.float64)
    assert torch.equal(doubled(images), doubled.conv(images))


@pytest.mark.parametrize(
    ("conv", "expected"),
    [
        (nn.Conv2d(16, 8, 3), True),
        (nn.Conv2d(32, 8, 3, padding=6, dilation=6), True),
        (SameConv2d(16, 8, 3), True),
        (nn.Conv2d(24, 8, 3), False),
        (nn.Conv2d(16, 8, 1), False),
        (nn.Conv2d(16, 8, 3, stride=2), False),
        (nn.Conv2d(16, 16, 3, groups=16), False),
        (nn.Conv2d(16, 8, 3, padding=(1, 0)), False),
        (nn.Conv2d(16, 8, 3, padding="same"), False),
        (nn.Conv2d(16, 8, 3, dilation=(1, 2)), False),
        (nn.Conv2d(16, 8, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(16, 8, 3).double(), False),
        (nn.Linear(16, 8), False),
    ],
)
def test_fits(conv: nn.Module, expected: bool) -> None:
    assert fits(conv) == expected


def test_a_dilated_convolution_is_not_pooled_with() -> None:
    with pytest.raises(ValueError, match="dilated"):
        WinogradConv2d(None, nn.Conv2d(16, 8, 3, dilation=2), pool=nn.MaxPool2d(2))  # type: ignore[arg-type]


def test_halves() -> None:
    assert halves(nn.MaxPool2d(2))
    assert halves(nn.MaxPool2d((2, 2), (2, 2), ceil_mode=True))
    assert not halves(nn.MaxPool2d(3, 2, padding=1))
    assert not halves(nn.MaxPool2d(2, 1))
    assert not halves(nn.MaxPool2d(2, return_indices=True))


class Small(nn.Module):
    """A chain with all that may stand behind a convolution, and a convolution used twice."""

    in_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv2d(3, 16, 3, padding=1)
        self.pooled, self.relu1 = nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.normed, self.norm, self.relu2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()
        self.tapped, self.relu3 = nn.Conv2d(32, 16, 3, padding=1), nn.ReLU()
        self.twice, self.relu4 = nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.pooled(self.start(x))))
        before = self.tapped(self.relu2(self.norm(self.normed(x))))
        x = self.relu3(before) + before
        return torch.as_tensor(self.relu4(self.twice(self.relu4(self.twice(x)))))


@needs_kernel
@torch.no_grad()
def test_takes_over_what_follows_where_nobody_else_reads_it() -> None:
    network = Small().eval()
    network.norm.running_mean.uniform_(-1, 1)
    network.norm.running_var.uniform_(0.5, 2)
    images = torch.randn(2, 3, 40, 40)
    expected = network(images)
    fold_batch_norms(network, 3, (40, 40))
    assert len(use_winograd(network, 3, (40, 40))) == 4
    assert isinstance(network.start, nn.Conv2d)
    modules = (network.pooled, network.normed, network.tapped, network.twice)
    assert [module.relu for module in modules] == [True, True, False, False]
    assert [module.pool is not None for module in modules] == [True, False, False, False]
    identities = [name for name, module in network.named_children() if isinstance(module, nn.Identity)]
    assert identities == ["relu1", "pool", "norm", "relu2"]
    assert not network.relu3.inplace
    torch.testing.assert_close(network(images), expected, rtol=0, atol=2e-4)


@needs_kernel
@pytest.mark.parametrize(
    "name",
    [
        "ssd300_vgg16",
        "ssd300_resnet18",
        pytest.param("refinedet320_vgg16", marks=pytest.mark.heavy),
        pytest.param("tdm300_vgg16", marks=pytest.mark.heavy),
        "mxnet_ssd_densenet_tiny_300",
    ],
)
@torch.inference_mode()
def test_networks_give_the_same_and_stay_as_they_were(name: str) -> None:
    spec = model_spec(name, ("a", "b"))
    torch.manual_seed(0)
    network = build_network(spec.network).eval()
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    modules = [type(module) for module in network.modules()]
    size_hw = spec.preprocess.size_hw
    images = torch.randn(1, 3, *size_hw)
    ready = prepare_network(network, size_hw, torch.device("cpu"), "fp32")
    count = sum(isinstance(module, WinogradConv2d) for module in ready.modules())
    assert count >= (20 if "vgg" in name else 1)
    for found, expected in zip(ready(images), network(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert [type(module) for module in network.modules()] == modules
    assert all(torch.equal(value, kept[key]) for key, value in network.state_dict().items())


@needs_kernel
@pytest.mark.parametrize(("flags", "taken"), [({"avx512_bf16"}, True), ({"amx_bf16"}, False)])
@torch.inference_mode()
def test_bf16_keeps_what_is_quicker_in_float32(monkeypatch: pytest.MonkeyPatch, flags: set[str], taken: bool) -> None:
    monkeypatch.setattr(torch_forward, "processor_flags", lambda: frozenset(flags))
    spec = model_spec("ssd300_vgg16", ("a", "b"))
    torch.manual_seed(0)
    network = build_network(spec.network).eval()
    ready = prepare_network(network, (300, 300), torch.device("cpu"), "bf16")
    ours = [module for module in ready.modules() if isinstance(module, WinogradConv2d)]
    assert bool(ours) == taken
    assert all(module.conv.weight.dtype == torch.float32 for module in ours)
    convolutions = {module for module in ready.modules() if isinstance(module, nn.Conv2d)} - {m.conv for m in ours}
    assert {module.weight.dtype for module in convolutions} == {torch.bfloat16}
    found = EagerForward(ready, "bf16")(np.random.default_rng(0).random((1, 3, 300, 300), dtype=np.float32))
    expected = network(torch.from_numpy(np.random.default_rng(0).random((1, 3, 300, 300), dtype=np.float32)))
    for ours_of, exact in zip(found, expected, strict=True):
        assert (ours_of.float() - exact).norm() <= 0.05 * exact.norm()


def test_without_a_kernel_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "kernel", lambda: None)
    network = Small().eval()
    assert use_winograd(network, 3, (40, 40)) == []
    assert not any(isinstance(module, WinogradConv2d) for module in network.modules())


GOOD = ConvLayer(2, 16, 12, 12, 8)


@needs_kernel
@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 17}, {"channels": 0}, {"batch": 0}, {"filters": 0}, {"height": 0}, {"padding": -1},
        {"width": 2, "padding": 0}, {"dilation": 0}, {"pool": "floor", "dilation": 2, "padding": 2},
        {"pool": "floor", "width": 1},
    ],
    ids=str,
)  # fmt: skip
def test_sizes_that_c_must_not_see(changes: dict[str, object]) -> None:
    layer, library = GOOD._replace(**changes), kernel()
    assert library is not None
    with pytest.raises(ValueError, match="expected sizes of 1 or more"):
        convolve(library, layer, Memory(0, 0, 0, 0), 1)
    with pytest.raises(ValueError, match="expected"):
        filter_gradients(library, layer, 0, 0, 1)


@needs_kernel
def test_no_threads_no_filters_no_gradients_of_relu() -> None:
    library = kernel()
    assert library is not None
    with pytest.raises(ValueError, match="in 0 threads"):
        convolve(library, GOOD, Memory(0, 0, 0, 0), 0)
    with pytest.raises(ValueError, match="no ReLU"):
        filter_gradients(library, GOOD._replace(relu=True), 0, 0, 1)
    with pytest.raises(ValueError, match=r"filters and channels \(0, 16\)"):
        transform_filters(library, 0, (0, 16), (1, 1, 1, 1), 0, 1)


@needs_kernel
@pytest.mark.parametrize("which", ["images", "points", "bias"])
@pytest.mark.parametrize("wrong", ["shape", "type", "layout"])
def test_tensors_that_c_must_not_see(which: str, wrong: str) -> None:
    library = kernel()
    assert library is not None
    weight = torch.randn(8, 16, 3, 3)
    tensors = {
        "images": torch.randn(2, 16, 12, 12).contiguous(memory_format=torch.channels_last),
        "points": filters_at_points(library, weight),
        "bias": padded_bias(None, 8),
    }
    assert convolve_batch(library, GOOD, *tensors.values()).shape == (2, 8, 12, 12)
    good = tensors[which]
    bad = {"shape": good[..., :-1], "type": good.double(), "layout": good.repeat_interleave(2, dim=-1)[..., ::2]}
    tensors[which] = bad[wrong]
    with pytest.raises(ValueError, match=rf"{which}.*expected"):
        convolve_batch(library, GOOD, *tensors.values())


@needs_kernel
@pytest.mark.parametrize("weight", [torch.zeros(8, 16, 3, 2), torch.zeros(8, 16, 3, 3).double(), torch.zeros(8, 16)])
def test_filters_that_c_must_not_see(weight: Tensor) -> None:
    library = kernel()
    assert library is not None
    with pytest.raises(ValueError, match=r"filters: .*expected float32"):
        filters_at_points(library, weight)


def test_images_with_channels_outermost_are_refused() -> None:
    with pytest.raises(ValueError, match="expected channels innermost"):
        check_images("images", torch.zeros(2, 16, 12, 12), (2, 16, 12, 12))
