"""What each page of the documentation assumes to be there, what of it is shortened, and what it must lead to."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
import yaml

import docs_moving
import singleshot
from interop.mxnet_writer import params_bytes
from reference_data import reference_folder
from singleshot.augment.config import PRESETS, parse_augment
from singleshot.data.decisions import decision_about, write_decisions
from singleshot.demo.detect import photo_folder
from singleshot.demo.scenes import make_scenes
from singleshot.detector import load
from singleshot.images.read import read_image, write_image
from singleshot.interop.mxnet.names import mxnet_names
from singleshot.interop.pytorch.torchvision import translate
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec
from singleshot.models.description import describe, read_description
from singleshot.prediction.job import Output, detect_and_save
from singleshot.training.recipes import read_config
from singleshot.weights.bundled import bundled_path

Names = dict[str, Any]
# What the pages do in minutes, the tests do in two steps of two images.
TRAIN = ("--minutes 20", "--steps 2 --batch 2 --workers 0 --size 96 --amp fp32")
TRAIN_IN_PYTHON = ("minutes=20", "steps=2, batch_size=2, workers=0, size=96, amp='fp32'")
SCENES = ("data scenes photos", "data scenes photos --count 12")


def nothing() -> Names:
    return {}


def unchecked(names: Names, printed: str) -> None:
    """Running is all that is asked."""


@dataclass(frozen=True)
class Desk:
    """How the blocks of a page are run.

    Attributes:
        prepare: makes the files that the page assumes, in an empty folder; gives names for its Python blocks.
        check: looks at what is there afterwards: the names of the Python blocks, and what they printed.
        shortened: texts of the page and what the test runs in their place, since they take minutes or chance.
        parsed: beginnings of commands (or of lines of Python) that are read and not run, each with the reason.
        settings: loads a ``yaml`` block as the page says it is used.
        extras: modules without which the page is skipped.
    """

    prepare: Callable[[], Names] = nothing
    check: Callable[[Names, str], None] = unchecked
    shortened: tuple[tuple[str, str], ...] = ()
    parsed: Mapping[str, str] = field(default_factory=dict)
    settings: Callable[[str], object] | None = None
    extras: tuple[str, ...] = ()


def photo(*paths: str) -> Names:
    """A cup of coffee under these names."""
    image = read_image(photo_folder() / "coffee.png")
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image)
    return {"rgb_array": image}


def weights(path: str) -> None:
    """The bundled detector under this name."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(bundled_path("coco"), path)


def dogs(folder: str, annotations: str = "instances.json") -> None:
    """Six gray images, each labelled with a dog, in COCO's format."""
    Path(folder).mkdir(parents=True)
    images, objects = [], []
    for number in range(6):
        cv2.imwrite(f"{folder}/{number}.png", np.full((60, 90, 3), 40 * number, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "height": 60, "width": 90})
        box = {"bbox": [10, 10, 40, 30], "area": 1200, "iscrowd": 0}
        objects.append({"id": number, "image_id": number, "category_id": 1, **box})
    document = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "dog"}]}
    Path(folder, annotations).write_text(json.dumps(document))


class SparkTable:
    """A Spark DataFrame with a column of paths, as far as the page needs one."""

    def mapInPandas(self, function: Callable[[Any], Any], schema: str) -> Any:
        import pandas

        return pandas.concat(list(function(iter([pandas.DataFrame({"path": ["photos/a.jpg"]})]))))


def dividing() -> Names:
    photo("photos/a.jpg", "photos/b.jpg")
    detect_and_save(load("coco").predictor(), [Path("photos/a.jpg")], Output(kinds=("parquet",), folder=Path("table")))
    return {"photos": SparkTable()}


def divided(names: Names, printed: str) -> None:
    assert printed.startswith("photos/a.jpg ['")
    assert names["failed"] == []
    assert list(names["objects"].columns) == ["path", "class_name", "score", "box"]
    assert "cup" in set(names["objects"]["class_name"])
    names["start"]()
    assert names["boxes"]("photos/b.jpg")[1]


def readme() -> Names:
    make_scenes("photos", count=10)
    return photo("street.jpg", "new_photos/one.jpg")


def readme_led_to(names: Names, printed: str) -> None:
    assert re.search(r"^cup 0\.\d\d at \[.*\]$", printed, flags=re.MULTILINE)
    for path in ("street_boxes.jpg", "runs/photos/best.safetensors", "runs/photos/eval/report.html"):
        assert Path(path).exists(), path
    assert Path("predictions/images/street.jpg").exists()
    assert Path("predictions-2/images/one.jpg").exists()


