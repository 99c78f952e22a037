"""The page of the other formats: its table of what goes where, and its line for TensorRT.

``python tests/export/test_mobile_table.py`` writes the table.
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

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mobile.md"
BEGIN, END = "<!-- begin: written by tests/export/test_mobile_table -->\n", "<!-- end -->"
NAMES = ("cat", "dog")
FORMS: tuple[dict[str, Any], ...] = (
    {"level": "raw"},
    {"level": "decoded"},
    {"level": "end2end"},
    {"level": "end2end", "dynamic": True},
)


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
    "`preprocess.resize: linear_antialias` (Pillow's)": {"preprocess": {"resize": "linear_antialias"}},
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
    formats = [name for name in WRITERS if WRITERS.get(name).__module__.startswith("singleshot.")]
    rows: dict[tuple[str, ...], list[str]] = {}
    reasons: dict[str, None] = {}
    for label, spec in detectors():
        cells = []
        for format in formats:
            why = [refusal(spec, format, form) for form in FORMS]
            cells.append(" ".join(str(number) for number, reason in enumerate(why, 1) if not reason))
            offered = WRITERS.get(format).levels
            reasons |= {r: None for r, form in zip(why, FORMS, strict=True) if r and form["level"] in offered}
        rows.setdefault(tuple(cells), []).append(label)
    every = set(model_names())
    lines = ["| models | " + " | ".join(f"`{name}`" for name in formats) + " |", "|---" * (len(formats) + 1) + "|"]
    for cells, labels in rows.items():
        whole = every <= set(labels)
        shown = ["all presets"] * whole + [x for x in labels if not whole or x not in every]
        lines.append(f"| {'; '.join(shown)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"* {reason}" for reason in reasons)]).strip() + "\n"


def test_the_page_has_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == table()


def test_every_model_goes_into_every_format_of_ours() -> None:
    for name in ("torchscript", "torch"):
        for form in FORMS:
            assert not refusal(model_spec("refinedet320_vgg16", NAMES), name, form)


def test_the_line_for_tensorrt_names_what_the_file_has(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from singleshot.detector import load
    from singleshot.export.onnx_reader import read_contents

    (line,) = re.findall(r"^trtexec .*$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
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
