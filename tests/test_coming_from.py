"""docs/coming-from.md: its counts are its rows, its commands run, its names and settings exist, nothing is left out."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import docs_moving
from docs_pages import DOCS, run_command
from foreign_names import NAMES, OPTIONS
from singleshot.augment.config import AugmentConfig
from singleshot.models.config import ModelSpec
from singleshot.training.config import TrainConfig

PAGE = DOCS / "coming-from.md"
VERDICTS = ("yes", "partly", "no")
QUOTED = re.compile(r"`([^`]+)`")

SECTIONS = dict.fromkeys(("optimizer", "schedule", "loss", "match", "evaluation", "checkpoints"), TrainConfig)
SECTIONS |= dict.fromkeys(("coder", "anchors", "preprocess", "postprocess"), ModelSpec)

# What takes hours on the page takes a step or two here.
SHORTENED = {
    "--batch-size 32": "--batch-size 2",
    "--steps 120000": "--steps 3",
    "--epochs 240": "--epochs 1.5",
    "--start-step 80000": "--start-step 1",
    "--start-step 20720": "--start-step 1",
    "--resume 20720": "--resume 1",
    "--lr 0.002": "--lr 0.001",
    "--workers 4": "--workers 0",
    "--size 300": "--size 96",
    "--size 512": "--size 128",
    "--monitor 100": "--monitor 1",
    "log_every=20": "log_every=10",
    "checkpoints.every=5000": "checkpoints.every=1",
    "milestones=[80000, 100000]": "milestones=[1]",
    "milestones=[80, 160]": "milestones=[1]",
    "^(conv1_|conv2_).*": "^backbone.(stem|block0).*",
}
# Read and not run, each for a reason.
ONLY_PARSED = {
    "--basenet": "a classifier's file of 80 MB: tests/training/test_described.py",
    "--model mxnet_ssd_vgg16_reduced_300": "a network of 26 million parameters: tests/models",
    "singleshot train VOCdevkit --recipe": "the same; tests/training runs recipes",
    "singleshot train VOCdevkit --model mxnet": "the same",
    "--devices": "processes or GPUs: tests/training/test_devices.py",
    "singleshot models --all": "builds every network: tests/models/test_catalogue.py",
    "singleshot predict 0": "a camera: tests/prediction/test_live.py",
    "singleshot import": "checkpoints of other systems: tests/interop",
}
VERBS = {
    "train": "train photos --workers 0 --amp fp32 --size 96 --batch-size 2 --steps 2",
    "eval": "eval ssd300.safetensors VOCdevkit --split 2007_test",
    "predict": "predict photos/a.jpg",
}
# Two ways to say one thing.
CONFLICTS = {"--epochs": "--steps", "--finetune": "--freeze"}
REPEATABLE = {"--set", "--save"}


class Row(NamedTuple):
    """A row of a table with verdicts: the system, the verb that its heading names, and its three cells."""

    system: str
    verb: str
    there: str
    here: str
    verdict: str


def rows() -> Iterator[Row]:
    system = verb = ""
    is_table = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            system, verb = line[3:], ""
        elif line.startswith("### "):
            found = re.search(r"→ `singleshot (\w+)`$", line)
            verb = found[1] if found else ""
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[2:] == ["verdict"]:
            is_table = True
        elif not cells:
            is_table = False
        elif is_table and not set(cells[0]) <= {"-"}:
            yield Row(system, verb, *cells)


ROWS = list(rows())


def verdict(row: Row) -> str:
    return row.verdict.split(":")[0]


def test_the_counts_are_those_of_the_rows() -> None:
    listed = re.findall(r"^\| ([^|]+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE.read_text(), flags=re.MULTILINE)
    written = {name: tuple(map(int, numbers)) for name, *numbers in listed}
    counted = {}
    for system in dict.fromkeys(row.system for row in ROWS):
        found = Counter(verdict(row) for row in ROWS if row.system == system)
        counted[system] = (sum(found.values()), *(found[word] for word in VERDICTS))
    counted["all"] = tuple(map(sum, zip(*counted.values(), strict=True)))
    assert written == counted


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "-", f"{row.system} {row.there}")[:60])
def test_a_row_has_a_counterpart_and_a_verdict(row: Row) -> None:
    assert verdict(row) in VERDICTS
    assert row.there
    assert row.here
    if verdict(row) != "yes":
        assert re.fullmatch(r"(partly|no): \S.{15,}", row.verdict), "says why"
    assert row.here != "none" or verdict(row) == "no"


@pytest.mark.parametrize(
    ("system", "script", "option"),
    [(s, script, option) for s, all in OPTIONS.items() for script, text in all.items() for option in text.split()],
)
def test_every_option_of_a_script_has_a_row(system: str, script: str, option: str) -> None:
    own = [quoted for row in ROWS if row.system == system for quoted in QUOTED.findall(row.there)]
    assert any(f"--{option}" in quoted.split() for quoted in own if quoted.startswith(f"{script} "))


@pytest.mark.parametrize(("system", "name"), [(s, name) for s, names in NAMES.items() for name in names.split()])
def test_every_python_name_has_a_row(system: str, name: str) -> None:
    own = " ".join(quoted for row in ROWS if row.system == system for quoted in QUOTED.findall(row.there))
    assert name in re.findall(r"\w+", own)


def here() -> list[str]:
    """Everything in backticks in the column of counterparts, and in the verdicts."""
    return list(dict.fromkeys(q for row in ROWS for q in QUOTED.findall(f"{row.here} {row.verdict}")))


@pytest.mark.parametrize("name", [quoted for quoted in here() if re.fullmatch(r"singleshot(\.\w+)+", quoted)])
def test_a_python_name_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        assert hasattr(importlib.import_module(module), attribute)


def test_settings_exist() -> None:
    named = [re.fullmatch(r"(\w+)\.(\w+)", quoted) for quoted in here()]
    settings = [(found[1], found[2]) for found in named if found and found[1] in {*SECTIONS, "augment"}]
    assert len(settings) > 15
    for section, name in settings:
        if section == "augment":
            assert name in AugmentConfig.model_fields
        else:
            assert name in fields(SECTIONS[section], section), f"{section}.{name}"


def fields(config: type[TrainConfig | ModelSpec], section: str) -> list[str]:
    """Names of the settings of a section, whatever else its type allows."""
    kind = str(config.model_fields[section].annotation)
    module, name = re.findall(r"(singleshot[\w.]*)\.(\w+Config)", kind)[0]
    return list(getattr(importlib.import_module(module), name).model_fields)


def fragments(verb: str) -> list[str]:
    """Options of a verb, each as the page writes it, from the sections that name the verb in their headings."""
    quoted = [q for row in ROWS if row.verb == verb for q in QUOTED.findall(f"{row.here} {row.verdict}")]
    return list(dict.fromkeys(q for q in quoted if q.startswith("--")))


def shortened(text: str) -> str:
    for long, short in SHORTENED.items():
        text = re.sub(rf"{re.escape(long)}(?!\w)", short, text)
    return text


def is_parsed(text: str) -> bool:
    return text.startswith(tuple(ONLY_PARSED))


def groups(options: Iterable[str]) -> list[list[str]]:
    """As few commands as can hold all options: one value of each, and nothing that contradicts another."""
    found: list[list[str]] = []
    for option in dict.fromkeys(map(shortened, options)):
        for group in found:
            if not any(contradict(option, other) for other in group):
                group.append(option)
                break
        else:
            found.append([option])
    return found


def contradict(a: str, b: str) -> bool:
    flag_a, flag_b = a.split()[0], b.split()[0]
    if flag_a == flag_b and flag_a in REPEATABLE:
        return flag_a == "--set" and a.partition("=")[0] == b.partition("=")[0]
    return flag_a == flag_b or CONFLICTS.get(flag_a) == flag_b or CONFLICTS.get(flag_b) == flag_a


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the page assumes to be there. The charts of reports are left blank: tests/report draws them."""
    for module in ("tensorboard", "matplotlib"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("coming")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, out, **settings: out.write(b"<svg></svg>"))
        docs_moving.coming_from()
        yield folder


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_one_of_its_verb(verb: str) -> None:
    assert len(fragments(verb)) > 5
    for option in fragments(verb):
        run_command(f"singleshot {VERBS[verb].split(' --')[0]} {option}", only_parse=True)