def started(names: Names, printed: str) -> None:
    assert Path("runs/photos/eval/report.html").exists()
    assert Path("predictions-2/images/one.jpg").exists()
    assert [result.path.name for result in names["model"].predict("new_photos")] == ["one.jpg"]


def scenes() -> Names:
    make_scenes("photos", count=12, size_hw=(40, 50))
    return {}


def data_read(names: Names, printed: str) -> None:
    assert (len(names["everything"]), names["train"].split, len(names["held_out"])) == (12, "trainval", 2)
    assert (Path("photos_coco/annotations").is_dir(), Path("photos_split/trainval.txt").exists()) == (True, True)
    assert len(names["packed"]) == len(list(Path("predictions/images").iterdir())) == 2
    assert len(list(Path("photos_voc/JPEGImages").iterdir())) == 12


def examined(names: Names, printed: str) -> None:
    assert names["found"].images == 12
    assert all(path.exists() for path in map(Path, ("diagnosis/diagnosis.html", "fitted/anchors.yaml")))


def training() -> Names:
    make_scenes("photos", count=10)
    photo("new.jpg")
    return {}


def trained(names: Names, printed: str) -> None:
    assert names["result"].report.exists()
    assert names["batch"].images.shape[1:] == (3, 96, 96)
    assert bool(names["losses"]["total"].isfinite())
    assert {"best.safetensors", "last.safetensors", "state.pt"} <= {path.name for path in Path("runs/photos").iterdir()}


def settings_file(text: str) -> None:
    if "backbone" in yaml.safe_load(text):
        return detector_file(text)
    Path("settings.yaml").write_text(text)
    assert read_config("settings.yaml").weights == yaml.safe_load(text)["weights"]


def service() -> Names:
    """A service that runs, with a detector that needs no time."""
    from serving.toys import ToyDetector, running

    open_until_the_end = ExitStack()
    live = open_until_the_end.enter_context(running({"toy": ToyDetector()}))
    return photo("street.jpg") | {"url": live.url, "open": open_until_the_end}


def served(names: Names, printed: str) -> None:
    names["open"].close()
    names["app"].state.service.repository.close()
    assert names["found"].class_names == ("cup", "dog", "cat")
    assert len(names["several"]) == 2
    assert "['toy'] True" in printed


def evaluation() -> Names:
    dogs("photos")
    dogs("cells/test", "_annotations.coco.json")
    weights("runs/cells/best.safetensors")
    boxes = np.array([[0.0, 0, 10, 10]])
    names: Names = {"image_index": np.zeros(1, int), "class_ids": np.zeros(1, int), "boxes_xyxy": boxes}
    return names | {"image_count": 1, "scores": np.ones(1)}


def evaluated(names: Names, printed: str) -> None:
    for folder in ("eval", "runs/cells/eval"):
        assert {path.name for path in Path(folder).iterdir()} == {"eval.json", "curves.csv", "report.html"}
    assert names["metrics"].voc_area == 1


def predicting() -> Names:
    weights("runs/photos/best.safetensors")
    make_scenes("VOCdevkit/VOC2012", count=6, size_hw=(40, 50))
    names = photo("street.jpg", "a.jpg", "b.jpg", "photos/c.jpg")
    with zipfile.ZipFile("photos.zip", "w") as packed:
        packed.write("a.jpg", "trip/a.jpg")
        packed.write("b.jpg", "b.jpg")
    Path("photos.txt").write_text("# two\na.jpg\nphotos/c.jpg\n")
    return names


def predicted(names: Names, printed: str) -> None:
    assert len(names["many"]) == 2
    assert Path("street_boxes.jpg").exists()
    assert Path("predictions-2/detections.csv").exists()
    assert Path("found/images/c.jpg").exists()
    assert Path("predictions-3/voc-results/comp4_det_test_cup.txt").exists()
    for folder, images in (
        ("zipped", {"trip/a.jpg", "b.jpg"}),
        ("trip", {"a.jpg"}),
        ("listed", {"a.jpg", "photos/c.jpg"}),
    ):
        found = (path.relative_to(f"{folder}/images") for path in Path(folder, "images").rglob("*.jpg"))
        assert {path.as_posix() for path in found} == images


