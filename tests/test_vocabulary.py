"""docs/vocabulary.md: each name stands on both sides, with one default."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import typer

import singleshot
from singleshot import cli
from singleshot.training.config import TrainConfig

PAGE = Path(__file__).parents[1] / "docs" / "vocabulary.md"
WORDS = re.compile(r"`([^`]+)`")
METHODS = {
    "predict": singleshot.Detector.predict,
    "predictor": singleshot.Detector.predictor,
    "plot": singleshot.Detections.plot,
    "export": singleshot.Detector.export,
}


def rows() -> list[tuple[list[str], list[str], list[str], str]]:
    """Names, functions, verbs and default of each row of the page's table."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found.append((WORDS.findall(cells[0]), WORDS.findall(cells[2]), WORDS.findall(cells[3]), cells[4]))
    return found


def function(name: str) -> Callable[..., Any]:
    return METHODS.get(name) or getattr(singleshot, name)


def option(verb: str, name: str) -> Any:
    command = typer.main.get_command(cli.app).get_command(None, verb)  # type: ignore[attr-defined, arg-type]
    return {parameter.name: parameter for parameter in command.params}[name]


def default_of(parameter: Any) -> Any:
    value = parameter.default() if callable(parameter.default) else parameter.default
    return value.value if isinstance(value, Enum) else value


CASES = [(name, *rest) for names, *rest in rows() for name in names]


def test_the_page_has_the_words() -> None:
    assert {case[0] for case in CASES} >= {
        *("model", "weights", "data", "split", "format", "batch_size", "score", "out", "classes", "size", "backend"),
        *("precision", "device", "compile", "nms_iou", "max_detections", "agnostic", "clip", "recursive", "overwrite"),
        *("resume", "bad_data", "train", "val"),
    }


@pytest.mark.parametrize(("name", "functions", "verbs", "default"), CASES, ids=[case[0] for case in CASES])
def test_a_name_is_there_on_both_sides(name: str, functions: list[str], verbs: list[str], default: str) -> None:
    assert functions
    assert verbs
    in_python = {own: inspect.signature(function(own)).parameters[name].default for own in functions}
    on_line = {own: option(own, name) for own in verbs}
    for verb, parameter in on_line.items():
        flag = f"--{name.replace('_', '-')}"
        assert parameter.param_type_name == "argument" or parameter.opts[0] == flag, (verb, parameter.opts)
    if default:
        expected = ast.literal_eval(WORDS.findall(default)[0])
        assert set(map(repr, in_python.values())) == {repr(expected)}
        assert {repr(default_of(parameter)) for parameter in on_line.values()} == {repr(expected)}


SAME = {"eval": "evaluate", "import": "import_weights", "doctor": "examine", "anchors": "compare_anchors"}


@pytest.mark.parametrize(
    "verb",
    ["predict", "eval", "benchmark", "quantize", "explain", "train", "import", "export", "doctor", "anchors"],
)
def test_what_both_have_has_one_default(verb: str) -> None:
    """Also of names that the page leaves out; what the command line cannot write is ``None`` there."""
    ours = inspect.signature(function(SAME.get(verb, verb))).parameters
    command = typer.main.get_command(cli.app).get_command(None, verb)  # type: ignore[attr-defined, arg-type]
    common = [parameter for parameter in command.params if parameter.name in ours]
    assert common
    for parameter in common:
        theirs, own = default_of(parameter), ours[parameter.name].default
        if own is inspect.Parameter.empty or parameter.required:
            continue
        is_unset = theirs is None or theirs is False or theirs == []
        assert theirs == own or (is_unset and (own is None or isinstance(own, tuple))), (parameter.name, theirs, own)


def test_every_setting_of_one_value_is_an_argument_of_train() -> None:
    parameters = inspect.signature(singleshot.train).parameters
    nested = {"data", "optimizer", "schedule", "ema", "evaluation", "loss", "match", "reference", "size_hw"}
    nested |= {"checkpoints", "tiling"}
    assert set(TrainConfig.model_fields) - nested <= set(parameters)
    assert "size" in parameters
    assert "data" in parameters


def test_second_spellings() -> None:
    for verb, name, spelling in (
        ("predict", "model", "--weights"),
        ("eval", "score", "--score-threshold"),
        ("train", "start_step", "--start-iter"),
        ("train", "monitor_pattern", "--pattern"),
        *((verb, "batch_size", "--batch") for verb in ("predict", "eval", "train", "benchmark")),
    ):
        assert spelling in option(verb, name).opts
