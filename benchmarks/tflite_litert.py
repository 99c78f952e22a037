"""Raw heads of an imported TFLite graph beside LiteRT, on real photos.

LiteRT lives in an environment of its own:

    python -m venv benchmarks/.venv-litert
    benchmarks/.venv-litert/bin/pip install ai-edge-litert numpy
    python benchmarks/tflite_litert.py GRAPH.tflite PHOTO_FOLDER

Both read the same preprocessed pixels. Prints the largest difference of box codes and class outputs. Exit code 1 if one
is more than 1e-5 of the largest off.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TOLERANCE = 1e-5


def litert_side(graph: str, pixels: str, outputs: str) -> None:
    """Codes ``[N, A, 4]`` and class outputs ``[N, A, columns]`` of all photos. Runs under LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=graph)
    interpreter.allocate_tensors()
    places = sorted(interpreter.get_output_details(), key=lambda one: one["shape"][-1] != 4)
    found: list[list[np.ndarray]] = [[], []]
    for image in np.load(pixels):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image.transpose(1, 2, 0)[None])
        interpreter.invoke()
        for values, place in zip(found, places, strict=True):
            values.append(interpreter.get_tensor(place["index"])[0])
    np.savez(outputs, codes=np.stack(found[0]), logits=np.stack(found[1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--python", default=str(Path(__file__).parent / ".venv-litert/bin/python"))
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        litert_side(str(options.graph), *options.worker)
        return 0

    import torch

    import singleshot

    detector = singleshot.import_weights(options.graph, "tflite")
    photos = sorted(options.photos.glob("*.jpg"))[: options.count]
    pixels = torch.stack([detector.preprocess(path) for path in photos])
    with torch.no_grad():
        outputs = [detector.network(one[None]) for one in pixels]
    with tempfile.TemporaryDirectory() as folder:
        given, returned = Path(folder) / "pixels.npy", Path(folder) / "outputs.npz"
        np.save(given, pixels.numpy())
        command = [options.python, __file__, str(options.graph), str(options.photos), "--worker", given, returned]
        subprocess.run(command, check=True, capture_output=True)
        with np.load(returned) as file:
            theirs = file["codes"], file["logits"]
    ours = (
        torch.cat([one.box_codes for one in outputs]).numpy(),
        torch.cat([one.class_logits for one in outputs]).numpy(),
    )
    errors = []
    for name, a, b in zip(("box codes", "logits"), ours, theirs, strict=True):
        errors.append(float(np.abs(a - b).max() / np.abs(b).max()))
        print(f"{len(photos)} photos, {name}: {np.abs(a - b).max():.2g} of {np.abs(b).max():.3g} ({errors[-1]:.2g})")
    return int(max(errors) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
