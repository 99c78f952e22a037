"""What the library says: settings as Python writes them, and no word of the packages that check them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest

from singleshot.augment.config import parse_augment
from singleshot.errors import ConfigError, SingleshotError
from singleshot.models.description import describe
from singleshot.training.config import TrainConfig
from source_trees import source_trees

FLAG = re.compile(r"(?<![\w-])--[a-z]")
# A whole command that a user can type may have flags.
COMMAND = re.compile(r"singleshot [a-z]+ [^'`]*?--[a-z].*")


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts in a module, docstrings left out; what an f-string inserts is ``{}``."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            skipped.add(id(node.body[0]))
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def flags_in(text: str) -> bool:
    return bool(FLAG.search(COMMAND.sub("", text)))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", []),
        ("'name another --out'", []),  # a docstring
        ("raise E('name another --out')", ["name another --out"]),
        ("raise E(f'{x}: --out {y}')", ["{}: --out {}"]),
        ("print('singleshot train --resume --out x')", []),
        ("print('name another `out`')", []),
        ("x = 'a--b', '---', '-- '", []),
    ],
)
def test_flags_are_found(code: str, expected: list[str]) -> None:
    assert [text for _, text in sentences(ast.parse(code)) if flags_in(text)] == expected


def test_no_message_outside_the_command_line_names_a_flag() -> None:
    """``in_flags`` turns `` `out` `` into ``--out`` where a command runs; in Python a flag would be wrong."""
    trees = {path: tree for path, tree in source_trees().items() if path.parent.name != "cli"}
    assert len(trees) > 200
    found = [
        f"{path}:{line}: {text}" for path, tree in trees.items() for line, text in sentences(tree) if flags_in(text)
    ]
    assert found == []


FOREIGN = re.compile(r"pydantic|Input should|validation error|type=|input_value|errors\.pydantic|Extra inputs")
WRONG: list[Any] = [None, True, -1, 0, 1.5, 10**20, float("nan"), "", "nonsense", [], [1, "a"], {}, {"a": {"b": 1}}]
TRAIN_KEYS = [
    *TrainConfig.model_fields,
    *("data.train", "data.format", "optimizer.name", "optimizer.lr", "optimizer.lr_factors", "schedule.milestones"),
    *("schedule.kind", "ema.decay", "evaluation.every", "evaluation.patience", "evaluation.batch_size", "loss.box"),
    *("loss.focal_alpha", "match.compare", "match.positive_iou", "anchors.levels", "anchors.clip", "augment.flip"),
    *("augment.preset", "augment.photometric", "optimizer.nonsense", "nonsense", "reference.value"),
]


@pytest.mark.parametrize("key", TRAIN_KEYS)
def test_wrong_settings_of_a_training_name_key_value_and_remedy(key: str) -> None:
    """Of every key, some of the values are wrong; each is answered by us."""
    answers = [_answer(lambda value=value: TrainConfig().updated({key: value})) for value in WRONG]
    found = [answer for answer in answers if answer is not None]
    assert found
    for answer in found:
        assert not FOREIGN.search(answer), answer
        assert key.split(".")[0] in answer


PLAIN = {"backbone": {"name": "mobilenet_v2_tf"}}
DESCRIPTION_KEYS = ("backbone", "neck", "head", "extras", "boxes", "anchors", "preprocess", "postprocess", "coder")


@pytest.mark.parametrize("key", [*DESCRIPTION_KEYS, "size_hw", "network", "name", "nonsense"])
def test_wrong_descriptions_of_a_detector(key: str) -> None:
    answers = [_answer(lambda value=value: describe({**PLAIN, key: value}, ("a",), None, "d.yaml")) for value in WRONG]
    assert any(answers)
    for answer in answers:
        assert answer is None or not FOREIGN.search(answer), answer


@pytest.mark.parametrize("value", WRONG)
def test_wrong_augmentations(value: Any) -> None:
    for wrong in (value, {"flip": value}, {"preset": value}, {"crops": value}, {"nonsense": value}):
        answer = _answer(lambda wrong=wrong: TrainConfig().updated({"augment": wrong}))
        assert answer is None or not FOREIGN.search(answer), answer
        direct = _answer(lambda wrong=wrong: parse_augment(wrong))
        assert direct is None or not FOREIGN.search(direct), direct


def _answer(call: Any) -> str | None:
    """What a call is refused with; ``None`` where it is not."""
    try:
        call()
    except SingleshotError as error:
        return str(error)
    return None


def test_old_names_of_settings_are_taken_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    config = TrainConfig().updated({"batch": 4, "evaluation": {"batch": 2}})
    assert (config.batch_size, config.evaluation.batch_size) == (4, 2)
    assert [record.getMessage() for record in caplog.records] == [
        "the setting 'batch' is called 'batch_size' now",
        "the setting 'batch' is called 'batch_size' now",
    ]
    with pytest.raises(ConfigError, match="batch_size: must be a whole number of images, 1 or more, or auto, not 0"):
        TrainConfig().updated({"batch": 0})
