"""The command line itself: verbs, help, and how mistakes are told."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.testing import CliRunner

from singleshot import cli
from singleshot.errors import DataError
from singleshot.version import __version__

runner = CliRunner()


def _fail() -> None:
    """Fail."""
    raise DataError("labels.xml, line 3: no <object>; add one")


def _crash() -> None:
    """Crash."""
    raise RuntimeError("our own mistake")


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    here = "tests_of_verbs"
    module = type(sys)(here)
    module.fail, module.crash = _fail, _crash  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, here, module)
    monkeypatch.setattr(cli, "VERBS", {"fail": f"{here}:fail", "crash": f"{here}:crash"})


def test_version() -> None:
    assert runner.invoke(cli.app, ["--version"]).output == f"singleshot {__version__}\n"


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_exists_and_has_help(verb: str) -> None:
    module, attribute = cli.VERBS[verb].split(":")
    assert isinstance(getattr(import_module(module), attribute), typer.Typer) or callable(
        getattr(import_module(module), attribute)
    )
    result = runner.invoke(cli.app, [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_lists_the_verbs() -> None:
    output = runner.invoke(cli.app, ["--help"]).output
    for verb in cli.VERBS:
        assert verb in output


@pytest.mark.usefixtures("verbs")
def test_a_users_mistake_is_one_message() -> None:
    result = runner.invoke(cli.app, ["fail"])
    assert result.exit_code == 2
    assert result.stderr == "Error: labels.xml, line 3: no <object>; add one\n"


@pytest.mark.usefixtures("verbs")
@pytest.mark.parametrize("arguments", [["--debug", "fail"], ["fail", "--debug"]])
def test_debug_shows_where(arguments: list[str]) -> None:
    assert isinstance(runner.invoke(cli.app, arguments).exception, DataError)


@pytest.mark.usefixtures("verbs")
def test_our_own_mistake_is_not_hidden() -> None:
    assert isinstance(runner.invoke(cli.app, ["crash"]).exception, RuntimeError)


def test_unknown_verbs_are_told() -> None:
    result = runner.invoke(cli.app, ["predct"])
    assert result.exit_code == 2
    assert "Did you mean 'predict'?" in result.stderr


def test_help_imports_nothing_heavy() -> None:
    """What makes ``singleshot --help`` slow is never imported for it (nor by ``import singleshot``)."""
    code = (
        "import sys, singleshot\n"
        "from typer.testing import CliRunner\n"
        "from singleshot.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'cv2', 'numpy', 'openvino', 'onnxruntime', 'matplotlib', 'skimage'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "singleshot", "--version"], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == f"singleshot {__version__}"