def augmenting() -> Names:
    cv2.imwrite("street.jpg", np.zeros((120, 160, 3), np.uint8))
    return {"boxes": np.array([[20, 20, 90, 100]], np.float32), "class_ids": np.array([4])}


def augmented(names: Names, printed: str) -> None:
    assert names["image"].shape == (300, 300, 3)
    assert len(names["class_ids"]) == len(names["boxes_xyxy"])


def augment_settings(text: str) -> None:
    value = yaml.safe_load(text)["augment"]
    assert parse_augment(value) != PRESETS[value["preset"]]


def detector_file(text: str) -> None:
    name = "detector.yaml" if "backbone" in yaml.safe_load(text) else "lists.yaml"
    Path(name).write_text(text)
    describe(read_description(name), ["car", "person"])


def family_built(names: Names, printed: str) -> None:
    assert names["anchors"].shape == (6375, 4)
    assert names["spec"].network.neck.kind == "dssd"
    names["build_network"](names["spec"].network)


def explaining() -> Names:
    make_scenes("photos", count=10)
    return photo("street.jpg")


def from_torchvision() -> Names:
    """A checkpoint with torchvision's names, of our random numbers."""
    shapes = {
        "head.regression_head.module_list.0.1.weight": (24,),
        "head.classification_head.module_list.0.1.weight": (126,),
    }
    own = build_network(model_spec("ssdlite320_mobilenet_v3_large", [f"c{k}" for k in range(20)]).network).state_dict()
    theirs = translate(shapes, "x").rename
    checkpoint = "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"
    torch.save({theirs(name): value for name, value in own.items()}, checkpoint)
    return photo("photos/a.jpg", "street.jpg")


def torchvision_read(names: Names, printed: str) -> None:
    assert singleshot.load("ssdlite.safetensors").class_names[0] == "aeroplane"
    assert Path("predictions/detections.json").exists()


def from_mxnet() -> Names:
    """A checkpoint with MXNet's names, of our random numbers."""
    network = build_network(model_spec("mxnet_ssd_mobilenet_300", [f"c{k}" for k in range(20)]).network)
    own = network.state_dict()
    arrays = {
        f"{'aux' if 'moving' in theirs else 'arg'}:{theirs}": own[ours].numpy()
        for ours, theirs in mxnet_names(model_spec("mxnet_ssd_mobilenet_300", ["c"]).network, own).items()
    }
    Path("ssd_300-0240.params").write_bytes(params_bytes(arrays))
    return photo("photos/a.jpg", "a.jpg")


def recorded(folder: str, name: str) -> Callable[[], Names]:
    """A checkpoint of the reference data under the name that a page gives it, and photos."""

    def prepare() -> Names:
        original = reference_folder() / "weights" / folder
        if not original.is_dir():
            pytest.skip(f"no reference data in {reference_folder()} (set SINGLESHOT_REFERENCE)")
        Path(name).symlink_to(original)
        return photo("photos/a.jpg", "street.jpg", "photo.jpg")

    return prepare


def imported(names: Names, printed: str) -> None:
    assert names["model"].class_names
    assert Path("predictions/detections.json").exists()


def browsing() -> Names:
    """What the page shows, and a file of decisions."""
    dogs("photos")
    weights("runs/photos/best.safetensors")
    train_set, _ = singleshot.data.open_training("photos")
    names = train_set.class_map.names
    entries = [
        decision_about(train_set.path, train_set[0], names, None, "drop"),
        decision_about(train_set.path, train_set[1], names, 0, "keep"),
    ]
    write_decisions("photos-decisions.json", entries)
    return {}


def browsed(names: Names, printed: str) -> None:
    assert len(singleshot.data.open("clean")) == len(singleshot.data.open("photos")) - 1
    assert "1 image left out" in printed


def converted(names: Names, printed: str) -> None:
    assert Path("tao_coco/annotations/instances_train.json").exists()


CALIBRATION = "needs NNCF's calibration: tests/runtime"
AS_README = "the README's command, which README.md runs"
DOWNLOAD = "ImageNet weights are a download: tests/training/test_described.py trains it"
HOURS = "a training of hours, and data that is not here"


