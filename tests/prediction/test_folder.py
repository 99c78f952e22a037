"""A folder of results holds one run's files, and no file of anyone else is touched unasked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from singleshot.errors import ConfigError, OutputError
from singleshot.prediction.output_folder import (
    RECORD,
    ResultFolder,
    check_folder,
    holds_results,
    new_folder,
    recorded_files,
    remove_results,
)


def results(folder: Path, *names: str) -> None:
    with ResultFolder(folder) as made:
        for name in names:
            target = made.claim(Path(name))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(name)


def test_nothing_is_fine(tmp_path: Path) -> None:
    check_folder(tmp_path / "none", ["images"])
    assert list(recorded_files(tmp_path / "none")) == []
    remove_results(tmp_path)
    results(tmp_path / "deep" / "out")
    assert holds_results(tmp_path / "deep" / "out")


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("is_written", [False, True])
def test_a_run_that_could_not_begin_is_no_earlier_run(tmp_path: Path, is_there: bool, is_written: bool) -> None:
    out = tmp_path / "out"
    if is_there:
        out.mkdir()

    def run() -> None:
        with ResultFolder(out) as made:
            target = made.claim(Path("table"))
            if is_written:
                target.touch()
            raise ConfigError("there is no cluster")

    with pytest.raises(ConfigError):
        run()
    assert holds_results(out) is is_written
    assert out.exists() is (is_there or is_written)


def test_new_folders_are_numbered(tmp_path: Path) -> None:
    assert [new_folder(tmp_path / "found").name for _ in range(3)] == ["found", "found-2", "found-3"]


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_is_there_is_in_the_way(tmp_path: Path, what: str) -> None:
    top = tmp_path / "images"
    if what == "file":
        top.touch()
    elif what == "link":
        top.symlink_to(tmp_path / "nowhere")
    else:
        top.mkdir()
        check_folder(tmp_path, ["images"])
        (top / "mine.jpg").touch()
    check_folder(tmp_path, ["detections.json"])
    with pytest.raises(OutputError, match=r"images: exists already: .*`out`.*`overwrite=True`"):
        check_folder(tmp_path, ["images"])
    check_folder(tmp_path, ["images"], overwrite=True)


def test_an_earlier_run_is_replaced_only_when_that_is_allowed(tmp_path: Path) -> None:
    results(tmp_path / "out", "images/a.jpg", "images/deep/b.jpg", "detections.json")
    (tmp_path / "out/images/mine.txt").touch()
    with pytest.raises(OutputError, match="earlier run"):
        ResultFolder(tmp_path / "out")
    with ResultFolder(tmp_path / "out", overwrite=True):
        left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert left == {"images", "images/mine.txt", RECORD}


def test_a_stranger_among_the_results_stays_unless_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with ResultFolder(tmp_path) as made:
        with pytest.raises(OutputError, match=r"mine\.txt: exists already"):
            made.claim(Path("mine.txt"))
        assert made.claim(Path("new.txt")) == tmp_path / "new.txt"
        (tmp_path / "new.txt").touch()
        assert made.claim(Path("new.txt")) == tmp_path / "new.txt"  # this run's own
    with ResultFolder(tmp_path, overwrite=True) as made:
        assert made.claim(Path("mine.txt")) == tmp_path / "mine.txt"


def test_sources_are_never_written(tmp_path: Path) -> None:
    photo = tmp_path / "photos" / "a.jpg"
    photo.parent.mkdir()
    photo.write_text("photo")
    (tmp_path / "linked.jpg").symlink_to(photo)
    os.link(photo, tmp_path / "hard.jpg")
    with ResultFolder(tmp_path, [photo], overwrite=True) as made:
        for name in ("photos/a.jpg", "linked.jpg", "hard.jpg"):
            with pytest.raises(OutputError, match="photo of this run"):
                made.claim(Path(name))
    results(tmp_path / "out", "images/a.jpg")
    with pytest.raises(OutputError, match="is a source of this run"):
        ResultFolder(tmp_path / "out", [tmp_path / "out/images/a.jpg"], overwrite=True)
    assert (tmp_path / "out/images/a.jpg").read_text() == "images/a.jpg"


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/images").symlink_to(tmp_path / "home")
    with (
        ResultFolder(tmp_path / "out", overwrite=True) as made,
        pytest.raises(OutputError, match="a link leads out of"),
    ):
        made.claim(Path("images/a.jpg"))


def test_a_record_names_nothing_outside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    for name in ("home/a.jpg", "b.jpg", "out/images/c.jpg"):
        (tmp_path / name).touch()
    (out / "link").symlink_to(tmp_path / "home")
    lines = ["../b.jpg", "images/../../b.jpg", str(tmp_path / "b.jpg"), "link/a.jpg", 7, None, "images", "images/c.jpg"]
    (out / RECORD).write_text("\n".join(["{}", *map(json.dumps, lines), '"torn']))
    assert list(recorded_files(out)) == [out / "images/c.jpg"]
    remove_results(out)
    assert (tmp_path / "b.jpg").exists()
    assert (tmp_path / "home/a.jpg").exists()
    assert sorted(path.name for path in out.iterdir()) == ["link"]


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    with ResultFolder(tmp_path / "out"), pytest.raises(OutputError):
        ResultFolder(tmp_path / "out")


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(OutputError, match=r"is a link to nowhere, which does not exist: name a folder by `out`"):
        check_folder(tmp_path / "out", (), overwrite=True)
