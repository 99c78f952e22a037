"""The same 100 malformed pictures and 100 malformed labels, given to singleshot and to others that are installed.

    python benchmarks/malformed.py [--peers singleshot,supervision,torchvision]

The files are made by code, from a seed. Each is read in a process that may die. What is counted: read, and right;
read, and what differs was said (a warning, a log, a line of a C library); refused by an exception, of a type of its own
or of any; silently wrong: other pixels or boxes than the whole file has, and not a word; crashed; hung (over 10 s).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from torture.damage import WORDS, damage_bytes
from torture.structures import in_json, in_png, in_rows, in_xml, structured

COUNT = 100
HANG_S = 10
SEED = 0
SIZE_HW = (48, 64)
BOXES = np.float64([[8, 6, 40, 30], [20, 10, 60, 44]])
NAMES = ("cat", "dog")


def photo() -> np.ndarray:
    """RGB, smooth: what is decoded from its JPEG is near to it."""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    return np.stack([4 * x, 5 * y, 2 * x + 2 * y], axis=-1).clip(0, 255).astype(np.uint8)


def pictures(folder: Path) -> list[Path]:
    """Half JPEG, half PNG."""
    made = []
    for number in range(COUNT):
        random, suffix = Random(f"{SEED} picture {number}"), (".jpg", ".png")[number % 2]
        content = cv2.imencode(suffix, photo()[..., ::-1])[1].tobytes()
        how = in_png if suffix == ".png" and random.random() < 0.5 else damage_bytes
        made.append(folder / f"picture{number}{suffix}")
        made[-1].write_bytes(structured(how, content, random, WORDS))
    return made


def whole_labels() -> dict[str, tuple[str, str, Callable[..., bytes]]]:
    """By format: the file's name, its content, and the damage that knows it."""
    height, width = SIZE_HW
    objects = "".join(
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{key}>{value:g}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "</bndbox></object>"
        for name, box in zip(NAMES, BOXES, strict=True)
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    boxes = [
        {"id": k, "image_id": 1, "category_id": k, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": 1, "iscrowd": 0}
        for k, (x0, y0, x1, y1) in enumerate(BOXES.tolist(), 1)
    ]
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": width, "height": height}],
        "annotations": boxes,
        "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)],
    }
    rows = [
        f"{k} {(x0 + x1) / 2 / width} {(y0 + y1) / 2 / height} {(x1 - x0) / width} {(y1 - y0) / height}\n"
        for k, (x0, y0, x1, y1) in enumerate(BOXES.tolist())
    ]
    return {
        "voc": ("a.xml", f"<annotation><filename>a.jpg</filename>{size}{objects}</annotation>", in_xml),
        "coco": ("coco.json", json.dumps(coco), in_json),
        "yolo": ("labels/a.txt", "".join(rows), in_rows),
    }


def labels(folder: Path) -> list[tuple[str, Path]]:
    """(format, data set of one picture) of a third VOC, COCO and YOLO each."""
    made = []
    picture = cv2.imencode(".jpg", photo()[..., ::-1])[1].tobytes()
    for number in range(COUNT):
        random, kind = Random(f"{SEED} labels {number}"), ("voc", "coco", "yolo")[number % 3]
        name, content, how = whole_labels()[kind]
        data = folder / f"labels{number}"
        (data / name).parent.mkdir(parents=True)
        (data / name).write_bytes(structured(how, content.encode(), random, WORDS))
        if kind == "yolo":
            (data / "images").mkdir()
            (data / "data.yaml").write_text("train: images\nval: images\nnames: [cat, dog]\n")
        (data / ("images/a.jpg" if kind == "yolo" else "a.jpg")).write_bytes(picture)
        made.append((kind, data))
    return made


def singleshot_picture(path: Path) -> tuple[np.ndarray, str]:
    from singleshot.images.read import read_image

    return read_image(path), ""


def singleshot_labels(kind: str, data: Path) -> tuple[np.ndarray, str]:
    from singleshot.data import dataset

    found = dataset.open(data)
    return np.concatenate([sample.boxes_xyxy for sample in found]), " ".join(map(str, found.problems))


def supervision_picture(path: Path) -> tuple[np.ndarray, str]:
    """As its data sets read pictures."""
    import supervision

    nothing = {str(path): supervision.Detections.empty()}
    picture = supervision.DetectionDataset(["cat"], [str(path)], nothing)[0][1]
    return picture if picture is None else picture[..., ::-1], ""


def supervision_labels(kind: str, data: Path) -> tuple[np.ndarray, str]:
    import supervision

    if kind == "voc":
        found = supervision.DetectionDataset.from_pascal_voc(str(data), str(data))
    elif kind == "coco":
        found = supervision.DetectionDataset.from_coco(str(data), str(data / "coco.json"))
    else:
        found = supervision.DetectionDataset.from_yolo(
            str(data / "images"), str(data / "labels"), str(data / "data.yaml")
        )
    boxes = [detections.xyxy for detections in found.annotations.values()]
    return np.concatenate(boxes), ""


def torchvision_picture(path: Path) -> tuple[np.ndarray, str]:
    from torchvision.io import ImageReadMode, decode_image

    return decode_image(str(path), ImageReadMode.RGB).permute(1, 2, 0).numpy(), ""


def torchvision_labels(kind: str, data: Path) -> tuple[np.ndarray, str]:
    """`CocoDetection`; it reads no YOLO, and VOC as a tree of texts."""
    from torchvision.datasets import CocoDetection

    if kind != "coco":
        raise NotImplementedError
    found = CocoDetection(str(data), str(data / "coco.json"))
    boxes = np.float64([own["bbox"] for _, target in (found[k] for k in range(len(found))) for own in target])
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), ""


PEERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "singleshot": (singleshot_picture, singleshot_labels),
    "supervision": (supervision_picture, supervision_labels),
    "torchvision": (torchvision_picture, torchvision_labels),
}


def is_right(found: np.ndarray, is_picture: bool) -> bool:
    """Whether pixels (but for JPEG's loss) or boxes are those of the whole file."""
    whole = photo() if is_picture else BOXES
    if found.shape != whole.shape:
        return False
    return float(np.abs(found.astype(np.float64) - whole).max()) <= (24 if is_picture else 1.01)


def outcome(read: Callable[..., tuple[np.ndarray, str]], *given: Any) -> str:
    """What a reader does with a file."""
    heard, before = io.StringIO(), os.fstat(2).st_size
    logging.basicConfig(stream=heard, level=logging.WARNING, force=True)
    try:
        with (
            contextlib.redirect_stdout(heard),
            contextlib.redirect_stderr(heard),
            warnings.catch_warnings(record=True) as warned,
        ):
            warnings.simplefilter("always")
            found, said = read(*given)
    except NotImplementedError:
        return "not read"
    except Exception as error:  # of any kind: peers have no type of their own
        return "refused, typed" if type(error).__module__.startswith("singleshot") else "refused"
    if found is not None and is_right(found, is_picture=len(given) == 1):
        return "read"
    is_said = said or warned or heard.getvalue() or os.fstat(2).st_size > before
    return "read, said" if is_said else "silently wrong"


def run(peer: str, jobs: list[tuple[Any, ...]], which: int, results: Any, first: int) -> None:
    """Outcomes from a job on, each written down at once: the process may die."""
    with tempfile.TemporaryFile() as lines:  # what C libraries say
        os.dup2(lines.fileno(), 2)
    for number in range(first, len(jobs)):
        results.put((number, "begun"))
        results.put((number, outcome(PEERS[peer][which], *jobs[number])))


def outcomes(peer: str, jobs: list[tuple[Any, ...]], which: int) -> Counter[str]:
    """All outcomes of a peer."""
    context, counted, number = multiprocessing.get_context("fork"), Counter[str](), 0
    outcome(PEERS[peer][which], *jobs[0])  # what it imports, before the fork
    while number < len(jobs):
        results = context.Queue()
        child = context.Process(target=run, args=(peer, jobs, which, results, number))
        child.start()
        while number < len(jobs):
            try:
                _, said = results.get(timeout=HANG_S)
            except Exception:  # queue.Empty: it hangs, or died
                counted["hung" if child.is_alive() else "crashed"] += 1
                number += 1
                child.kill()
                break
            if said != "begun":
                counted[said] += 1
                number += 1
        child.join()
    return counted


KINDS = ("read", "read, said", "refused, typed", "refused", "silently wrong", "crashed", "hung", "not read")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(name for name in PEERS if find_spec(name)))
    peers = parser.parse_args().peers.split(",")
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(path,) for path in pictures(Path(folder))], labels(Path(folder))
        print("| | " + " | ".join(KINDS) + " |\n|---|" + "---:|" * len(KINDS))
        for peer in peers:
            for which, what in enumerate(("pictures", "labels")):
                counted = outcomes(peer, jobs[which], which)
                print(f"| {peer}, {what} | " + " | ".join(str(counted[kind]) for kind in KINDS) + " |", flush=True)


if __name__ == "__main__":
    main()