def clip() -> Names:
    """A cup of coffee that wanders, large photos, and a polygon."""
    photo("aerial/1.jpg", "aerial/2.jpg")
    image = read_image(photo_folder() / "coffee.png")
    with av.open("clip.mp4", "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 480, 320, "yuv420p"
        for number in range(6):
            part = np.ascontiguousarray(image[10 * number : 320 + 10 * number, 15 * number : 480 + 15 * number])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        output.mux(stream.encode(None))
    Path("zone.json").write_text('{"door": [[0, 100], [480, 100], [480, 320], [0, 320]]}', encoding="utf-8")
    return {}


def labelled_clip() -> Names:
    """The same, and something to learn from."""
    make_scenes("photos", count=10)
    return clip()


def watched(names: Names, printed: str) -> None:
    """Every frame was looked at, and the video written."""
    assert Path("predictions/videos/clip.mp4").is_file()
    assert Path("tracked/detections.csv").is_file()
    assert printed.count(" s Detections(") == 2


def followed(names: Names, printed: str) -> None:
    assert Path("counted/crossings.csv").is_file()
    assert names["found"].track_ids is not None


def exported(names: Names, printed: str) -> None:
    """Files, and a cup found by one of them outside singleshot."""
    assert {"street.onnx", "any.onnx", "coco.onnx"} <= {path.name for path in Path().iterdir()}
    assert re.search(r"^\d+ cup \[", printed, flags=re.MULTILINE)
    assert names["done"].verification.agrees


A_CAMERA = "a camera or a stream is needed"

DESKS = {
    "video.md": Desk(
        clip,
        watched,
        parsed={"singleshot predict rtsp:": A_CAMERA, "singleshot predict 0": A_CAMERA},
        extras=("skimage", "av"),
    ),
    "tracking.md": Desk(clip, followed, extras=("skimage", "av")),
    "small-objects.md": Desk(labelled_clip, shortened=(TRAIN,), extras=("skimage", "av")),
    "README.md": Desk(
        readme,
        readme_led_to,
        (TRAIN, TRAIN_IN_PYTHON),
        {"singleshot quantize": CALIBRATION},
        extras=("skimage", "matplotlib"),
    ),
    "CONTRIBUTING.md": Desk(),
    "reliability.md": Desk(),
    "getting-started.md": Desk(
        lambda: photo("street.jpg", "new_photos/one.jpg"),
        started,
        (TRAIN, SCENES, ("train --resume  ", "train --resume --steps 3  ")),
        extras=("skimage", "matplotlib"),
    ),
    "browse.md": Desk(browsing, browsed, (TRAIN,), {"singleshot browse": "a page that is served until Ctrl-C"}),
    "data.md": Desk(scenes, data_read, parsed={"singleshot train": AS_README}),
    "scale.md": Desk(),
    "doctor.md": Desk(
        scenes,
        examined,
        parsed={
            "singleshot doctor runs/photos/best.safetensors": "takes a detector of these classes: tests/doctor",
            "singleshot anchors photos  ": "the fitting is in the page once more",
            "singleshot train photos --recipe": "the settings are read in tests/training/test_anchor_comparison.py",
        },
    ),
    "train.md": Desk(
        training,
        trained,
        (TRAIN_IN_PYTHON, ("runs/photos   ", "runs/photos --steps 3")),
        {
            "singleshot train photos --minutes 20": AS_README,
            "singleshot train photos --devices": "processes of their own: tests/training/test_devices.py",
            "singleshot train --resume --out runs/photos --epochs": "the line above it with another length",
            "singleshot train VOCdevkit": HOURS,
            "singleshot train photos --model detector.yaml": DOWNLOAD,
        },
        settings_file,
        ("skimage",),
    ),
    "tune.md": Desk(
        parsed={
            "singleshot tune": "many trainings: tests/training/test_tune.py",
            "singleshot train photos --recipe": "it needs the study's best.yaml",
        }
    ),
    "evaluate.md": Desk(
        evaluation,
        evaluated,
        # the photos of the page are many, and a detector that finds the same in all has no interval
        (('result.intervals["AP50"]', 'result.intervals.get("AP50")'),),
        extras=("matplotlib",),
    ),
    "predict.md": Desk(predicting, predicted, extras=("skimage", "supervision")),
    "batch.md": Desk(
        dividing,
        divided,
        parsed={
            "singleshot predict": "processes and clusters: tests/prediction/test_batch.py, tests/test_ray.py",
            "singleshot serve": "runs until it is ended: tests/test_ray.py",
        },
        extras=("pandas", "pyarrow"),
    ),
    "backends.md": Desk(
        parsed={
            "singleshot predict photos/ --device cuda": "needs a GPU: tests/cuda",
            "singleshot predict photos/ --backend openvino": "needs OpenVINO's conversion: tests/runtime",
            "pip install": "an environment of its own: tests/test_without_torch.py",
            "singleshot predict street.jpg": "with and without an exported file: tests/runtime/test_exported.py",
            "singleshot quantize": CALIBRATION,
            "singleshot benchmark": "takes its seconds for every form: tests/evaluation/test_speed.py",
        },
    ),
    "mobile.md": Desk(
        parsed={
            "singleshot export coco --format executorch": "in an environment of its own: tests/export/test_mobile.py",
            "singleshot export coco --format": "exports of small networks: tests/export",
            "singleshot predict photo.jpg --model": "takes the file of the line before: tests/export/test_program.py",
        },
    ),
    "augmentation.md": Desk(augmenting, augmented, parsed={"singleshot train": AS_README}, settings=augment_settings),
    "serve.md": Desk(
        service,
        served,
        shortened=(
            ('Client("http://127.0.0.1:8000")', "Client(url)"),
            ('create_app({"coco": "coco"}', "create_app({}"),
        ),
        parsed={
            "singleshot serve": "runs until it is ended: tests/serving",
            "singleshot predict": "asks a service: tests/client/test_remote.py",
        },
        extras=("fastapi", "uvicorn", "python_multipart"),
    ),
    "export.md": Desk(
        lambda: photo("photos/a.jpg"),
        exported,
        parsed={"singleshot export coco --format openvino": "takes OpenVINO's compilation: tests/export"},
        extras=("skimage", "onnxruntime", "openvino"),
    ),
    "vocabulary.md": Desk(),
    "how-it-works.md": Desk(explaining, extras=("skimage", "matplotlib")),
    "family.md": Desk(
        check=family_built,
        parsed={"singleshot train photos --model detector.yaml": DOWNLOAD, "singleshot train VOCdevkit": HOURS},
        settings=detector_file,
    ),
    "benchmarks.md": Desk(
        parsed={
            "singleshot train": HOURS,
            "singleshot eval": HOURS,
            "SINGLESHOT_KERNELS=off": HOURS,
            "singleshot quantize": HOURS,
            "singleshot export": "docs/export.md runs it",
            "singleshot benchmark": "takes its seconds: tests/evaluation",
        }
    ),
    "architecture.md": Desk(),
    "migrate-from-torchvision.md": Desk(from_torchvision, torchvision_read, extras=("skimage",)),
    "migrate-from-caffe.md": Desk(
        recorded("face_ssd_res10_caffe", "face_ssd_res10_caffe"),
        imported,
        parsed={"singleshot import mobilenet_ssd/": "a checkpoint that is not here: tests/interop"},
        extras=("skimage",),
    ),
    "migrate-from-tensorflow.md": Desk(
        docs_moving.tensorflow(recorded("ssdlite_mobilenet_v2_coco_tfjs", "ssd_mobilenet_v1_coco_2018_01_28")),
        imported,
        (TRAIN,),
        extras=("skimage",),
    ),
    "migrate-from-pytorch-ssd.md": Desk(
        docs_moving.pytorch_ssd, imported, (("--minutes 20", "--steps 2 --batch 2 --workers 0 --amp fp32"),)
    ),
    "migrate-from-tao.md": Desk(docs_moving.tao, converted, (TRAIN,)),
    "migrate-from-mmdetection.md": Desk(docs_moving.mmdetection, shortened=(TRAIN,)),
    "migrate-from-ultralytics.md": Desk(
        docs_moving.ultralytics, imported, (TRAIN,), {"singleshot benchmark": "takes its seconds: tests/evaluation"}
    ),
    "migrate-from-mxnet-ssd.md": Desk(from_mxnet, imported, extras=("skimage",)),
    "coming-from.md": Desk(
        docs_moving.coming_from,
        shortened=(("packed --steps 1000", "packed --steps 1 --batch 2 --workers 0 --size 96 --amp fp32"),),
        parsed={"singleshot train VOCdevkit": HOURS},
        extras=("matplotlib",),
    ),
    "migrate-from-ssd-pytorch.md": Desk(
        parsed={"singleshot": "a checkpoint that is not here: tests/interop imports one of the same names"}
    ),
}
