"""What runs leave behind and go on from, and what people write for them: settings, logs, checkpoints, results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from torch import nn

from singleshot.models.catalogue import model_spec
from singleshot.models.description import read_description
from singleshot.prediction.detections import Detections
from singleshot.prediction.output_folder import RECORD, read_journal, recorded_files
from singleshot.prediction.sinks.json import read_json
from singleshot.prediction.source_lists import read_source_list
from singleshot.prediction.tracking.counting import read_zones
from singleshot.training.checkpoint import SEAL, Learner, RunState, load_checkpoint, save_checkpoint
from singleshot.training.config import TrainConfig
from singleshot.training.ema import Ema
from singleshot.training.logs import CsvLog
from singleshot.training.recipes import read_config, write_config
from singleshot.training.resume import saved_settings
from singleshot.tuning.study import STUDY, Study, Trial, read_study
from torture.structures import in_json, in_rows, in_sealed, in_yaml, in_zip
from torture.target import Files, Target
from torture.targets_images import made
from torture.targets_weights import OPCODES, any_file


@cache
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def learner() -> Learner:
    return Learner(network(), torch.optim.SGD(network().parameters(), 0.1, momentum=0.9), Ema(network(), 0.9))


def checkpoints(folder: Path) -> Sequence[Files]:
    """With its seal, and as an older version wrote it, without."""
    save_checkpoint(folder / "state.pt", learner(), RunState())
    content = (folder / "state.pt").read_bytes()
    return [{"state.pt": content}, {"state.pt": content[: -len(SEAL) - 32]}]


def recipes() -> list[Files]:
    texts = [
        "batch_size: 8\nepochs: 3\noptimizer: {name: sgd, lr: 0.01}\n",
        "model: ssd300_vgg16\ndata: {path: photos, val: val}\naugment: {}\nsize_hw: [300, 300]\n",
    ]
    return [{"r.yaml": text.encode()} for text in texts]


def run_settings(folder: Path) -> Sequence[Files]:
    write_config(TrainConfig.model_validate({"data": {"path": "photos"}}), folder / "config.yaml")
    return [{"config.yaml": (folder / "config.yaml").read_bytes()}]


def descriptions() -> list[Files]:
    spec = model_spec("ssdlite300_mobilenet_v2", ["cat", "dog"]).model_dump(mode="json")
    return [
        {"m.yaml": yaml.safe_dump(spec).encode()},
        {"m.yaml": b"network: ssd300_vgg16\npreprocess: {size_hw: [320, 320]}\n"},
    ]


def metrics() -> list[Files]:
    rows = "step,epoch,loss/total,lr\r\n10,0.5,3.25,0.01\r\n20,1.0,2.5,0.01\r\n,,,\r\n30,1.5,,nan\r\n"
    return [{"metrics.csv": rows.encode()}]


def studies() -> list[Files]:
    trials = (Trial(role="default", choices={"lr": 0.1}, seed=0, value=0.5), Trial(role="search", choices={}, seed=1))
    study = Study(vary=("lr",), minutes=3.0, metric="coco_AP", seed=0, trials=trials)
    return [{STUDY: study.model_dump_json().encode()}]


def journals() -> list[Files]:
    lines = [
        {"how": {"score": 0.3, "tile": None}},
        {"done": "a.jpg", "at": {"predictions.json": 120}},
        {"done": "b.jpg", "error": "no image", "at": {"predictions.json": 120}, "missing": ["crops"]},
        "a/b.jpg",
    ]
    return [{RECORD: "".join(json.dumps(line) + "\n" for line in lines).encode()}]


def results() -> list[Files]:
    rows = [{"box_xyxy": [1, 2, 3, 4], "score": 0.5, "class_id": 1, "class_name": "dog", "track_id": 3}]
    record: dict[str, Any] = {"path": "a.jpg", "image_size_hw": [40, 60], "detections": rows, "tracked": True}
    return [{"d.json": json.dumps(record | {"class_names": ["cat", "dog"], "category_ids": [1, 3]}).encode()}]


def lists() -> list[Files]:
    return [{"l.txt": b"a.jpg\n# no\n*.png\nhttp://x/y.jpg\nsub/x.zip\n"}]


def log(folder: Path) -> None:
    CsvLog(folder / "metrics.csv", 25).close()


def detections(folder: Path) -> None:
    Detections.from_json((folder / "d.json").read_bytes().decode("utf-8", "surrogateescape"))


def zones() -> list[Files]:
    square = [[0, 0], [9, 0], [9, 9]]
    return [{"z.json": json.dumps(zone).encode()} for zone in (square, [square, square], {"door": square})]


def state(folder: Path) -> None:
    load_checkpoint(folder / "state.pt", learner())


def in_state(content: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """A training state under a right seal, where it has one."""
    how = in_sealed(SEAL, in_zip()) if SEAL in content[-64:] else in_zip()
    return how(content, random, words)


def journal(folder: Path) -> None:
    read_journal(folder, {"score": 0.3})
    list(recorded_files(folder))


def sources(folder: Path) -> None:
    read_source_list(f"@{folder / 'l.txt'}")


def document() -> list[Files]:
    """As the json sink writes it, and as jsonl."""
    rows = [{"box_xyxy": [1, 2, 3, 4], "score": 0.5, "class_id": 1, "class_name": "dog"}]
    image = {"path": "a.jpg", "image_size_hw": [40, 60], "detections": rows}
    head: dict[str, Any] = {"singleshot": "1", "class_names": ["cat", "dog"], "category_ids": [1, 3]}
    lines = [head, image, {"path": "b.jpg", "error": "no"}]
    texts = json.dumps(head | {"images": [image]}), "".join(json.dumps(line) + "\n" for line in lines)
    return [{"detections.json": text.encode()} for text in texts]


TARGETS = [
    Target("training states", made(checkpoints), state, {".pt": in_state}, words=OPCODES, slow=4),
    Target("recipes", recipes, any_file(read_config), {".yaml": in_yaml}, slow=4),
    Target("settings of a run", made(run_settings), saved_settings, {".yaml": in_yaml}, slow=8),
    Target("descriptions of detectors", descriptions, any_file(read_description), {".yaml": in_yaml}, slow=8),
    Target("metrics.csv", metrics, log, {".csv": in_rows}, slow=2),
    Target("study.json", studies, read_study, {".json": in_json}),
    Target("records of predict", journals, journal, {"": in_json}),
    Target("files of detections", document, any_file(read_json), {".json": in_json}),
    Target("one image's detections", results, detections, {".json": in_json}, names_file=False),
    Target("zones", zones, any_file(read_zones), {".json": in_json}),
    Target("lists of sources", lists, sources, {".txt": in_rows}),
]
