"""Make the int8 file of a bundled detector: calibrate on some photos of a COCO data set, measure on the others.

    python scripts/bundle_int8.py coco_train343/instances.json [--name coco-v3]

The first ``--calibration`` images (by file name) calibrate; what the detector loses on all others is recorded.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from singleshot import data
from singleshot.detector import load
from singleshot.evaluation.evaluate import evaluate
from singleshot.export.compiled import compiled_file
from singleshot.export.int8_file import int8_path
from singleshot.export.package import Package
from singleshot.export.quantize import quantize_package
from singleshot.weights.bundled import bundled_path


def main() -> None:
    """Calibrate, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a COCO data set")
    parser.add_argument("--name", default="coco", help="of the bundled detector")
    parser.add_argument("--calibration", type=int, default=100, help="images to calibrate on")
    arguments = parser.parse_args()
    dataset = data.open(arguments.data)
    order = sorted(range(len(dataset)), key=lambda index: dataset.samples[index].image_path.name)
    calibration = [dataset.samples[index].image_path for index in order[: arguments.calibration]]
    measured = dataset.subset(order[arguments.calibration :])
    weights = bundled_path(arguments.name)
    package = quantize_package(compiled_file("openvino", weights), calibration, arguments.calibration)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(weights, folder))
        package.save(int8_path(copy))
        detector = load(copy)
        ap = {
            name: evaluate(detector, measured, backend="openvino", precision=name).coco["AP"]
            for name in ("fp32", "int8")
        }
    notes = package.info.quantization | {
        "calibrated_on": f"{len(calibration)} photos of COCO train2017",
        "measured_on": f"{len(measured)} other photos of COCO train2017",
        **{f"{name}_AP": round(value, 4) for name, value in ap.items()},
    }
    info = package.info.model_copy(update={"quantization": notes})
    path = Package(info, package.anchors_cxcywh, package.parts).save(int8_path(weights))
    print(f"{path}: {path.stat().st_size:,} bytes, {notes}")


if __name__ == "__main__":
    main()
