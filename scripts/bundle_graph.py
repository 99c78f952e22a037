"""Make the graphs of the bundled detectors: each network as ONNX without its numbers, for machines without torch.

    python scripts/bundle_graph.py

`export.filled` puts the numbers of the weights files in.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import onnx
import torch

from singleshot.detector import load
from singleshot.export.cache import weights_sha256
from singleshot.export.conversion import HEADS
from singleshot.export.filled import graph_path
from singleshot.export.package import Package, PackageInfo
from singleshot.weights.bundled import bundled_names, bundled_path


def graph_of(network: torch.nn.Module, size_hw: tuple[int, int]) -> bytes:
    """The network with BatchNorms as they are, so that it names its numbers as the state does, and none of them."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, *size_hw),),
            path,
            dynamo=False,
            input_names=["images"],
            output_names=list(HEADS[:2]),
            dynamic_axes={name: {0: "batch"} for name in ("images", *HEADS[:2])},
            opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
        model = onnx.load(path)
    unknown = {tensor.name for tensor in model.graph.initializer} - set(network.state_dict())
    if unknown:
        raise SystemExit(f"numbers that the state does not name: {', '.join(sorted(unknown))}")
    del model.graph.initializer[:]
    return bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    """Export, save beside the weights."""
    for name in bundled_names():
        bundle(bundled_path(name))


def bundle(weights: Path) -> None:
    """The graph of a weights file, beside it."""
    detector = load(weights)
    info = PackageInfo(
        kind="onnx", weights_sha256=weights_sha256(weights), made_with=f"torch {torch.__version__}", spec=detector.spec
    )
    graph = graph_of(detector.network, detector.spec.preprocess.size_hw)
    path = Package(info, detector.anchors().numpy(), (graph,)).save(graph_path(weights), pack=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
