"""The pages of documentation: their fenced blocks, and how each kind of command in them is run or checked."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.testing import CliRunner

from singleshot.cli import app
from singleshot.core.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


class Block(NamedTuple):
    """A fenced block: where its fence opens, its language, and its lines."""

    page: Path
    line: int
    language: str
    body: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line} ({self.language or 'no language'})"


class UnknownBlockError(Exception):
    """A block, or a line of it, that no rule says how to check."""


def read_blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [Block(page, text.count("\n", 0, fence.start()) + 1, fence[1].strip(), fence[2]) for fence in fences]


def commands(block: Block) -> list[str]:
    """The commands of a ``bash`` block, or those after a ``$ `` of a ``console`` block; continued lines are joined.

    Raises:
        UnknownBlockError: a console block holds output, with which nothing compares it.
    """
    lines = block.body.replace("\\\n", " ").splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    if block.language == "console":
        if others := [line for line in lines if not line.startswith("$ ")]:
            raise UnknownBlockError(f"{block}: output that nothing checks: {others[0]!r}")
        lines = [line.removeprefix("$ ") for line in lines]
    return lines


def inline_commands(page: Path) -> list[str]:
    """Commands within sentences and tables: ```singleshot VERB ...``` between backticks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`(singleshot [a-z]+(?: [^`]+)?)`", text.replace("\n", " "))


def run_command(line: str, *, only_parse: bool = False) -> None:
    """Run a ``singleshot`` command, which must succeed; of ``pip``, ``make`` and scripts check what they name.

    Raises:
        AssertionError: it fails, or names an option, extra, target or file that does not exist.
        UnknownBlockError: another program.
    """
    words = shlex.split(line, comments=True)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    match words:
        case ["singleshot", *arguments] if only_parse:
            parse(arguments)
        case ["singleshot", *arguments]:
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, f"{line}: {result.output}"
        case ["pip", "install", *arguments]:
            _check_install(arguments)
        case ["curl", *arguments]:
            _check_curl(arguments)
        case ["docker", *arguments]:
            files = [word for option, word in pairwise(arguments) if option == "-f"]
            assert all((ROOT / file).is_file() for file in files), line
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), line
        case ["python", "-m", "venv", _] | ["source", _] | ["trtexec", *_]:  # tests/export/test_export_table.py
            pass
        case ["python", script, *arguments]:
            _check_script(script, arguments)
        case _:
            raise UnknownBlockError(f"no rule for the command {line!r}")


def parse(words: list[str]) -> None:
    """Let the command line read a command without running it; an unknown verb, option or argument raises."""
    command: Any = typer.main.get_command(app)
    if {"--help", "--version"} & set(words):
        return
    context = command.make_context("singleshot", list(words))
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, list(words))
        context = command.make_context(name, list(words), parent=context)


def options(*verbs: str) -> set[str]:
    """Options of these verbs, of all of them by default."""
    group: Any = typer.main.get_command(app)
    found = [group.get_command(None, verb) for verb in verbs] if verbs else [group]
    return {option for command in found for option in _options(command)}


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from [*parameter.opts, *parameter.secondary_opts]
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from _options(command.get_command(None, name))


def script_options(script: Path) -> set[str]:
    """Options that a script, or what all benchmarks share, defines."""
    text = script.read_text(encoding="utf-8") + (ROOT / "benchmarks/common.py").read_text(encoding="utf-8")
    return set(re.findall(r'"(--[a-z][a-z-]*)"', text))


def extras() -> set[str]:
    """Extras that ``pip install '.[...]'`` knows."""
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def entry_point_groups() -> set[str]:
    """Groups that our registries look into."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    kinds = {
        kind for source in sources for kind in re.findall(r'\bRegistry\(\s*"([a-z0-9 ]+)"', source, flags=re.IGNORECASE)
    }
    return {Registry(kind, {}).group for kind in kinds}


def check_entry_points(text: str) -> None:
    """A ``pyproject.toml`` in part: its groups of entry points are those of our registries."""
    asked = set(tomllib.loads(text)["project"]["entry-points"])
    assert asked <= entry_point_groups(), f"no registry looks into {asked}"


def _check_curl(arguments: list[str]) -> None:
    """A request to a route of the service, with parameters that it has."""
    from singleshot.serving import create_app
    from singleshot.serving.repository import Repository

    path, _, query = arguments[-1].removeprefix("http://localhost:8000").partition("?")
    (operation,) = create_app(Repository()).openapi()["paths"][path].values()
    known = {parameter["name"] for parameter in operation["parameters"]}
    assert {part.partition("=")[0] for part in query.split("&") if part} <= known, arguments


def _check_install(arguments: list[str]) -> None:
    """A package of ours with extras that exist, with constraints that exist, or torch from its own index."""
    packages = [word for word in arguments if not word.startswith("-")]
    if "-c" in arguments:
        constraints = arguments[arguments.index("-c") + 1]
        assert (ROOT / constraints).is_file(), constraints
        packages.remove(constraints)
    for package in packages:
        ours = re.fullmatch(r"\.\[([\w,]+)\]", package)
        if ours:
            assert set(ours[1].split(",")) <= extras(), package
        else:
            assert package == "." or package.startswith(("torch==", "https://download.pytorch.org/")), package


def _check_script(script: str, arguments: list[str]) -> None:
    """A file of this repository, and options that it defines."""
    path = ROOT / script
    assert path.is_file(), script
    asked = {word for word in arguments if word.startswith("--")}
    assert asked <= script_options(path), f"{script}: no {asked - script_options(path)}"
