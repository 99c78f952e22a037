"""The page's files: what they may load, and that its suppression in JavaScript is ours. `tests/browser` opens it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from singleshot.images.draw import class_colour
from singleshot.multibox.nms import nms
from singleshot.serving import ServeOptions, create_app
from singleshot.serving.site import BASE, FOLDER, MEDIA_TYPES

SCRIPTS = sorted(FOLDER.glob("*.js"))
LOCAL = "http://127.0.0.1"


Get = Callable[..., Any]


@pytest.fixture(scope="module")
def get() -> Get:
    """Asks a service without models that wants a token; the page is there all the same."""
    transport = httpx.ASGITransport(create_app({}, ServeOptions(token="secret")))

    async def ask(path: str, headers: dict[str, str]) -> Any:
        async with httpx.AsyncClient(transport=transport, base_url=LOCAL) as client:
            return await client.get(path, headers=headers)

    return lambda path, **headers: asyncio.run(ask(path, headers))


def in_node(code: str, data: object) -> Any:
    """What JavaScript makes of ``data``; ``code`` imports the page's modules from the current folder."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = f"{code}\nconst data = {json.dumps(data)};\nconsole.log(JSON.stringify(run(data)));"
    command = [node, "--input-type=module", "--eval", script]
    return json.loads(subprocess.run(command, cwd=FOLDER, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("path", ["/", *(f"/page/{file.name}" for file in sorted(FOLDER.iterdir()))])
def test_files_come_without_a_token_and_load_nothing_else(get: Get, path: str) -> None:
    answer = get(path)
    assert answer.status_code == 200
    assert answer.content == (FOLDER / (path.rpartition("/")[2] or "index.html")).read_bytes()
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert get(path, **{"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/page/", "/page/none.js", "/page/..%2Fsite.py", "/page/%2e%2e/site.py"])
def test_other_files_are_not_there(get: Get, path: str) -> None:
    assert get(path, Authorization="Bearer secret").status_code == 404


def test_models_want_the_token(get: Get) -> None:
    assert get("/models").status_code == 401


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\s(style|on\w+)=|<style|<script(?![^>]*\ssrc=)|javascript:", page)
    for file in FOLDER.iterdir():
        assert file.suffix in MEDIA_TYPES
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"(?m)(^|\s)//.*$", "", text), file.name
        assert "style=" not in text, file.name
    for name in re.findall(r'(?:href|src)="page/([^"]+)"', page):
        assert (FOLDER / name).is_file() or name == BASE.name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_names_are_text(script: Path) -> None:
    """No function of the DOM that reads HTML; what is imported is there."""
    text = script.read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
    for name in re.findall(r'from "\./([^"]+)"', text):
        assert (FOLDER / name).is_file()


RULES = [
    {"nms_compare": ">", "class_agnostic": False, "max_per_class": None, "max_detections": 1000},
    {"nms_compare": ">=", "class_agnostic": True, "max_per_class": None, "max_detections": 1000},
    {"nms_compare": ">", "class_agnostic": False, "max_per_class": 3, "max_detections": 20},
]


def candidates(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes in whole pixels, so that overlaps are often exactly at a threshold; best first."""
    corner, size = rng.integers(-10, 90, (count, 2)), rng.integers(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    return boxes, -np.sort(-rng.random(count, dtype=np.float32).round(2)), rng.integers(0, 4, count)


@pytest.mark.parametrize("count", [0, 1, 300])
def test_suppression_is_ours(count: int) -> None:
    boxes, scores, class_ids = candidates(np.random.default_rng(count), count)
    found = [
        {"box_xyxy": box, "score": score, "class_id": label, "class_name": f"c{label}", "at": at}
        for at, (box, score, label) in enumerate(zip(boxes.tolist(), scores.tolist(), class_ids.tolist(), strict=True))
    ]
    cases = [(rules, iou) for rules in RULES for iou in (0.25, 0.5, 1.0)]
    code = """import { suppress } from "./suppress.js";
    const run = ({ found, cases }) => cases.map(([rules, overlap]) =>
      suppress(found, rules, [80, 100], { score: 0.3, overlap, hidden: new Set(["c2"]) }));"""
    for (rules, iou), shown in zip(cases, in_node(code, {"found": found, "cases": cases}), strict=True):
        above = int((scores > np.float32(0.3)).sum())
        groups = torch.zeros(above) if rules["class_agnostic"] else torch.from_numpy(class_ids[:above])
        kept = nms(
            torch.from_numpy(boxes[:above]), torch.from_numpy(scores[:above]), groups, iou, rules["nms_compare"]
        ).tolist()
        if rules["max_per_class"]:
            kept = [at for place, at in enumerate(kept)
                    if (class_ids[kept[:place]] == class_ids[at]).sum() < rules["max_per_class"]]  # fmt: skip
        expected = [at for at in kept if class_ids[at] != 2][: rules["max_detections"]]
        assert [one["at"] for one in shown] == expected
        clipped = boxes[expected].clip(0, [100, 80, 100, 80])
        np.testing.assert_array_equal(np.array([one["box_xyxy"] for one in shown]).reshape(-1, 4), clipped)


def test_classes_have_the_colours_of_drawn_pictures() -> None:
    code = 'import { classColour } from "./colours.js"; const run = (ids) => ids.map(classColour);'
    theirs = np.array(in_node(code, list(range(200))))
    np.testing.assert_allclose(theirs, np.array([class_colour(label) for label in range(200)]), atol=1)


def test_a_zip_is_a_zip(tmp_path: Path) -> None:
    code = """import { writeFileSync } from "node:fs"; import { zip } from "./zip.js";
    const files = [["ä.txt", "one"], ["b/c.bin", "\\u0000two"], ["empty", ""]];
    const blob = zip(files.map(([name, text]) => ({ name, bytes: new TextEncoder().encode(text) })));
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const run = (path) => writeFileSync(path, bytes) ?? true;"""
    in_node(code, str(tmp_path / "out.zip"))
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "ä.txt": b"one", "b/c.bin": b"\0two", "empty": b"",
        }  # fmt: skip
