"""The short form of `make torture`: the first inputs of every reader, what was found before, and the engine itself."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from singleshot.errors import DataError
from torture import target as module
from torture.target import Bench, Files, Target, minimised
from torture.targets import TARGETS
from torture.targets_weights import IR
from torture.writers import field, varint

EXECUTIONS = 25


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@pytest.mark.parametrize("name", TARGETS)
def test_damage_gives_a_result_or_our_error(name: str, bench: Bench) -> None:
    target = TARGETS[name]
    outcomes = [bench.run(target, target.damaged("test", number)) for number in range(EXECUTIONS // target.slow + 3)]
    assert [outcome for outcome in outcomes if outcome.is_finding] == []


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_whole_is_read_or_named(name: str, bench: Bench) -> None:
    target = TARGETS[name]
    kinds = {bench.run(target, files).kind for files in target.inputs}
    assert "result" in kinds or name in ("safetensors of others", "any weights, recognised")
    assert kinds <= {"result", "refused"}


def test_an_input_is_the_same_for_a_seed_and_a_number() -> None:
    target = TARGETS["VOC"]
    assert target.damaged(0, 7) == target.damaged(0, 7)
    inputs = [json.dumps({k: v.hex() for k, v in target.damaged(0, n).items()}) for n in range(30)]
    assert len(set(inputs)) > 25


def small(read: object, **options: object) -> Target:
    return Target("small", lambda: [{"x.txt": b"0123456789"}], read, **options)  # type: ignore[arg-type]


def hang(folder: Path) -> None:
    while True:
        pass


def refuse(folder: Path, said: str = "") -> None:
    raise DataError(said or f"{folder / 'x.txt'}: no")


def chained(folder: Path) -> None:
    try:
        raise MemoryError
    except MemoryError as error:
        raise DataError(f"{folder}: no") from error


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda folder: None, "result"),
        (refuse, "refused"),
        (lambda folder: refuse(folder, "no"), "unnamed"),
        (lambda folder: {}["a"], "untyped"),
        (lambda folder: sys.exit(1), "untyped"),
        (hang, "hang"),
        (lambda folder: bytearray(2**62), "memory"),
        (chained, "memory"),
    ],
)
def test_what_a_reader_may_not_do_is_found(
    read: object, kind: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANG_S", 0.1)
    target = small(read)
    outcome = bench.run(target, target.inputs[0])
    assert (outcome.kind, outcome.is_finding) == (kind, kind not in ("result", "refused"))


def test_a_finding_is_made_smaller(bench: Bench) -> None:
    def fails_at_seven(folder: Path) -> None:
        assert b"7" not in (folder / "x.txt").read_bytes()

    target = small(fails_at_seven)
    where = bench.run(target, target.inputs[0]).where
    assert minimised(bench, target, target.inputs[0], where) == {"x.txt": b"7"}


DEADLY = """
import os, sys, time
sys.path[:0] = {paths}
from pathlib import Path
from torture import campaign
from torture.target import Target
def read(folder):
    content = (folder / "x.txt").read_bytes()
    if content[:1] == b"1":
        os.abort()
    if content[:1] == b"2":
        os.sched_yield(); time.sleep(60)
campaign.DEAD_S = 1.5
class Numbered(Target):
    def damaged(self, seed, number):
        return {{"x.txt": str(number).encode()}}
