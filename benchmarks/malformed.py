"""The same 100 malformed pictures and 100 malformed labels, given to singleshot and to others.

    python benchmarks/malformed.py singleshot supervision ultralytics=elsewhere/bin/python

A name alone is read by this Python, `NAME=PYTHON` by another. The files are made by code, from a seed, once for all.
Each is read in a process that may die. What is counted: read, and right; read, and what differs was said (a warning, a
log, a line of a C library); refused by an exception, of a type of its own or of any; silently wrong: other pixels,
boxes or classes than the whole file has, and not a word; crashed; hung (over 30 s). A change that leaves a valid file
which says something else (a box moved by a pixel) cannot be known by anyone: it is silently wrong in every row.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import logging
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from torture.damage import WORDS, damage_bytes
from torture.structures import in_json, in_png, in_rows, in_xml, structured

COUNT = 100
HANG_S = 30
SEED = 0
SIZE_HW = (48, 64)
BOXES = np.float64([[8, 6, 40, 30], [20, 10, 60, 44]])
NAMES = ("cat", "dog")
FORMATS = ("voc", "coco", "yolo")


class Job(NamedTuple):
    """A file, or the data set it is in; ``kind`` is `pictures` or a format of labels."""

    kind: str
    path: Path


class Found(NamedTuple):
    """Pixels or boxes, the classes' names, and what was said beside warnings and logs."""

    values: np.ndarray | None
    names: tuple[str, ...] = ()
    said: str = ""


def photo() -> np.ndarray:
    """RGB, smooth: what is decoded from its JPEG is near to it."""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    return np.stack([4 * x, 5 * y, 2 * x + 2 * y], axis=-1).clip(0, 255).astype(np.uint8)


def pictures(folder: Path, whole: bool = False) -> list[Job]:
    """Half JPEG, half PNG."""
    made = []
    for number in range(2 if whole else COUNT):
        random, suffix = Random(f"{SEED} picture {number}"), (".jpg", ".png")[number % 2]
        content = cv2.imencode(suffix, photo()[..., ::-1])[1].tobytes()
        how = in_png if suffix == ".png" and random.random() < 0.5 else damage_bytes
        made.append(Job("pictures", folder / f"picture{number}{suffix}"))
        made[-1].path.write_bytes(content if whole else structured(how, content, random, WORDS))
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


def labels(folder: Path, whole: bool = False) -> list[Job]:
    """Data sets of one picture, a third VOC, COCO and YOLO each."""
    made = []
    picture = cv2.imencode(".jpg", photo()[..., ::-1])[1].tobytes()
    for number in range(len(FORMATS) if whole else COUNT):
        random, kind = Random(f"{SEED} labels {number}"), FORMATS[number % len(FORMATS)]
        name, content, how = whole_labels()[kind]
        data = folder / f"labels{number}"
        (data / name).parent.mkdir(parents=True)
        (data / name).write_bytes(content.encode() if whole else structured(how, content.encode(), random, WORDS))
        if kind == "yolo":
            (data / "images").mkdir()
            (data / "data.yaml").write_text("train: images\nval: images\nnames: [cat, dog]\n")
        (data / ("images/a.jpg" if kind == "yolo" else "a.jpg")).write_bytes(picture)
        made.append(Job(kind, data))
    return made


def named(class_ids: Any, names: Any) -> tuple[str, ...]:
    return tuple(str(names[int(class_id)]) for class_id in class_ids)


def singleshot_reader(job: Job) -> Found:
    import singleshot
    from singleshot.images.read import read_image

    if job.kind == "pictures":
        return Found(read_image(job.path))
    found = singleshot.data.open(job.path)
    class_ids = [class_id for sample in found for class_id in sample.class_ids]
    boxes = np.concatenate([sample.boxes_xyxy for sample in found])
    return Found(boxes, named(class_ids, found.class_map.names), " ".join(map(str, found.problems)))