RUNS = [
    (verb, group)
    for verb in VERBS
    for group in groups(q for q in fragments(verb) if not is_parsed(q) and not q.startswith("--resume"))
]


@pytest.mark.parametrize(("verb", "group"), RUNS, ids=[f"{verb}-{len(group)}" for verb, group in RUNS])
def test_the_options_run(verb: str, group: list[str], folder: Path) -> None:
    run_command(merged(verb, group, folder))


def merged(verb: str, group: list[str], folder: Path) -> str:
    """A command with all options of a group; those of the page replace ours."""
    given = {option.split()[0] for option in group}
    given |= {CONFLICTS[flag] for flag in given & CONFLICTS.keys()}
    beginning, *ours = VERBS[verb].split(" --")
    ours = [f"--{option}" for option in ours if f"--{option.split()[0]}" not in given]
    out = [] if "--out" in given else [f"--out {folder}/{verb}-{len(list(folder.iterdir()))}"]
    return " ".join(["singleshot", beginning, *ours, *group, *out])


def test_resuming_runs(folder: Path) -> None:
    wanted = [option for option in fragments("train") if option.startswith("--resume")]
    assert len(wanted) == 2
    run_command(f"singleshot {VERBS['train']} --val none --set checkpoints.every=1 --out runs/resumed")
    for option in wanted:
        run_command(f"singleshot train {shortened(option)} --out runs/resumed --steps 3")


COMMANDS = [quoted for quoted in here() if re.match("singleshot [a-z]+ ", quoted)]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command: str, folder: Path) -> None:
    if command.startswith("singleshot data convert"):
        shutil.rmtree(folder / shlex.split(command)[4], ignore_errors=True)
    if command.startswith("singleshot train") and not is_parsed(command):
        command += " --steps 1 --batch-size 2 --workers 0 --size 96 --amp fp32 --val none"
    run_command(command, only_parse=is_parsed(command))


def test_what_is_shortened_or_only_parsed_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("\\|", "|")
    for long in (*SHORTENED, *ONLY_PARSED):
        assert long in text
