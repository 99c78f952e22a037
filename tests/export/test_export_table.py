"""docs/export.md: which detector goes into which format, told by the formats; docs/mobile.md: its line for TensorRT.

``python tests/export/test_export_table.py`` writes the table.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from singleshot.errors import ConfigError, MissingExtraError
from singleshot.export.writers import WRITERS, ExportWish, plan_export
from singleshot.models.catalogue import model_names, model_spec
from singleshot.models.config import ModelSpec

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "export.md"
BEGIN, END = "<!-- begin: written by tests/export/test_export_table -->\n", "<!-- end -->"
NAMES = ("cat", "dog")
FORMS: dict[str, dict[str, Any]] = {
    "raw": {"level": "raw"},
    "decoded": {"level": "decoded"},
    "end2end": {"level": "end2end"},
    "any size": {"level": "end2end", "dynamic": True},
}


def refusal(spec: ModelSpec, format: str, form: dict[str, Any]) -> str:
    """Why a format does not hold a detector in some form; empty where it does, wherever its package is."""
    try:
        plan_export(spec, ExportWish(format, **form))
    except MissingExtraError:
        return ""
    except ConfigError as error:
        return str(error).removeprefix(f"{spec.name} cannot go into ")
    return ""


SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "soft-NMS": {"postprocess": {"nms": "soft_linear"}},
    "`postprocess.nms_union_eps` (pytorch-ssd)": {"postprocess": {"nms_union_eps": 1e-5}},
    "`postprocess.class_agnostic`": {"postprocess": {"class_agnostic": True}},
    "`preprocess.resize: linear_antialias` (Pillow's: NVIDIA's and sgrvinod's weights)": {
        "preprocess": {"resize": "linear_antialias"}
    },
}


def detectors() -> Iterator[tuple[str, ModelSpec]]:
    """All presets, and one with each setting that not every graph can follow."""
    for name in model_names():
        yield name, model_spec(name, NAMES)
    plain = model_spec("ssd300_vgg16", NAMES)
    for label, changes in SETTINGS.items():
        parts = {part: getattr(plain, part).model_copy(update=values) for part, values in changes.items()}
        yield label, plain.model_copy(update=parts)


@cache
def table() -> str:
    """A row for the detectors that go into the same; below it, why others do not."""
    formats = [name for name in WRITERS if WRITERS.get(name).__module__.startswith("singleshot.")]
    rows: dict[tuple[str, ...], list[str]] = {}
    reasons: dict[str, dict[str, None]] = {}
    for label, spec in detectors():
        cells = []
        for format in formats:
            why = {name: refusal(spec, format, form) for name, form in FORMS.items()}
            cells.append(", ".join(name for name, reason in why.items() if not reason))
            for name, reason in why.items():
                if reason and FORMS[name]["level"] in WRITERS.get(format).levels:
                    title, _, because = reason.partition(": ")
                    reasons.setdefault(because, {})[title] = None
        rows.setdefault(tuple(cells), []).append(label)
    every = set(model_names())
    lines = ["| models | " + " | ".join(f"`{name}`" for name in formats) + " |", "|---" * (len(formats) + 1) + "|"]
    for cells, labels in rows.items():
        whole = every <= set(labels)
        shown = [f"all {len(every)} presets"] * whole + [x for x in labels if not whole or x not in every]
        lines.append(f"| {'; '.join(shown)} | {' | '.join(cells)} |")
    lines += ["", *(f"* {', '.join(titles)}: {because}" for because, titles in reasons.items())]
    return "\n".join(lines).strip() + "\n"


def test_the_page_has_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == table()


def test_every_model_goes_into_every_format_of_ours() -> None:
    for name in ("torchscript", "torch"):
        for form in FORMS.values():
            assert not refusal(model_spec("refinedet320_vgg16", NAMES), name, form)


def test_the_line_for_tensorrt_names_what_the_file_has(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from singleshot.detector import load
    from singleshot.export.onnx_reader import read_contents

    (line,) = re.findall(r"^trtexec .*$", (DOCS / "mobile.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    options = dict(word.removeprefix("--").partition("=")[::2] for word in shlex.split(line)[1:])
    done = load("coco").export(tmp_path / options["onnx"], format="onnx", level="decoded", verify=False, note=str)
    assert options["onnx"] == f"{done.info.spec.name}.onnx"
    (fed,) = read_contents(done.path).fed
    for profile in ("minShapes", "optShapes", "maxShapes"):
        name, _, shape = options[profile].partition(":")
        assert (name, [int(side) for side in shape.split("x")[1:]]) == (fed.name, list(fed.shape[1:]))


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")