def supervision_reader(job: Job) -> Found:
    import supervision

    kind, data = job
    if kind == "pictures":  # as its data sets read them
        nothing = {str(data): supervision.Detections.empty()}
        picture = supervision.DetectionDataset(["cat"], [str(data)], nothing)[0][1]
        return Found(picture if picture is None else picture[..., ::-1])
    if kind == "voc":
        found = supervision.DetectionDataset.from_pascal_voc(str(data), str(data))
    elif kind == "coco":
        found = supervision.DetectionDataset.from_coco(str(data), str(data / "coco.json"))
    else:
        found = supervision.DetectionDataset.from_yolo(
            str(data / "images"), str(data / "labels"), str(data / "data.yaml")
        )
    rows = list(found.annotations.values())
    class_ids = [class_id for detections in rows for class_id in detections.class_id]
    return Found(np.concatenate([detections.xyxy for detections in rows]), named(class_ids, found.classes))


def torchvision_reader(job: Job) -> Found:
    """Of labels COCO's; it reads no YOLO, and VOC as a tree of texts."""
    from torchvision.datasets import CocoDetection
    from torchvision.io import ImageReadMode, decode_image

    if job.kind == "pictures":
        return Found(decode_image(str(job.path), ImageReadMode.RGB).permute(1, 2, 0).numpy())
    if job.kind != "coco":
        raise NotImplementedError
    found = CocoDetection(str(job.path), str(job.path / "coco.json"))
    rows = [row for _, target in (found[k] for k in range(len(found))) for row in target]
    names = tuple(found.coco.cats[row["category_id"]]["name"] for row in rows)
    return Found(corners(np.float64([row["bbox"] for row in rows])), names)


def corners(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def ultralytics_reader(job: Job) -> Found:
    """Pictures as `predict` gives them back, rows of YOLO as its data set; COCO by its converter; no VOC."""
    from ultralytics.data import YOLODataset
    from ultralytics.data.converter import convert_coco

    if job.kind == "pictures":
        (found,) = yolo()(str(job.path), imgsz=64, verbose=False)
        return Found(found.orig_img[..., ::-1])
    if job.kind == "voc":
        raise NotImplementedError
    scale = np.float64(SIZE_HW[::-1])
    if job.kind == "yolo":
        data = YOLODataset(img_path=str(job.path / "images"), data={"names": dict(enumerate(NAMES))}, task="detect")
        rows = [np.c_[label["cls"], label["bboxes"]] for label in data.labels]
    else:
        made = job.path / "made"
        convert_coco(str(job.path), str(made), use_segments=False, cls91to80=False)
        rows = [np.loadtxt(path, ndmin=2) for path in sorted((made / "labels").rglob("*.txt"))]
    table = np.concatenate(rows)
    centres, sizes = table[:, 1:3] * scale, table[:, 3:5] * scale
    return Found(np.c_[centres - sizes / 2, centres + sizes / 2], named(table[:, 0], NAMES))


@functools.cache
def yolo() -> Any:
    """A network of random numbers: what it finds is not looked at."""
    from ultralytics import YOLO

    return YOLO("yolo11n.yaml")


READERS: dict[str, Callable[[Job], Found]] = {
    "singleshot": singleshot_reader,
    "supervision": supervision_reader,
    "torchvision": torchvision_reader,
    "ultralytics": ultralytics_reader,
}


def is_right(found: Found, job: Job) -> bool:
    """Whether pixels (but for JPEG's loss), or boxes and classes, are those of the whole file."""
    is_picture = job.kind == "pictures"
    whole, loss = (photo(), 24 * (job.path.suffix == ".jpg")) if is_picture else (BOXES, 1.01)
    if found.values is None or found.values.shape != whole.shape:
        return False
    is_near = float(np.abs(found.values.astype(np.float64) - whole).max()) <= loss
    return is_near and (is_picture or found.names == NAMES)


CORRUPT = re.compile(r"[1-9]\d* corrupt|WARNING|Corrupt")


def outcome(read: Callable[[Job], Found], job: Job) -> str:
    """What a reader does with a file."""
    heard, before = io.StringIO(), os.fstat(2).st_size
    handler = logging.StreamHandler(heard)
    handler.setLevel(logging.WARNING)
    for name in ("", "ultralytics"):  # whose records do not reach the root
        logging.getLogger(name).handlers = [handler]
    printed = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            warnings.catch_warnings(record=True) as warned,
        ):
            warnings.simplefilter("always")
            found = read(job)
    except NotImplementedError:
        return "not read"
    except Exception as error:  # of any kind: most have no type of their own
        return "refused, typed" if type(error).__module__.startswith("singleshot") else "refused"
    if is_right(found, job):
        return "read"
    is_said = found.said or warned or heard.getvalue() or CORRUPT.search(printed.getvalue())
    return "read, said" if is_said or os.fstat(2).st_size > before else "silently wrong"


