"""A file that holds the whole way from a picture to detections, against its raw network with our compiled steps.

    python benchmarks/export.py [--quick] [--json FILE]

One photo of 640 x 480, the bundled detector in fp32. Both contenders begin with the same bytes and end with boxes in
pixels of the photo: the file resizes, decodes and suppresses by nodes of its graph; with the raw network, our C does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from common import Measured, Settings, compare, main, take_turns
from singleshot.core.postprocess import HeadGeometry
from singleshot.detector import load
from singleshot.images.preprocess import preprocess_image
from singleshot.images.samples import sample_pictures
from singleshot.kernels.detect import CompiledForm

GOAL = 0.95


def onnx_run(path: Path, threads: int) -> Callable[[NDArray[np.generic]], list[NDArray[np.generic]]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})


def openvino_run(path: Path, threads: int) -> Callable[[NDArray[np.generic]], list[NDArray[np.generic]]]:
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()

    def run(batch: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        request.infer([batch], share_inputs=True)
        return [tensor.data for tensor in request.output_tensors]

    return run


def measure_row(settings: Settings) -> list[Measured]:
    detector, lines = load("coco"), []
    picture = cv2.resize(sample_pictures(1)[0][0], (640, 480))
    rounds = settings.choose(200, 40, 2)
    with tempfile.TemporaryDirectory() as folder:
        for name, suffix, open_file in (("onnx", ".onnx", onnx_run), ("openvino", ".xml", openvino_run)):
            files = {
                level: detector.export(
                    f"{folder}/{level}{suffix}", format=name, level=level, dynamic=level == "end2end",
                    precision="fp32", verify=False, note=str,
                )
                for level in ("raw", "end2end")
            }  # fmt: skip
            whole, raw = (open_file(files[level].path, settings.threads) for level in ("end2end", "raw"))
            info = files["end2end"].info
            spec = info.spec
            anchors = detector.anchors().numpy()
            form = CompiledForm(HeadGeometry(anchors, spec.coder, spec.preprocess.size_hw, len(spec.class_names)))
            sides = np.float32([640, 480] * 2) / np.float32(spec.preprocess.size_hw[::-1] * 2)

            def steps(raw=raw, form=form, info=info, spec=spec, sides=sides):
                found = form(raw(preprocess_image(picture, spec.preprocess)[None]), info.postprocess)
                return found.boxes_xyxy * sides, found.scores

            boxes, _ = steps()
            np.testing.assert_allclose(whole(picture[None])[0][0, : boxes.shape[1]], boxes[0], atol=0.01)
            contenders = {"singleshot, end2end": lambda whole=whole: whole(picture[None]), "raw and C": steps}
            values = take_turns(contenders, rounds)
            lines += compare(f"{name}, one photo to boxes", values, goals={"singleshot, end2end": GOAL})
    return lines


if __name__ == "__main__":
    main(__doc__, measure_row)
