"""``data check`` and ``train`` see the same images, classes and problems in every folder of the reference's cases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reference_data import reference_folder
from singleshot.data.bad_records import Problem
from singleshot.data.check import DataReport, check
from singleshot.data.train_val import open_training
from singleshot.errors import SingleshotError


def _folders() -> list[str]:
    root = reference_folder()
    names = [path.parent.relative_to(root).as_posix() for path in sorted((root / "cases").glob("*/data"))]
    return names + [
        path.relative_to(root).as_posix() for path in sorted((root / "cases-trust").iterdir()) if path.is_dir()
    ]


def _bad(problems: tuple[Problem, ...]) -> set[Problem]:
    return {problem for problem in problems if problem.action != "noted"}


def _check(path: Path) -> tuple[DataReport | None, str]:
    """The report, and why training would refuse the data (empty: it would not)."""
    try:
        report = check(path, deep=False)
    except SingleshotError as error:
        return None, str(error)
    refused = "train would stop: "
    first = report.training[0]
    return report, first.removeprefix(refused) if first.startswith(refused) else ""


@pytest.mark.parametrize("folder", _folders() or ["none"])
def test_check_and_train_agree(folder: str, reference: Path) -> None:
    path = reference / folder
    path = path / "data" if (path / "data").is_dir() else path
    report, refusal = _check(path)
    if refusal:
        with pytest.raises(SingleshotError, match=re.escape(refusal)):
            open_training(path)
        return
    assert report is not None
    train_set, val_set = open_training(path)
    opened = [dataset for dataset in (train_set, val_set) if dataset is not None]
    whole = {sample.image_path for sample in report.dataset}
    assert train_set.class_map.names == report.dataset.class_map.names
    for dataset in opened:
        assert _bad(dataset.problems) <= _bad(report.problems)
        paths = [sample.image_path for sample in dataset]
        assert set(paths) <= whole
        listed = report.members.get(str(dataset.split), [])
        assert set(map(str, paths)) == set(listed) or not report.splits or val_set is None or len(report.splits) == 1
    if not report.splits:  # a heap: all of it is seen, and so are all of its problems
        assert _bad(report.problems) == _bad(train_set.problems)
        assert {name: len(paths) for name, paths in report.members.items() if name == "train"} == {
            "train": len(train_set)
        }
