"""Detectors that people choose, exported and compared with themselves: counts, IoU, scores; batches and sizes.

    python benchmarks/export_family.py --data ../shared/data/coco_train343 --state rows.jsonl [--photos N] [NAME ...]

Every photo goes in alone, in its own size, then the first 3 and the first 16 as batches. The bundled detectors have
their weights. Others are random: BatchNorm's statistics and the spread of the heads are set on photos, as a training
would set them, else a network may amplify rounding without bounds. Each comparison is one line of the state file: a
second run goes on where the first stopped. Prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from singleshot.detector import load
from singleshot.errors import SingleshotError
from singleshot.export.verify import verify
from singleshot.export.writers import ExportWish, Run, plan_export
from singleshot.images.preprocess import preprocess_image
from singleshot.images.read import read_image
from singleshot.models.build import build_network
from singleshot.models.catalogue import MODELS, model_spec
from singleshot.models.config import ModelSpec
from singleshot.models.heads.multibox import MultiBoxHead
from singleshot.models.network import Network
from singleshot.prediction.sources import find_images
from singleshot.runtime.source import Source, StoredNetwork
from singleshot.weights.bundled import bundled_names

CELLS = (
    *(("onnx", level) for level in ("raw", "decoded", "end2end")),
    *(("openvino", level) for level in ("raw", "decoded", "end2end")),
    ("torchscript", "end2end"),
    ("torch", "end2end"),
)
TITLES = {"onnx": "ONNX", "openvino": "OpenVINO", "torchscript": "TorchScript", "torch": "torch.export"}
BATCHES = (3, 16)
PHOTOS = ((6e6, 100), (15e6, 8), (1e12, 3))
"""Parameters of a network up to which so many photos are looked at; in place of a measurement of its time."""
LARGE_PHOTOS = 8
"""Networks of at most so many photos see no batch of 16."""
LOGITS_STD, CODES_STD = 1.5, 1.0
"""Of trained detectors, about: scores between nothing and sure, boxes within one side of their default boxes."""
CALIBRATION = 8
CLASSES = tuple(f"class {number}" for number in range(20))

Pictures = Sequence[NDArray[np.uint8]]


class Remembering(nn.Module):
    """A network that computes the output of a batch once."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self._known: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, batch: Tensor) -> Any:
        key = hash(batch.numpy().tobytes())
        if key not in self._known:
            self._known[key] = self.network(batch)
        return self._known[key]


class Once:
    """`export.writers.Origin` of `Remembering`."""

    def __init__(self, spec: ModelSpec, network: Remembering) -> None:
        self.spec, self.weights, self._network = spec, None, network

    @property
    def network(self) -> Once:
        return self

    def get(self) -> Remembering:
        return self._network

    copy = get


def random_network(spec: ModelSpec, pictures: Pictures) -> Network:
    """Random numbers whose activations, logits and offsets spread as a trained network's."""
    torch.manual_seed(0)
    network = build_network(spec.network)
    batch = torch.from_numpy(np.stack([preprocess_image(picture, spec.preprocess) for picture in pictures]))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None  # the plain mean of what it sees
        network.train()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        if norms:
            network(batch)
        for norm in norms:
            norm.momentum = 0.1
        network.eval()
        for head in (module for module in network.modules() if isinstance(module, MultiBoxHead)):
            for predictors, spread in ((head.boxes, CODES_STD), (head.logits, LOGITS_STD)):
                _spread(network, predictors, spread, batch)
    return network


def _spread(network: Network, predictors: nn.ModuleList, spread: float, batch: Tensor) -> None:
    """Scale the last convolution of each predictor until what it says spreads so far."""
    found: dict[int, float] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, place=place: found.update({place: float(output.std())}))
        for place, module in enumerate(predictors)
    ]
    network(batch)
    for hook in hooks:
        hook.remove()
    for place, module in enumerate(predictors):
        last = [part for part in module.modules() if isinstance(part, nn.Conv2d)][-1]
        for parameter in last.parameters():
            parameter.mul_(spread / max(found[place], 1e-12))


def source_of(name: str, pictures: Pictures) -> Source:
    """A bundled detector, or a random one."""
    if name in bundled_names():
        detector = load(name)
        return Source(detector.spec, None, StoredNetwork(detector.spec, detector.network.state_dict()))
    spec = model_spec(name, CLASSES)
    return Source(spec, None, StoredNetwork(spec, {}, random_network(spec, pictures)))


