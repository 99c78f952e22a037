from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer

from singleshot.augment.config import PRESETS
from singleshot.cli import app
from singleshot.cli.console import in_flags
from singleshot.errors import ConfigError
from singleshot.training.config import TrainConfig, parse_config
from singleshot.training.recipes import find_recipe, read_config, recipe_paths, write_config
from singleshot.training.setup import patience_of, prepare


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert read_config(path) == TrainConfig()


def test_the_help_names_every_preset_of_augmentation() -> None:
    command = typer.main.get_command(app).get_command(None, "train")
    text = next(parameter.help for parameter in command.params if parameter.name == "augment")

    assert all(name in text for name in PRESETS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checkpoints.every": 0}, r"checkpoints\.every"),
        ({"start_step": 5, "steps": 5}, "start_step: 5 lies in no run of 5 steps"),
        ({"start_step": 5, "minutes": 5}, "start_step: 5 lies in no run of 5 minutes"),
        ({"monitor": -1}, "monitor"),
        ({"also_log": "caffe"}, "also_log: must be 'mxnet'"),
    ],
)
def test_switches_of_a_training_that_make_no_sense(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TrainConfig().updated(changes)


def test_writing_and_reading_gives_the_same_settings(tmp_path: Path) -> None:
    config = parse_config(
        {"steps": 100, "size_hw": [300, 480], "schedule": {"kind": "multistep", "milestones": [50, 80]}, "ema": None},
        "test",
    )
    write_config(config, tmp_path / "config.yaml", "first line\nsecond line")
    assert (tmp_path / "config.yaml").read_text().startswith("# first line\n# second line\n")
    assert read_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"optimiser": {}}, "optimiser: no such setting; did you mean 'optimizer'?"),
        ({"optimizer": {"momentun": 1}}, r"optimizer\.momentun: no such setting; did you mean 'momentum'?"),
        ({"ema": {"dekay": 1}}, r"ema\.dekay: no such setting; did you mean 'decay'?"),
        ({"optimizer": {"momentum": 7}}, r"optimizer\.momentum: .*given: 7"),
        ({"batch_size": 0}, r"batch_size: must be a whole number of images, 1 or more, or auto, not 0$"),
        ({"batch_size": "many"}, r"batch_size: must be a whole number of images, 1 or more, or auto, not 'many'$"),
        ({"anchors": 3}, r"anchors: must be a mapping of settings or 'auto' \(given: 3\)"),
        ({"size_hw": [300]}, r"size_hw\.1: is missing"),
        ({"evaluation": {"share": 2}}, r"evaluation\.share: must be 1 or less or 'auto' \(given: 2\)"),
        ({"evaluation": 2}, r"evaluation: must be a mapping of settings \(given: 2\)"),
        ({"freeze": 3}, r"freeze: must be a list or 'auto' \(given: 3\)"),
        ({"compile": "perhaps"}, r"compile: must be true or false"),
        ({"epochs": float("inf")}, r"epochs: must be a finite number"),
        ({"epochs": 3, "minutes": 2}, "one length; given: epochs, minutes"),
        ({"schedule": {"kind": "multistep"}}, "needs milestones"),
        ({"schedule": {"kind": "cosine", "milestones": [3]}}, "use kind: multistep"),
        ({"schedule": {"kind": "multistep", "milestones": [5, 3]}}, "must rise"),
        ({"steps": 10, "schedule": {"kind": "multistep", "milestones": [20]}}, "only 10 steps"),
    ],
)
def test_a_wrong_setting_is_named(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(data, "test.yaml")


@pytest.mark.parametrize("text", ["- a list", "key: [unclosed", "\x00"])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        read_config(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the settings"):
        read_config(tmp_path / "none.yaml")


def test_changes_by_dotted_key_and_a_new_length() -> None:
    config = TrainConfig(epochs=5).updated({"optimizer.lr": 0.1, "optimizer.name": "adamw", "steps": 10})
    assert config.length == ("steps", 10.0)
    assert config.optimizer.lr == 0.1
    assert config.optimizer.name == "adamw"
    assert config.optimizer.weight_decay == TrainConfig().optimizer.weight_decay


@pytest.mark.parametrize("path", recipe_paths(), ids=lambda path: path.stem)
def test_every_recipe_is_valid(path: Path) -> None:
    config = read_config(path)
    assert config.model is not None
    assert find_recipe(path.stem) == path


def test_an_unknown_recipe_is_an_error_with_the_list() -> None:
    with pytest.raises(ConfigError, match="no recipe 'ssd300_voc07112'"):
        find_recipe("ssd300_voc07112")


@pytest.mark.parametrize(
    "key",
    ["batch_size", "data", "augment", "freeze", "anchors", "optimizer", "nonsense", "seed", "model", "model: {extras"],
)
def test_a_few_lines_that_mean_gigabytes_are_answered_at_once(tmp_path: Path, key: str) -> None:
    levels = [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join(["a0: &a0 [lol, lol, lol]", *levels, f"{key}: *a8" + "}" * key.count("{"), ""]))
    with pytest.raises(ConfigError, match=key.partition(":")[0]) as caught:
        read_config(path)
    assert len(str(caught.value)) < 5000


def test_text_nested_too_deeply_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("batch: " + "[" * 5000)
    with pytest.raises(ConfigError, match="is not YAML"):
        read_config(tmp_path / "deep.yaml")


@pytest.mark.parametrize(("given", "metric"), [("AP", "coco_AP"), ("AP50", "coco_AP50"), ("voc_area", "voc_area")])
def test_cocos_numbers_have_short_names(given: str, metric: str) -> None:
    assert parse_config({"evaluation": {"metric": given}}, "here").evaluation.metric == metric


def test_two_step_detectors_are_not_assigned_by_predictions() -> None:
    spec = SimpleNamespace(name="refinedet320_vgg16", preprocess=SimpleNamespace(size_hw=(320, 320)))
    start: Any = SimpleNamespace(network=SimpleNamespace(objectness_head=object()), spec=spec)
    config, unused = TrainConfig().updated({"match.assign": "predictions"}), cast(Any, None)
    with pytest.raises(ConfigError, match=r"match\.assign: predictions is not for two-step .* refinedet320_vgg16"):
        prepare(config, start, unused, None, unused)


@pytest.mark.parametrize("length", [{"steps": 100}, {"epochs": 1}, {"minutes": 2}, {"minutes": 10}])
def test_milestones_behind_the_end_are_told_a_remedy_that_works(length: dict[str, float]) -> None:
    recipe = read_config(find_recipe("ssd300_voc0712"))
    with pytest.raises(ConfigError, match=r"schedule\.milestones end at 100000 but .* only \d+ [a-z]+: ") as caught:
        recipe.updated(length)
    remedy = re.search(r"`schedule\.milestones=(\[[0-9.,]+\])`", str(caught.value))
    assert remedy is not None
    moved = json.loads(remedy[1])
    assert recipe.updated(length | {"schedule.milestones": moved}).schedule.milestones == tuple(moved)
    assert in_flags(remedy[0], {"set_": ("--set",)}) == f"--set schedule.milestones={remedy[1]}"


@pytest.mark.parametrize(
    ("given", "taken"),
    [("backbone", ("backbone",)), (["none"], ()), ("none", ()), (["auto"], "auto"), (["a", "b"], ("a", "b")), ([], ())],
)
def test_frozen_parts_are_a_list_or_a_word(given: object, taken: object) -> None:
    assert parse_config({"freeze": given}, "a file").freeze == taken


def test_a_setting_that_is_no_text() -> None:
    with pytest.raises(ConfigError, match="the options given: a setting is no text"):
        parse_config({"optimizer": {"name": "caf\udce9"}}, "the options given")


def test_a_published_recipe_freezes_only_what_it_names() -> None:
    reference = {"train": "a", "test": "b", "metric": "AP", "value": 1, "tolerance": 1, "source": "c"}
    assert parse_config({"reference": reference}, "a file").freeze == ()
    assert parse_config({}, "a file").freeze == "auto"


@pytest.mark.parametrize(
    ("settings", "every", "patience"),
    [
        ({}, 5, 5),
        ({}, 1, 25),
        ({"epochs": 8}, 1, 5),
        ({"epochs": 5}, 1, None),  # it would never count
        ({"steps": 1000}, 50, 10),
        ({}, 0, None),
        ({"minutes": 20}, 2, None),
        ({"minutes": 120}, 12, 5),
        ({"evaluation": {"patience": None}}, 1, None),
        ({"minutes": 20, "evaluation": {"patience": 2}}, 2, 2),
        ({"steps": 100, "schedule": {"kind": "multistep", "milestones": [80]}}, 5, None),
    ],
)
def test_when_a_run_may_end_early(settings: dict[str, Any], every: float, patience: int | None) -> None:
    assert patience_of(parse_config(settings, "here"), every) == patience


def test_published_recipes_run_to_their_end() -> None:
    published = [config for config in map(read_config, recipe_paths()) if config.reference]
    assert len(published) > 20
    assert all(patience_of(config, 1) is None for config in published)
