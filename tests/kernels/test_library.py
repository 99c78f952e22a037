from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
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
    library.load.cache_clear()
    yield folder / "answer.c"
    library.load.cache_clear()


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the module logs, whatever other tests did to the loggers above it."""
    logger = logging.getLogger(library.__name__)
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
    library.load.cache_clear()
    assert library.load("answer") is not None
    assert path.stat().st_mtime_ns == changed
    source.write_bytes(SOURCE.replace(b"42", b"43"))
    library.load.cache_clear()
    second = library.load("answer")
    assert second is not None
    assert second.answer() == 43
    assert len(kept(tmp_path)) == 2


@has_compiler
def test_a_file_that_others_may_write_is_not_loaded(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    assert library.load("answer") is not None
    (path,) = kept(tmp_path)
    path.chmod(0o622)
    library.load.cache_clear()
    assert library.load("answer") is None
    assert str(path) in messages.text


@has_compiler
def test_what_does_not_compile_is_left_alone(source: Path, tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    source.write_text("int answer(void) { return forty_two; }\n")
    assert library.load("answer") is None
    assert "forty_two" in messages.text
    assert kept(tmp_path) == []


def test_without_a_compiler_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    assert library.load("answer") is None
    monkeypatch.setenv("CC", "")
    library.load.cache_clear()
    assert library.load("answer") is None
    assert kept(tmp_path) == []


@pytest.mark.parametrize("word", ["off", "0", "OFF"])
def test_switched_off(word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(library.SWITCH, word)
    assert library.load("answer") is None
    assert kept(tmp_path) == []
