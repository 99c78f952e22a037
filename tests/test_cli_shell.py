"""The command line itself: verbs, help, and how mistakes are told."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from singleshot import cli
from singleshot.cli.console import error_text, in_flags, open_console, options_of, print_note
from singleshot.cli.signals import ENDING, end_like_ctrl_c
from singleshot.core.wording import counted
from singleshot.demo.scenes import make_scenes
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


def test_work_goes_on_when_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        console = open_console()
        console.print("the first line of many")
        console.print("the second")
        assert console.quiet


def test_an_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        (tmp_path / "no" / "file").read_bytes()
    assert error_text(caught.value) == f"{tmp_path}/no/file: No such file or directory"


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


def _terminate(number: int) -> None:
    """End as `kill` does."""
    os.kill(os.getpid(), number)


def _out_of_space() -> None:
    """Fail as a full disk does."""
    raise OSError(28, "No space left on device", "runs/a/metrics.csv")


@pytest.fixture
def more_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    here = "more_tests_of_verbs"
    module = type(sys)(here)
    module.terminate, module.full, module.stop = _terminate, _out_of_space, _stop  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, here, module)
    monkeypatch.setattr(cli, "VERBS", {name: f"{here}:{name}" for name in ("terminate", "full", "stop")})


def _stop() -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.mark.usefixtures("more_verbs")
def test_interruptions_have_codes_of_their_own() -> None:
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        for number in ENDING:
            end_like_ctrl_c()
            result = runner.invoke(cli.app, ["terminate", str(int(number))])
            assert (result.exit_code, result.stderr) == (128 + number, "Interrupted.\n")
            signal.signal(number, signal.SIG_IGN)  # as `nohup` does
            end_like_ctrl_c()
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for rank, said in (("", "Interrupted.\n"), ("0", "Interrupted.\n"), ("1", "")):  # of several that learn together
        result = runner.invoke(cli.app, ["stop"], env={"RANK": rank or None})
        assert (result.exit_code, result.stderr) == (130, said)


@pytest.mark.usefixtures("more_verbs")
def test_a_full_disk_names_the_file() -> None:
    result = runner.invoke(cli.app, ["full"])
    assert (result.exit_code, result.stderr) == (2, "Error: runs/a/metrics.csv: No space left on device\n")


def test_a_closed_pipe_ends_quietly() -> None:
    command = [sys.executable, "-m", "singleshot", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait()
    process.stderr.close()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_name_can_be_printed(encoding: str) -> None:
    code = (
        "import sys\n"
        "sys.argv = ['singleshot', 'predict', '\\u72ac\\udce9 [/b].jpg']\n"
        "from singleshot.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        check=False,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 2
    assert done.stderr.startswith(("Error: 犬", "Error: \\u72ac"))
    assert " [/b].jpg: the pattern matches no file" in done.stderr


def test_tables_are_whole_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = runner.invoke(cli.app, ["models"]).stdout.splitlines()
    assert any("ssdlite300_mobilenet_v2" in line and "coco" in line for line in lines)
    assert max(map(len, lines)) > 80


def test_names_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console = open_console()
    with console.capture() as captured:
        console.print("photos [/b]/[red]a.jpg", soft_wrap=True)
        print_note(console, "left out: [/b].jpg")
    assert captured.get() == "photos [/b]/[red]a.jpg\nNote: left out: [/b].jpg\n"


@pytest.mark.parametrize(
    ("count", "words", "expected"),
    [
        (0, ("image",), "0 images"),
        (1, ("image",), "1 image"),
        (1, ("class",), "1 class"),
        (2, ("class",), "2 classes"),
        (1_000, ("object",), "1,000 objects"),
        (2, ("box", "boxes"), "2 boxes"),
    ],
)
def test_numbers_are_said_in_english(count: int, words: tuple[str, ...], expected: str) -> None:
    assert counted(count, *words) == expected


def test_errors_speak_the_command_line_and_move_no_cursor(tmp_path: Path) -> None:
    target = tmp_path / "mine\x1b[2J.json"
    target.write_text("{}")
    data = tmp_path / "data"
    make_scenes(data, count=1)
    outcome = runner.invoke(cli.app, ["data", "check", str(data), "--json", str(target)])
    assert outcome.exit_code == 2
    assert "mine\\x1b[2J.json: exists already" in outcome.stderr
    assert "replace it with --overwrite" in outcome.stderr
    assert target.read_text() == "{}"


OPTIONS = {
    "out": ("--out",),
    "batch_size": ("--batch-size",),
    "link": ("--link", "--copy"),
    "resume": ("--resume", ""),
    "source": ("--from",),
    "device": ("--device",),
    "compile": ("--compile", ""),
    "overwrite": ("--overwrite", ""),
    "size": ("--size",),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("nothing to say", "nothing to say"),
        ("choose another `out`", "choose another --out"),
        ("with `out='a b'`", "with --out a b"),
        ("`batch_size=2` would teach them", "--batch-size 2 would teach them"),
        ("continue with `resume=True`", "continue with --resume"),
        ("`link=True`, or `link=False`", "--link, or --copy"),
        ("leave `source` out", "leave --from out"),
        ("`device='cuda:1'` goes with `backend='torch'`", "--device cuda:1 goes with `backend='torch'`"),
        ("leave `compile=True` out", "leave --compile out"),
        ("or allow it to be replaced: `overwrite`", "or allow it to be replaced: --overwrite"),
        ("leave `size='300'` out", "leave --size 300 out"),
        ("device='x' (overwrite) compile=True", "device='x' (overwrite) compile=True"),
        ("`score` is no option of this verb", "`score` is no option of this verb"),
        ("`singleshot data check` lists everything", "`singleshot data check` lists everything"),
    ],
)
def test_settings_become_flags(text: str, expected: str) -> None:
    assert in_flags(text, OPTIONS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`accumulate=2` or `amp`", "--set accumulate=2 or --set amp=..."),
        ("`optimizer.lr=1e-3`", "--set optimizer.lr=1e-3"),
        ("`bad_data='error'`", "--set data.bad_data=error"),
        ("`convert`'s index.json", "`convert`'s index.json"),  # a verb
    ],
)
def test_settings_without_a_flag_go_by_set(text: str, expected: str) -> None:
    assert in_flags(text, {"set_": ("--set",)}) == expected


def test_errors_of_the_library_speak_in_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = "tests_of_words"
    module = type(sys)(here)

    def fail(folder: Annotated[str, typer.Option("--out")] = "x", again: bool = False) -> None:
        """Fail."""
        logging.getLogger("singleshot").warning("`folder` was made")
        raise DataError(f"name another `folder` than {folder}, or `again=True`")

    module.fail = fail  # type: ignore[attr-defined]
    fail.__annotations__ = {"folder": Annotated[str, typer.Option("--out")], "again": bool, "return": None}
    monkeypatch.setitem(sys.modules, here, module)
    monkeypatch.setattr(cli, "VERBS", {"fail": f"{here}:fail"})
    result = runner.invoke(cli.app, ["fail"])
    assert result.exit_code == 2
    assert "--out was made" in result.output
    assert "name another --out than x, or --again" in result.output
    assert in_flags("`again=True`") == "`again=True`"  # no verb runs any more


def test_verbs_of_a_verb_share_their_flags() -> None:
    found = options_of(typer.main.get_command(import_module("singleshot.cli.data").data))
    assert found["link"] == ("--link", "--copy")
    assert found["overwrite"] == ("--overwrite", "")
    assert found["bad_data"] == ("--bad-data",)
