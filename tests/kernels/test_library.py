from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from singleshot.kernels import library

SOURCE = b"int answer(void) { return 42; }\n"
has_compiler = pytest.mark.skipif(os.name != "posix" or shutil.which("cc") is None, reason="no C compiler here")


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A kernel of our own in a package folder and a cache of their own."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "answer.c").write_bytes(SOURCE)
    monkeypatch.setattr(library, "files", lambda _: folder)
    monkeypatch.setenv("SINGLESHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(library.SWITCH, raising=False)
    library._load.cache_clear()
    library._said.clear()
    yield folder / "answer.c"
    library._load.cache_clear()
    library._said.clear()


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    """What the module logs, once, whatever other tests did to the loggers above it."""
    logger = logging.getLogger(library.__name__)
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(caplog.handler)
    with caplog.at_level("INFO", logger=library.__name__):
        yield caplog
    logger.removeHandler(caplog.handler)


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "kernels").glob("*"))


@has_compiler
def test_compiles_once_and_again_when_the_source_changes(source: Path, tmp_path: Path) -> None:
    first = library.load("answer")
    assert first is not None
    assert first.answer() == 42
    (path,) = kept(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    changed = path.stat().st_mtime_ns
    library._load.cache_clear()
    library._said.clear()
    assert library.load("answer") is not None
    assert path.stat().st_mtime_ns == changed
    source.write_bytes(SOURCE.replace(b"42", b"43"))
    library._load.cache_clear()
    library._said.clear()
    second = library.load("answer")
    assert second is not None
    assert second.answer() == 43
    assert len(kept(tmp_path)) == 2


def again() -> ctypes.CDLL | None:
    """What another process would load."""
    library._load.cache_clear()
    library._said.clear()
    return library.load("answer", functions=("answer",))


def compiled_once(folder: Path) -> Path:
    """A kernel in the cache."""
    assert library.load("answer") is not None
    (path,) = kept(folder)
    return path


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": _cut,
    "garbage": lambda path: path.write_bytes(b"not a library" * 1000),
    "one bit": _flip,
    "a link": _link,
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "written by others": lambda path: path.chmod(0o666),
}


@has_compiler
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_or_foreign_is_said_and_made_anew(
    damage: str, tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    path = compiled_once(tmp_path)
    DAMAGES[damage](path)
    mended = again()
    assert mended is not None
    assert mended.answer() == 42
    assert f"{path.name} is not used" in messages.text
    messages.clear()
    assert again() is not None
    assert not messages.records


@has_compiler
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_is_refused(
    mode: int, tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    path = compiled_once(tmp_path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(mode)
    assert again() is None
    assert f"others may write {path.parent}" in messages.text
    path.parent.chmod(0o700)
    assert again() is not None


@has_compiler
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    folder = compiled_once(tmp_path).parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert again() is None
    assert f"{folder} is no folder, or a link" in messages.text


@has_compiler
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    folder = compiled_once(tmp_path).parent
    os.chown(folder, 65534, 65534)
    assert again() is None
    assert f"others may write {folder}" in messages.text


def fake_compiler(folder: Path, script: str) -> Path:
    path = folder / "fake-cc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


WRITE = 'while [ "$1" != -o ]; do shift; done; '


@has_compiler
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 0", "wrote no library"),
        (WRITE + 'echo nonsense > "$2"', "wrote no library"),
        (WRITE + 'cc -shared -x c /dev/null -o "$2"; truncate -s 5000 "$2"', "wrote no library"),
        (WRITE + 'cc -shared -x c /dev/null -o "$2"', "cannot be loaded"),
        ("echo 'error: no headers' >&2; exit 1", "no headers"),
        ("sleep 100 & wait", "took more than"),
    ],
)
def test_a_compiler_that_fails_is_said_noted_and_tried_again_when_it_is_another(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "COMPILE_LIMIT_S", 1)
    compiler = fake_compiler(tmp_path, f"echo ran >> {tmp_path}/runs; {script}")
    monkeypatch.setenv("CC", str(compiler))
    for _ in range(3):
        messages.clear()
        assert again() is None
        (record,) = [record for record in messages.records if record.levelname == "WARNING"]
        assert message in record.getMessage()
    assert (tmp_path / "runs").read_text() == "ran\n"
    assert str(kept(tmp_path)[0]) in messages.text
    compiler.write_text('#!/bin/sh\nexec cc "$@"\n')
    assert again() is not None


@has_compiler
def test_a_compiler_that_failed_is_tried_again_the_next_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(fake_compiler(tmp_path, f"echo ran >> {tmp_path}/runs; exit 1")))
    assert again() is None
    (note,) = kept(tmp_path)
    os.utime(note, (0, 0))
    assert again() is None
    assert (tmp_path / "runs").read_text() == "ran\nran\n"


@has_compiler
def test_a_warning_is_said_once_in_a_process(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: pytest.LogCaptureFixture
) -> None:
    (source.parent / "other.c").write_bytes(SOURCE)
    monkeypatch.setenv("CC", str(fake_compiler(tmp_path, "exit 1")))
    assert library.load("answer") is None
    assert library.load("other") is None
    assert [record.levelname for record in messages.records] == ["INFO", "WARNING"]
    assert "Compiling kernels" in messages.records[0].getMessage()


@has_compiler
def test_another_processor_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_once(tmp_path)
    monkeypatch.setattr(library, "_processor", lambda: "another")
    assert again() is not None
    assert len(kept(tmp_path)) == 2


@has_compiler
def test_what_was_compiled_runs_where_there_is_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_once(tmp_path)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert again() is not None


@has_compiler
def test_threads_and_processes_at_once(source: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: library.load("answer"), range(4)))
    assert len(set(map(id, found))) == 1
    program = (
        "import sys; from pathlib import Path; from singleshot.kernels import library;"
        f"library.files = lambda _: Path({str(source.parent)!r});"
        "sys.exit(library.load('answer').answer() != 42)"
    )
    for path in kept(tmp_path):
        path.unlink()
    running = [subprocess.Popen([sys.executable, "-O", "-c", program]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert again() is not None


@has_compiler
def test_what_does_not_compile_is_left_alone(source: Path, tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    source.write_text("int answer(void) { return forty_two; }\n")
    assert library.load("answer") is None
    assert "forty_two" in messages.text
    assert [path.suffix for path in kept(tmp_path)] == [".failed"]


def test_without_a_compiler_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    assert library.load("answer") is None
    monkeypatch.setenv("CC", "")
    library._load.cache_clear()
    library._said.clear()
    assert library.load("answer") is None
    assert kept(tmp_path) == []


@pytest.mark.parametrize("word", ["off", "0", "OFF"])
def test_switched_off(word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(library.SWITCH, word)
    assert library.load("answer") is None
    assert kept(tmp_path) == []