row = campaign.Campaign(0, 30, 5, Path({out!r})).run(Numbered("deadly", lambda: [{{"x.txt": b"0"}}], read))
print(campaign.table([row]))
"""


def test_a_reader_that_dies_or_sleeps_is_begun_again_behind_it(tmp_path: Path) -> None:
    code = DEADLY.format(paths=[str(Path(__file__).parents[1])], out=str(tmp_path))
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert made.returncode == 0, made.stderr
    _, _, row, total = made.stdout.splitlines()
    assert row.startswith("| deadly | 5 | 3 | 0 | 1 | 0 | 1 | 0 |"), row
    assert total.startswith("| **all** | 5 | 3 | 0 | 1 | 0 | 1 | 0 |")
    assert {path.read_text() for path in tmp_path.rglob("x.txt")} == {"1", "2"}


def zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"")
        archive.writestr("a.jpg", b"")
    return buffer.getvalue()


def coco_of(name: str) -> Files:
    document = {"images": [{"id": 1, "file_name": name}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    return {"a.json": json.dumps(document).encode(), "b.jpg": b"\xff\xd8"}


def shapes_of(points: object) -> bytes:
    shape = {"label": "a", "points": points, "shape_type": "circle"}
    return json.dumps({"shapes": [shape], "imagePath": "a.jpg"}).encode()


def state_without(key: str) -> bytes:
    content = TARGETS["training states"].inputs[1]["state.pt"]
    state = torch.load(io.BytesIO(content), weights_only=True)
    del state[key]
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def node_of(shape: bytes) -> bytes:
    """A constant whose tensor says this of its shape."""
    value = field(5, field(1, "value") + field(2, field(8, field(1, 1) + shape + field(4, bytes(8)))))
    return field(1, field(1, "a") + field(2, "Const") + value)


def shards_with(text: bytes) -> Files:
    """Our shards under another index."""
    return {**TARGETS["tar shards"].inputs[1], "index.json": text}


FOUND: list[tuple[str, Files]] = [
    ("tar shards", shards_with(b'{"singleshot_shards": ' + b"[" * 5000)),
    ("tar shards", shards_with(TARGETS["tar shards"].inputs[1]["index.json"].replace(b'"dog"', b'"do"'))),
    (
        "tar shards",
        shards_with(re.sub(rb'"class_ids": ?\[', b'"class_ids": [9, ', TARGETS["tar shards"].inputs[1]["index.json"])),
    ),
    ("decisions", {"d.json": b"[" + b"9" * 5000 + b"]"}),
    ("zones", {"z.json": b"[" * 5000}),
    ("zones", {"z.json": b"[[1" + b"0" * 400 + b", 0], [0, 1], [1, 1]]"}),
    ("study.json", {"study.json": b"\0\xff"}),
    ("records of predict", {".singleshot-results": b'{"how": {"score": 0.3}}\n{"done": 3}\n'}),
    ("records of predict", {".singleshot-results": b"[]\n"}),
    ("records of predict", {".singleshot-results": b'{"how": {"score": 0.3}}\n' + b"[" * 5000 + b"\n"}),
    ("metrics.csv", {"metrics.csv": b"step,epoch\r\n1,2,3\r\n"}),
    ("files of detections", {"detections.json": b'{"class_names": ["a"], "images": 3}'}),
    ("one image's detections", {"d.json": b'{"detections": [], "class_names": [], "image_size_hw": []}'}),
    ("one image's detections", {"d.json": b"[" * 5000}),
    ("TF.js", {"model.json": b'{"weightsManifest": [{"paths": ["' + b"a" * 300 + b'"], "weights": []}]}'}),
    ("TIFF", {"x.tif": b"II+\0\x08\0\0\0" + b"\xff" * 8}),
    ("YOLO: rows and yaml", {"data.yaml": b'train: "\\ud800"\nnames: [a]\n'}),
    ("training states", {"state.pt": state_without("generators")}),
    ("zip of pictures", {"x.zip": b"PK\5\6" + bytes(18)}),
    ("zip of pictures", {"x.zip": zip_of("")}),
    ("OpenVINO IR", {"x.xml": IR.replace("2, 3", "9, " * 200_000 + "9").encode(), "x.bin": bytes(24)}),
    ("GraphDef", {"x.pb": node_of(field(2, field(2, field(1, 2**62)) * 100_000))}),
    ("ONNX", {"x.onnx": b"\x08\x08" + field(7, field(5, field(1, varint(2**30) * 200_000) + field(2, 1)))}),
    ("COCO", coco_of("a\0.jpg")),
    ("COCO", coco_of("\ud800/a.jpg")),
    ("LabelMe", {"a.json": shapes_of([[10**400, 1], [2, 2]])}),
    ("LabelMe", {"a.json": shapes_of([[1e300, 1], [-1e300, 2]])}),
    ("COCO", {"a.json": b'{"images": [{"id": 1, "file_name": "' + b"a/" * 9000 + b'"}], "annotations": []}'}),
]
"""What was found, as small as it became."""


@pytest.mark.parametrize(("name", "files"), FOUND, ids=[f"{n} {k}" for k, (n, _) in enumerate(FOUND)])
def test_what_was_found_is_mended(name: str, files: Files, bench: Bench) -> None:
    outcome = bench.run(TARGETS[name], files)
    assert not outcome.is_finding, outcome
