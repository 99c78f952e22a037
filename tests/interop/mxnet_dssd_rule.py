"""Names and shapes of mxnet-dssd's networks, by its naming rules alone: nothing of the importer is used."""

from __future__ import annotations

from typing import NamedTuple

Shape = tuple[int, ...]
VGG = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
RESNET101 = ((256, 3), (512, 4), (1024, 23), (2048, 3))
BOXES = {6: (4, 6, 6, 6, 4, 4), 7: (4, 6, 6, 6, 6, 4, 4)}
FINEST = 4
"""Levels with a deconvolution, and with a prediction module."""


class Form(NamedTuple):
    """A network of mxnet-dssd.

    Attributes:
        backbone: ``vgg`` or ``resnet101``.
        widths: ``num_filters``, finest first.
        neck: ``none``, ``dssd``, ``tdm`` or ``tdm_dssd``.
        module, residual: switches.
        first_sum, first_product: where the process stood with its counting of unnamed sums and products.
        deepest_first: modules are built in that order.
    """

    backbone: str
    widths: tuple[int, ...]
    neck: str = "dssd"
    module: bool = False
    residual: bool = False
    first_sum: int = 0
    first_product: int = 0
    deepest_first: bool = False


VGG_300 = Form("vgg", (512, 1024, 512, 256, 256, 256))
VGG_512 = Form("vgg", (512, 1024, 512, 256, 256, 256, 256))
RESNET101_321 = Form("resnet101", (1024, 2048, 512, 256, 256, 128))


class Listing:
    """Collects arguments and moving statistics in the order of building.

    Args:
        form: of the network.
        classes: without background.
    """

    def __init__(self, form: Form, classes: int = 20) -> None:
        self.form = form
        self.args: dict[str, Shape] = {}
        self.aux: dict[str, Shape] = {}
        self.sums = form.first_sum
        maps = self._vgg() if form.backbone == "vgg" else self._resnet101()
        maps += self._blocks()
        if "tdm" in form.neck:
            maps = self._tdm(maps)
        if form.backbone == "vgg":
            self.args["relu4_3_scale"] = (1, 512, 1, 1)
            maps = [f"broadcast_mul{form.first_product}", *maps[1:]]
        widths = list(form.widths)
        if "dssd" in form.neck:
            maps, widths = self._dssd(maps, widths)
        if form.module:
            maps = self._modules(maps, widths)
        for name, width, boxes in zip(maps, widths, BOXES[len(maps)], strict=True):
            self._convolution(f"{name}_loc_pred_conv", boxes * 4, width, 3)
            self._convolution(f"{name}_cls_pred_conv", boxes * (classes + 1), width, 3)

    @property
    def shapes(self) -> dict[str, Shape]:
        """All of them."""
        return {**self.args, **self.aux}

    def _sum(self) -> str:
        self.sums += 1
        return f"_plus{self.sums - 1}"

    def _convolution(self, name: str, out: int, into: int, kernel: int, bias: bool = True) -> None:
        self.args[f"{name}_weight"] = (out, into, kernel, kernel)
        if bias:
            self.args[f"{name}_bias"] = (out,)

    def _norm(self, name: str, channels: int) -> None:
        self.args |= {f"{name}_gamma": (channels,), f"{name}_beta": (channels,)}
        self.aux |= {f"{name}_moving_mean": (channels,), f"{name}_moving_var": (channels,)}

    def _vgg(self) -> list[str]:
        into = 3
        for stage, (channels, count) in enumerate(VGG, 1):
            for index in range(1, count + 1):
                self._convolution(f"conv{stage}_{index}", channels, into, 3)
                into = channels
        self._convolution("fc6", 1024, 512, 3)
        self._convolution("fc7", 1024, 1024, 1)
        return ["relu4_3", "relu7"]

    def _unit(self, name: str, out: int, into: int, project: bool) -> str:
        """A pre-activation bottleneck; the name of its sum."""
        self._norm(f"{name}_bn1", into)
        self._convolution(f"{name}_conv1", out // 4, into, 1, bias=False)
        self._norm(f"{name}_bn2", out // 4)
        self._convolution(f"{name}_conv2", out // 4, out // 4, 3, bias=False)
        self._norm(f"{name}_bn3", out // 4)
        self._convolution(f"{name}_conv3", out, out // 4, 1, bias=False)
        if project:
            self._convolution(f"{name}_sc", out, into, 1, bias=False)
        return self._sum()

    def _resnet101(self) -> list[str]:
        self._norm("bn_data", 3)
        self._convolution("conv0", 64, 3, 7, bias=False)
        self._norm("bn0", 64)
        into, last = 64, []
        for stage, (channels, count) in enumerate(RESNET101, 1):
            for unit in range(1, count + 1):
                name = self._unit(f"stage{stage}_unit{unit}", channels, into, project=unit == 1)
                into = channels
            last.append(name)
        return last[2:]

    def _blocks(self) -> list[str]:
        maps, widths = [], self.form.widths
        for k in range(2, len(widths)):
            out, into = widths[k], widths[k - 1]
            if self.form.residual:
                maps.append(self._unit(str(k), out, into, project=True))
                continue
            middle = max(128, out // 2)
            self._convolution(f"multi_feat_{k}_conv_1x1_conv", middle, into, 1)
            self._convolution(f"multi_feat_{k}_conv_3x3_conv", out, middle, 3)
            maps.append(f"multi_feat_{k}_conv_3x3_relu")
        return maps

    def _tdm(self, maps: list[str]) -> list[str]:
        widths, merged = self.form.widths, list(maps)
        for k in range(3, len(maps)):
            level = len(maps) - 1 - k
            half = widths[level] // 2
            self._convolution(f"{merged[level + 1]}{k}_thin", half, widths[level + 1], 3)
            self._convolution(f"{maps[level]}{k}_thin", half, widths[level], 3)
            merged[level] = f"concat{k}plus{k + 1}up"
        return merged

    def _dssd(self, maps: list[str], widths: list[int]) -> tuple[list[str], list[int]]:
        merged, result = list(maps), list(widths)
        for level in reversed(range(FINEST)):
            k, n = len(maps) - 1 - level, widths[level + 1]
            deep, lateral = merged[level + 1], maps[level]
            self.args[f"{deep}de_{k}_weight"] = (result[level + 1], n, 2, 2)
            for name, into in ((f"{deep}de_conv", n), (f"{lateral}conv", widths[level])):
                self._convolution(f"{name}_{k}", n, into, 3)
                self._norm(f"{name}_bn_{k}", n)
            self._convolution(f"{lateral}conv_bn_relu_conv_{k}", n, n, 3)
            self._norm(f"{lateral}conv_bn_relu_conv_bn{k}", n)
            merged[level], result[level] = f"conv{k}product{k + 1}de", n
        return merged, result

    def _modules(self, maps: list[str], widths: list[int]) -> list[str]:
        results = list(maps)
        for level in reversed(range(FINEST)) if self.form.deepest_first else range(FINEST):
            name, n = maps[level], widths[level]
            self._convolution(f"{name}conv1_1pre", n // 4, n, 1)
            self._convolution(f"{name}conv1_2pre", n // 4, n // 4, 1)
            self._convolution(f"{name}conv1_3pre", n, n // 4, 1)
            self._convolution(f"{name}conv2pre", n, n // 4, 1)
            results[level] = self._sum()
        return results