def run(peer: str, jobs: list[Job], first: int, results: Any) -> None:
    """Outcomes from a job on, each sent at once: the process may die."""
    with tempfile.TemporaryFile() as lines:  # what C libraries say
        os.dup2(lines.fileno(), 2)
    for job in jobs[first:]:
        results.send(outcome(READERS[peer], job))


def outcomes(peer: str, jobs: list[Job]) -> list[str]:
    """Of every job, in a process that is begun again behind what it dies of."""
    context, found = multiprocessing.get_context("fork"), []
    while len(found) < len(jobs):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=run, args=(peer, jobs, len(found), sender))
        child.start()
        sender.close()
        while len(found) < len(jobs):
            try:
                found.append(receiver.recv() if receiver.poll(HANG_S) else "hung")
            except EOFError:
                found.append("crashed")
            if found[-1] in ("hung", "crashed"):
                child.kill()
                break
        child.join()
    return found


KINDS = ("read", "read, said", "refused, typed", "refused", "silently wrong", "crashed", "hung", "not read")


def read_all(peer: str, folder: Path) -> None:
    """In the peer's own Python: prints the outcomes as JSON, after it has read whole files (imports, before a fork)."""
    (folder / "whole").mkdir()
    for job in [*pictures(folder / "whole", whole=True), *labels(folder / "whole", whole=True)]:
        found = outcome(READERS[peer], job)
        if found not in ("read", "not read"):
            sys.exit(f"{peer}: whole {job.kind}: {found}")
    jobs = [Job(kind, folder / name) for kind, name in json.loads((folder / "jobs.json").read_text())]
    print(json.dumps(outcomes(peer, jobs)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", default=list(READERS), metavar="NAME[=PYTHON]")
    parser.add_argument("--show", help="print the files of this outcome, and keep them")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        return read_all(options.peers[0], options.read)
    print("| | " + " | ".join(KINDS) + " |\n|---|" + "---:|" * len(KINDS))
    for peer in options.peers:
        name, _, python = peer.partition("=")
        folder = Path(tempfile.mkdtemp(prefix=f"malformed-{name}-"))
        jobs = pictures(folder) + labels(folder)
        (folder / "jobs.json").write_text(json.dumps([(job.kind, job.path.name) for job in jobs]))
        command = [python or sys.executable, __file__, name, "--read", str(folder)]
        settings = {"OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(folder)}
        said = subprocess.run(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=True).stdout
        found = json.loads(said.splitlines()[-1])
        for kind in ("pictures", *FORMATS):
            counted = Counter(how for job, how in zip(jobs, found, strict=True) if job.kind == kind)
            print(f"| {name}, {kind} | " + " | ".join(str(counted[key]) for key in KINDS) + " |", flush=True)
        shown = [job for job, how in zip(jobs, found, strict=True) if how == options.show]
        print("\n".join(str(job.path) for job in shown), end="\n" if shown else "")
        if not shown:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
