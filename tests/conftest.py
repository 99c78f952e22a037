"""Shared fixtures. Tests that compare with other systems need the reference data and skip without it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from reference_data import reference_folder

# A busy machine is no fault of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ


def pytest_configure(config: pytest.Config) -> None:
    """Compiled networks and downloads of the user stay out of the tests, and theirs out of the user's cache."""
    if "SINGLESHOT_CACHE" not in os.environ:  # set by the first process, which hands it to its workers
        folder = os.environ["SINGLESHOT_CACHE"] = tempfile.mkdtemp(prefix="singleshot-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    if IS_WORKER:  # for the commands that tests start, too
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def reference() -> Path:
    folder = reference_folder()
    if not (folder / "golden").is_dir():
        pytest.skip(f"no reference data in {folder} (set SINGLESHOT_REFERENCE)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread_per_worker() -> None:
    """xdist already uses the cores; threads on top would only wait for each other."""
    if IS_WORKER:
        import cv2
        import torch

        torch.set_num_threads(1)
        cv2.setNumThreads(1)


@pytest.fixture(scope="session", autouse=True)
def _signals_as_at_a_terminal() -> Iterator[None]:
    """What starts the tests in the background, or by ``nohup``, has signals ignored, here and in what they start."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.hookimpl(trylast=True)  # after the fixtures
def pytest_runtest_teardown() -> None:
    """A test that leaves more threads behind makes all that follow it in its worker several times slower."""
    torch = sys.modules.get("torch")
    if IS_WORKER and torch and (left := torch.get_num_threads()) != 1:
        torch.set_num_threads(1)
        pytest.fail(f"leaves {left} threads of torch behind: put the old number back")
