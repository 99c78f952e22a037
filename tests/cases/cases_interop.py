"""Cases about weights of other systems and about weights files."""

from __future__ import annotations

import json
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import singleshot
from reference_data import reference_folder
from singleshot.cli import app
from singleshot.errors import WeightsError
from singleshot.weights.bundled import bundled_path
from singleshot.weights.file import SPEC_KEY, read_header

FACE = "face_ssd_res10_caffe"


def _run(folder: Path, *arguments: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def _memory_of(action: Callable[[], object]) -> int:
    """Growth of the largest resident size in bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    action()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def class_names_with_bom(folder: Path) -> None:
    shapes = json.loads((reference_folder() / "spec/state_dicts/qfgaohao_squeezenet_ssd_lite.json").read_text())
    state = {name: torch.full(shape, 0.01) for name, shape in shapes.items()}
    torch.save(state, folder / "mine.pth")
    result = _run(folder, "import", "mine.pth", "--classes", "names.txt")
    assert result.exit_code == 0, result.output
    names = singleshot.load(folder / "mine.safetensors").class_names
    assert names[0] == "class 0"
    assert len(names) == 20
    assert not any("\ufeff" in name for name in names)


def import_onto_itself(folder: Path) -> None:
    listing = reference_folder() / "spec/state_dicts/qfgaohao_squeezenet_ssd_lite.json"
    subprocess.run([sys.executable, "make.py", str(listing)], cwd=folder, check=True)
    before = (folder / "mine.safetensors").read_bytes()
    first = _run(folder, "import", "mine.safetensors")
    assert first.exit_code == 0, first.output
    assert (folder / "mine.safetensors").read_bytes() == before
    written = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    assert len(written) == 2
    again = _run(folder, "import", "mine.safetensors")
    assert again.exit_code == 2
    assert "name another file with --out" in again.output
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == written


def header_shape_product(folder: Path) -> None:
    source = (folder / "gen.py").read_text()
    subprocess.run([sys.executable, "-c", source], cwd=folder, check=True)
    with pytest.raises(WeightsError, match="more than 8 sides"):
        read_header(folder / "x.safetensors")
    weights = [{"name": "a", "shape": [9] * 300_000, "dtype": "float32"}]
    document = {"modelTopology": {}, "weightsManifest": [{"paths": ["shard"], "weights": weights}]}
    (folder / "model.json").write_text(json.dumps(document))
    (folder / "shard").write_bytes(bytes(4))
    with pytest.raises(WeightsError, match="impossible shape"):
        singleshot.import_weights(folder / "model.json")


def import_markup(folder: Path) -> None:
    for file in (reference_folder() / "weights" / FACE).iterdir():
        shutil.copy(file, folder / file.name)
        (folder / file.name).chmod(0o644)
    model = next(path for path in folder.glob("*.caffemodel") if "fp16" not in path.name)
    for other in folder.glob("*fp16*"):
        other.unlink()
    subprocess.run([sys.executable, "add.py", model.name], cwd=folder, check=True)
    result = _run(folder, "import", model.name, "--out", "face.safetensors")
    assert result.exit_code == 0, result.output
    assert "[/b]" in result.output


def pth_memo_4_gb(folder: Path) -> None:
    def refuse() -> None:
        with pytest.raises(WeightsError, match="memo"):
            singleshot.import_weights(folder / "x.pth")

    assert _memory_of(refuse) < 512 * 2**20


def spec_huge_logits(folder: Path) -> None:
    raw = bundled_path("coco").read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    metadata = json.loads(raw[8 : 8 + length])["__metadata__"]
    state = safetensors.torch.load(raw)

    def check(part: str, key: str, value: object) -> None:
        spec = json.loads(metadata[SPEC_KEY])
        (spec["network"]["head"] if part == "head" else spec[part])[key] = value
        path = folder / "x.safetensors"
        safetensors.torch.save_file(state, path, {**metadata, SPEC_KEY: json.dumps(spec)})
        with pytest.raises(WeightsError, match=r"x\.safetensors"):
            assert singleshot.load(path).network

    def refuse() -> None:
        for logits in (60_000, 2_000_000, 2_000_000_000):
            check("head", "logits", logits)
        for size_hw in ((30_000, 30_000), (10**9, 10**9)):
            check("preprocess", "size_hw", size_hw)
        for numbers in ((1.0, 2.0), (1.0,), (0.0, 0.0, 0.0), (1e308,) * 3):
            check("preprocess", "std", numbers)
        check("preprocess", "mean", (1.0, 2.0))

    assert _memory_of(refuse) < 512 * 2**20


CASES = {
    "cases-predict/class-names-with-bom": class_names_with_bom,
    "cases-predict/import-onto-itself": import_onto_itself,
    "cases-trust/header-shape-product": header_shape_product,
    "cases-trust/import-markup": import_markup,
    "cases-trust/pth-memo-4-gb": pth_memo_4_gb,
    "cases-trust/spec-huge-logits": spec_huge_logits,
}
