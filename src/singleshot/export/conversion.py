"""From a torch network to a compiled one. Run as a program it converts a weights file, so that torch stays outside.

python -m singleshot.export.conversion openvino best.safetensors best.compiled
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from singleshot.core.lazy import lazy_module, require_torch
from singleshot.core.once import ForkSafeLock
from singleshot.errors import WeightsError
from singleshot.export.cache import file_sha256
from singleshot.export.info import HEADS
from singleshot.export.package import Kind, Package, PackageInfo, read_package
from singleshot.models.config import ModelSpec
from singleshot.weights.file import read_spec, read_state

if TYPE_CHECKING:
    import openvino as ov

    import singleshot.models.network as networks
else:
    networks = lazy_module("singleshot.models.network")
    ov = lazy_module("openvino")


TRACING = ForkSafeLock()
"""Torch's exporters have global state: one at a time."""


def convert_file(kind: Kind, weights: Path) -> Package:
    """Convert a weights file, in a process of its own unless torch is here already.

    Raises:
        WeightsError: the weights cannot be read, or cannot be converted.
        MissingExtraError: torch, which converts, is not installed.
    """
    require_torch(f"{weights}: converting it for {kind}")
    if "torch" in sys.modules:
        return _convert_file_here(kind, weights)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "network"
        command = [sys.executable, "-m", "singleshot.export.conversion"]
        done = subprocess.run([*command, kind, str(weights), str(target)], capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise WeightsError(f"{weights}: cannot be converted for {kind}: {reason}")
        return read_package(target)


def convert_network(kind: Kind, network: networks.Network, spec: ModelSpec, weights_sha256: str = "") -> Package:
    """Convert a network in memory; it must be in eval mode and on the CPU. One at a time: tracing has global state.

    Args:
        kind: engine.
        network: what to convert.
        spec: what belongs to it.
        weights_sha256: of the file that holds its weights.
    """
    from singleshot.models.build import build_anchors

    anchors = build_anchors(spec, network).numpy()
    make = _openvino_parts if kind == "openvino" else _onnx_parts
    with TRACING:
        parts = make(network, spec.preprocess.size_hw)
    made_with = f"torch {version('torch')}" + (f", openvino {version('openvino')}" if kind == "openvino" else "")
    info = PackageInfo(kind=kind, weights_sha256=weights_sha256, made_with=made_with, spec=spec)
    return Package(info, anchors, parts)


def as_openvino(package: Package) -> Package:
    """A network of kind ``onnx`` as OpenVINO reads it.

    Raises:
        WeightsError: OpenVINO cannot.
    """

    from singleshot.export.openvino_core import openvino_core

    try:
        model = openvino_core().read_model(package.parts[0])
        _simplify_pooling(model)
    except RuntimeError as error:
        raise WeightsError(f"OpenVINO cannot read the graph: {str(error).strip().splitlines()[-1]}") from error
    info = package.info.model_copy(update={"kind": "openvino", "made_with": f"openvino {version('openvino')}"})
    return Package(info, package.anchors_cxcywh, _saved(model))


def _convert_file_here(kind: Kind, weights: Path) -> Package:
    from singleshot.weights.network import load_network

    spec = read_spec(weights)
    return convert_network(kind, load_network(spec, read_state(weights), weights), spec, file_sha256(weights))


def _openvino_parts(network: networks.Network, size_hw: tuple[int, int]) -> tuple[bytes, bytes]:
    """The graph with any batch size. (Tracing takes a third of the time of ``torch.export`` and gives the same.)"""
    import openvino as ov
    import torch

    example = torch.zeros(2, network.backbone.in_channels, *size_hw)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        model = ov.convert_model(network, example_input=example)
    model.reshape([-1, *example.shape[1:]])
    _simplify_pooling(model)
    for output, name in zip(model.outputs, HEADS, strict=False):
        output.get_tensor().set_names({name})
    return _saved(model)


def _saved(model: ov.Model) -> tuple[bytes, bytes]:
    from singleshot.export.openvino_core import save_ir

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        save_ir(model, path)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def _simplify_pooling(model: ov.Model) -> None:
    """Plain ``ceil`` for torch's way of rounding up where the maps are the same: OpenVINO has only that one in int8."""
    from openvino import opset8

    for pool in model.get_ordered_ops():
        if pool.get_type_name() != "MaxPool" or pool.get_attributes()["rounding_type"] != "ceil_torch":
            continue
        settings = pool.get_attributes() | {"rounding_type": "ceil"}
        plain = opset8.max_pool(pool.input_value(0), kernel_shape=settings.pop("kernel"), **settings)
        if plain.output(0).get_partial_shape() == pool.output(0).get_partial_shape():
            plain.set_friendly_name(pool.get_friendly_name())
            pool.output(0).replace(plain.output(0))


def _onnx_parts(network: networks.Network, size_hw: tuple[int, int]) -> tuple[bytes]:
    """The graph with any batch size, by torch's first exporter: the second needs a package more for the same graph."""
    import torch

    names = HEADS[: 2 if network.objectness_head is None else 4]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, network.backbone.in_channels, *size_hw),),
            path := Path(folder) / "model.onnx",
            dynamo=False,
            input_names=["images"],
            output_names=list(names),
            dynamic_axes={name: {0: "batch"} for name in ("images", *names)},
            opset_version=17,
        )
        return (path.read_bytes(),)


def main(arguments: Sequence[str]) -> int:
    """Convert a weights file: engine, weights, target."""
    kind, weights, target = arguments
    _convert_file_here("onnx" if kind == "onnx" else "openvino", Path(weights)).save(Path(target))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