def compare(source: Source, once: Once, cell: tuple[str, str], pictures: Pictures, batches: Sequence[int]) -> Any:
    """A row of the state file."""
    kind, level = cell
    wish = ExportWish(kind, level, dynamic=level == "end2end", precision="fp32")
    with tempfile.TemporaryDirectory() as folder:
        try:
            writer, info = plan_export(source.spec, wish)

            def open_file(score: float) -> Run:
                own = info.model_copy(update={"score": score})
                path = Path(folder) / f"file{writer.suffixes[0]}"
                writer.write(source, own, path)
                return writer.open(path, own)

            seen = verify(once, info, open_file, pictures, "photos", batches)
        except SingleshotError as error:
            return {"refused": str(error).split(". ")[0]}
    return {**asdict(seen), "agrees": seen.agrees}


def run(name: str, options: argparse.Namespace, done: dict[tuple[str, str, str], Any]) -> None:
    """All cells of a detector that are not yet done."""
    cells = [cell for cell in CELLS if (name, *cell) not in done and cell[0] in options.formats.split(",")]
    if not cells:
        return
    found = find_images(options.data, recursive=True)
    places = np.linspace(0, len(found) - 1, CALIBRATION).astype(int)
    source = source_of(name, [read_image(found[place]) for place in places])
    network = source.network.get()
    size = sum(parameter.numel() for parameter in network.parameters())
    count = options.photos or next(photos for most, photos in PHOTOS if size <= most)
    pictures = [
        read_image(found[place]) for place in np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)
    ]
    batches = BATCHES if count > LARGE_PHOTOS else BATCHES[:1]
    once = Once(source.spec, Remembering(source.network.copy()))
    for cell in cells:
        start = time.perf_counter()
        row = compare(source, once, cell, pictures, batches)
        row |= {"name": name, "format": cell[0], "level": cell[1], "seconds": round(time.perf_counter() - start)}
        row |= {"photos": len(pictures), "batches": list(batches), "sizes": len({one.shape for one in pictures})}
        done[name, *cell] = row
        print(name, *cell, {key: row[key] for key in row if key not in ("name", "format", "level", "bar")}, flush=True)
        with options.state.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def table(done: dict[tuple[str, str, str], Any]) -> list[str]:
    """Markdown: a detector a line, the worst over a format's levels."""
    names = dict.fromkeys(key[0] for key in done)
    lines = [f"| detector | photos, sizes | boxes | {' | '.join(TITLES.values())} |", "|---" * (3 + len(TITLES)) + "|"]
    for name in names:
        rows: dict[str, list[Any]] = defaultdict(list)
        for key, row in done.items():
            if key[0] == name:
                rows[key[1]].append(row)
        first = next(row for group in rows.values() for row in group)
        boxes = max((row.get("boxes", 0) for group in rows.values() for row in group), default=0)
        cells = [_cell(rows.get(kind, [])) for kind in TITLES]
        lines.append(f"| `{name}` | {first['photos']}, {first['sizes']} | {boxes:,} | {' | '.join(cells)} |")
    return lines


def _cell(rows: Sequence[Any]) -> str:
    """``3 levels: .9998, 2e-6``: the least IoU and the largest difference; what is missing stands behind them."""
    if not rows:
        return "-"
    if refused := next((row["refused"] for row in rows if "refused" in row), None):
        return str(refused)
    least, most = min(row["least_iou"] for row in rows), max(row["score_difference"] for row in rows)
    missing = max(max(row["boxes"], row["file_boxes"]) - row["matched"] for row in rows)
    at_threshold = max(row["at_threshold"] for row in rows)
    text = f"{least:.4f}, {most:.0e}".replace("0.", ".", 1)
    text += f"; {missing} of a tie" if missing and missing <= at_threshold else f"; {missing} missing" * bool(missing)
    return text if all(row["agrees"] for row in rows) else f"**{text}**"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data", type=Path, required=True, help="folder of photos")
    parser.add_argument("--state", type=Path, required=True, help="a line for each comparison that is done")
    parser.add_argument("--photos", type=int, help="in place of 100 for small networks, 8, and 3 for large ones")
    parser.add_argument("--formats", default=",".join(TITLES))
    options = parser.parse_args()
    lines = options.state.read_text(encoding="utf-8").splitlines() if options.state.exists() else []
    done = {(row["name"], row["format"], row["level"]): row for row in map(json.loads, lines)}
    catalogue = [name for name in MODELS.names() if not name.startswith("mxnet_")]
    for name in options.names or [*bundled_names(), *catalogue]:
        run(name, options, done)
    print("\n".join(table(done)))


if __name__ == "__main__":
    main()
