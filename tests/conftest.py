"""Shared fixtures. Tests that compare with other systems need the reference data and skip without it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

from reference_data import reference_folder

# A busy machine is no fault of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Compiled networks and downloads of the user stay out of the tests, and theirs out of the user's cache."""
    if "SINGLESHOT_CACHE" not in os.environ:
        folder = os.environ["SINGLESHOT_CACHE"] = tempfile.mkdtemp(prefix="singleshot-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def reference() -> Path:
    folder = reference_folder()
    if not (folder / "golden").is_dir():
        pytest.skip(f"no reference data in {folder} (set SINGLESHOT_REFERENCE)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread_per_worker() -> None:
    """xdist already uses the cores; torch threads on top would only wait for each other."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(1)
