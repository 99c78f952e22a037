"""Jobs in slices: whatever runs them, dies or is continued, the table is the one of a run without slices."""

from __future__ import annotations

import json
import multiprocessing
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from prediction.batch_toys import KILLS, NAMES, HereEngine, toy_predictor
from singleshot.cli import app
from singleshot.errors import ConfigError, DataError, ImageError, OutputError
from singleshot.images.read import write_image
from singleshot.prediction.batch.batch_job import EnginePredictor, PartsJob, detect_to_parts, find_slices
from singleshot.prediction.batch.parts_folder import PartsFolder
from singleshot.prediction.batch.processes import ProcessEngine
from singleshot.prediction.batch.registry import BATCH_ENGINES, Crew, EngineError, JobEngine
from singleshot.prediction.batch.slices import ListedFiles, Slice, digest_of, divide, file_runs
from singleshot.prediction.batch.work import SliceReport, Work
from singleshot.prediction.job import JobSummary, Output, detect_and_save
from singleshot.prediction.refinement import Refinement
from singleshot.prediction.result_table import TableRecord, read_parquet, read_records
from singleshot.prediction.sinks.json import read_json

tables = pytest.importorskip("pyarrow.parquet")
pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    for number in range(9):
        photo(f"photos/{number}.png", 25 * number)
    Path("photos/5.png").write_bytes(b"<html>")
    return sorted(Path("photos").iterdir())


def photo(path: str, value: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((12, 16 + value, 3), value, np.uint8))


def in_parts(
    sources: list[str], out: str = "parts", engine: JobEngine | None = None, *, resume: bool = False, **more: Any
) -> JobSummary:
    """Write a table in parts of two images."""
    settings = {"score": 0.3} | more.pop("how", {})
    found = find_slices(sources, Output(folder=Path("parts")), more.pop("part_size", 2))
    work = Work(build=more.pop("build", toy_predictor), parts=PartsFolder.at(out), **more)
    job = PartsJob(slices=found.slices, sources=found.files, how=settings, resume=resume)
    return detect_to_parts(engine or HereEngine(), work, Crew(workers=2, note=lambda line: None), job)


def plain(images: list[Path]) -> list[TableRecord]:
    """What a run without an engine says."""
    detect_and_save(toy_predictor(), images, Output(kinds=("parquet", "json"), folder=Path("plain")))
    return list(read_records("plain/detections.parquet"))


@pytest.mark.parametrize(
    ("count", "size", "batch", "expected"),
    [(0, 4, 1, []), (1, 4, 1, [1]), (4, 4, 1, [4]), (9, 4, 1, [4, 4, 1]), (9, 4, 3, [6, 3]), (5, 1, 8, [5])],
)
def test_slices_are_whole_batches(count: int, size: int, batch: int, expected: list[int]) -> None:
    slices = divide(file_runs([f"{number}.jpg" for number in range(count)], size, batch))
    assert [len(own.images) for own in slices] == expected
    assert [image.name for own in slices for image in own.images.open()] == [f"{number}.jpg" for number in range(count)]
    assert len({own.part for own in slices}) == len(slices)


def test_the_name_of_a_part_tells_its_images_and_their_place() -> None:
    one, same, other, later = (
        divide(runs)[-1]
        for runs in (
            [ListedFiles(("a", "b"))],
            [ListedFiles(("a", "b"))],
            [ListedFiles(("a\0b",)), ListedFiles(("ab",))],
            [ListedFiles(("x",)), ListedFiles(("a", "b"))],
        )
    )
    assert one.part == same.part
    assert len({one.part, other.part, later.part}) == 3
    assert sorted([later.part, one.part]) == [one.part, later.part]
    assert digest_of([one]) != digest_of([one, later])


def test_parts_are_the_table_of_a_plain_run(photos: list[Path]) -> None:
    expected = plain(photos)
    summary = in_parts(["photos"])
    assert list(read_records("parts/detections.parquet")) == expected
    assert (summary.images, len(summary.failures), summary.objects) == (8, 1, {"cat": 4, "dog": 3})
    assert [record.image for record in expected] == [str(path) for path in photos]
    assert "web page" in expected[5].error
    assert len(read_parquet("parts/detections.parquet")[0]) == 0  # nothing in a black picture, and it has its row
    assert read_parquet("parts/detections.parquet") == read_json(Path("plain/detections.json"))
    table, whole = (tables.read_table(f"{run}/detections.parquet") for run in ("parts", "plain"))
    assert table.equals(whole)
    assert table.schema.metadata == whole.schema.metadata
    assert json.loads(table.schema.metadata[b"singleshot"])["schema"] == 2


def test_what_is_done_is_not_done_again_and_nothing_is_missing(photos: list[Path]) -> None:
    expected = plain(photos)
    in_parts(["photos"])
    parts = sorted(Path("parts/detections.parquet").iterdir())
    kept = parts[0].stat().st_mtime_ns
    for part in parts[2:4]:
        part.unlink()
    Path("parts/detections.parquet/.singleshot-0123456789abcdef.tmp").touch()
    summary = in_parts(["photos"], resume=True)
    assert summary.done == 4
    assert list(read_records("parts/detections.parquet")) == expected
    assert sorted(Path("parts/detections.parquet").iterdir()) == parts
    assert parts[0].stat().st_mtime_ns == kept
    assert in_parts(["photos"], resume=True).done == 0


def test_what_would_mix_two_jobs_is_refused(photos: list[Path]) -> None:
    with pytest.raises(OutputError, match="holds no results to continue"):
        in_parts(["photos"], resume=True)
    in_parts(["photos"])
    with pytest.raises(OutputError, match="earlier run"):
        in_parts(["photos"])
    with pytest.raises(OutputError, match=r"begun with `score=0.3`: continue so, not with `score=0.4`"):
        in_parts(["photos"], resume=True, how={"score": 0.4})
    with pytest.raises(OutputError, match="`images="):
        in_parts(["photos"], resume=True, part_size=3)
    Path("parts/detections.parquet/part-other.parquet").touch()
    with pytest.raises(OutputError, match="no part of this job"):
        in_parts(["photos"], resume=True)


def test_folders_at_addresses(photos: list[Path], tmp_path: Path) -> None:
    address = tmp_path.as_uri()
    summary = in_parts([f"{address}/photos"], f"{address}/far")
    records = list(read_records("far/detections.parquet"))
    assert [record.image for record in records] == [f"{address}/{path}" for path in photos]
    assert [(record.detections is None) for record in records] == [number == 5 for number in range(9)]
    assert records[5].error.startswith(f"{address}/photos/5.png: ")
    assert summary.problems == []
    min(Path("far/detections.parquet").iterdir()).unlink()
    assert in_parts([f"{address}/photos"], f"{address}/far", resume=True).done == 2
    with pytest.raises(OutputError, match="earlier run"):
        in_parts([f"{address}/photos"], f"{address}/far")
    with pytest.raises(OutputError, match=r"`score=0\.3`"):
        in_parts([f"{address}/photos"], f"{address}/far", resume=True, how={"score": 1.0})
    with pytest.raises(ImageError, match="no such file"):
        in_parts([f"{address}/photo"])


def test_a_file_system_that_is_no_disk(photos: list[Path]) -> None:
    from pyarrow.fs import FileSystem

    files, _ = FileSystem.from_uri("mock://x")
    folder = PartsFolder("mock://x/out", files, "out")
    one, other = (own.part for own in divide(file_runs(["a", "b"], 1)))
    with folder.held([one], {}, [], overwrite=False, resume=False):
        folder.write(one, pyarrow.table({"a": [1]}))
    assert folder.done() == {one}
    with folder.held([other], {}, [], overwrite=True, resume=False):
        assert folder.done() == set()
        folder.write("mine.parquet", pyarrow.table({"a": [1]}))
    with pytest.raises(OutputError, match=r"mine\.parquet: is no part of this job"):
        folder.held([other], {}, [], overwrite=True, resume=False).__enter__()
    assert folder.done() == {"mine.parquet"}


def test_tables_of_images_and_of_paths(photos: list[Path]) -> None:
    data = [path.read_bytes() for path in photos]
    names = [path.name for path in photos]
    Path("in").mkdir()
    structs = [{"bytes": own, "path": name} for own, name in zip(data, names, strict=True)]
    for table, columns in {
        "bytes": {"label": [1] * 9, "image": data, "key": names},
        "structs": {"image": structs},
        "paths": {"file_name": [str(path.absolute()) for path in photos]},
        "addresses": {"uri": [path.absolute().as_uri() for path in photos]},
        "beside": {"path": [f"../{path}" for path in photos]},
    }.items():
        tables.write_table(pyarrow.table(columns), f"in/{table}.parquet", row_group_size=5)
        in_parts([f"in/{table}.parquet"], table)
        found = read_parquet(f"{table}/detections.parquet")
        assert [own.scores.tolist() for own in found] == [own.scores.tolist() for own in in_json(photos)]
        assert len(list(read_records(f"{table}/detections.parquet"))) == 9
        assert len(list(Path(table, "detections.parquet").iterdir())) == 5  # 2 2 1 of a row group, 2 2 of the other
    tables.write_table(pyarrow.table({"image": [data[1], None, b"", data[2]]}), "in/holes.parquet")
    in_parts(["in/holes.parquet"], "holes")
    records = list(read_records("holes/detections.parquet"))
    assert [record.image for record in records] == [f"in/holes.parquet#{number}" for number in range(4)]
    assert [bool(record.error) for record in records] == [False, True, True, False]


def in_json(images: list[Path]) -> list[Any]:
    detect_and_save(toy_predictor(), images, Output(kinds=("json",), folder=Path("as-json"), overwrite=True))
    return read_json(Path("as-json/detections.json"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [b"x"], "b": [b"y"]}, "which column holds the images.*: a, b"),
        ({"count": [1]}, "which column"),
    ],
)
def test_tables_without_images(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    path = tmp_path / "t.parquet"
    tables.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError, match=message):
        find_slices([str(path)], Output(), 2)
    path.write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        find_slices([str(path)], Output(), 2)


def test_zones_and_sizes_apply_before_parts_are_written(photos: list[Path]) -> None:
    in_parts(["photos"], refinement=Refinement.of(min_size=5))
    found = read_parquet("parts/detections.parquet")
    assert 0 < sum(map(len, found)) < 7
    assert all((own.boxes_xyxy[:, 2:] - own.boxes_xyxy[:, :2] >= 5).all() for own in found)


@pytest.mark.parametrize("with_pixels", [False, True])
def test_results_that_come_back_make_the_same_files(photos: list[Path], with_pixels: bool) -> None:
    kinds = ("json", "csv", "coco", "text", *(("images", "crops") if with_pixels else ()))
    predictor = toy_predictor()
    work = Work(build=toy_predictor, with_pixels=with_pixels)
    there = EnginePredictor(HereEngine(), work, Crew(workers=2), ("cat", "dog"), (3, 7), predictor.views)
    for run, detecting in (("plain", predictor), ("there", there)):
        detect_and_save(detecting, photos, Output(kinds=kinds, folder=Path(run)))
    files = [path.relative_to("plain") for path in sorted(Path("plain").rglob("*")) if path.is_file()]
    assert len(files) >= 5
    for file in files:
        assert Path("plain", file).read_bytes() == Path("there", file).read_bytes(), file
    assert sum(there.times.seconds.values()) > 0


def test_workers_that_die_are_replaced_and_one_image_ends_nothing(photos: list[Path]) -> None:
    photo("photos/3.png", KILLS)
    lines: list[str] = []
    found = find_slices(["photos"], Output(), 3)
    work = Work(build=toy_predictor, parts=PartsFolder.at("parts"))
    job = PartsJob(slices=found.slices)
    summary = detect_to_parts(ProcessEngine(), work, Crew(workers=1, note=lines.append), job)
    records = list(read_records("parts/detections.parquet"))
    assert [record.image for record in records] == [str(path) for path in photos]
    assert [number for number, record in enumerate(records) if record.error] == [3, 5]
    assert "the process that looks at it dies" in records[3].error
    assert (summary.images, len(summary.failures), summary.problems) == (7, 2, [])
    assert len(lines) == 3  # twice for the slice, once for the image
    assert "a worker died (SIGKILL): another takes its place" in lines[0]
    assert not list(Path("parts/detections.parquet").glob(".*"))


def test_workers_end_with_who_listens_to_them(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import singleshot.prediction.batch.processes as processes

    started = []
    start = processes._start
    monkeypatch.setattr(processes, "_start", lambda *given: started.append(start(*given)) or started[-1])
    slices = divide(file_runs([str(path) for path in photos], 1))
    with closing(ProcessEngine().run(Work(build=toy_predictor), slices, Crew(workers=1))) as reports:
        assert next(reports).images == 1
    assert [member.process.exitcode is not None for member in started] == [True]


def test_a_worker_takes_tasks_while_its_results_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks larger than a pipe must not block who gives them; without anybody there the process ends."""
    import singleshot.prediction.batch.processes as processes

    ours, theirs = multiprocessing.Pipe()
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    monkeypatch.setattr(processes.os, "_exit", ended.put)
    threading.Thread(target=processes._receive, args=(theirs, tasks), daemon=True).start()
    for _ in range(4):
        ours.send("x" * 2_000_000)
    assert [len(tasks.get(timeout=10)) > 2_000_000 for _ in range(4)] == [True] * 4
    ours.close()
    assert ended.get(timeout=10) == 0


class Forgetful(HereEngine):
    """Gives up on the second slice, and cannot do the third."""

    def run(self, work: Work, slices: Sequence[Slice], crew: Crew) -> Generator[SliceReport, None, None]:
        for number, report in enumerate(super().run(work, slices, crew)):
            if number != 1:
                yield SliceReport(report.start, problem="it broke") if number == 2 else report


def test_images_that_an_engine_gives_up_on_are_told_and_continued(photos: list[Path]) -> None:
    predictor = toy_predictor()
    how = Output(kinds=("json",), folder=Path("found"))
    for resume, engine in ((False, Forgetful()), (True, HereEngine())):
        there = EnginePredictor(engine, Work(build=toy_predictor), Crew(workers=4), NAMES, (3, 7), predictor.views)
        expected = nullcontext() if resume else pytest.raises(EngineError, match="4 images not looked at: it broke")
        with expected:
            summary = detect_and_save(there, photos, replace(how, resume=resume), note=lambda line: None)
    assert summary.done == 4
    assert len(json.loads(Path("found/detections.json").read_text())["images"]) == 8


def test_one_job_at_a_time_in_a_folder(photos: list[Path]) -> None:
    class Second(HereEngine):
        def run(self, work: Work, slices: Sequence[Slice], crew: Crew) -> Generator[SliceReport, None, None]:
            with pytest.raises(OutputError, match="another run is writing there"):
                in_parts(["photos"], resume=True)
            yield from super().run(work, slices, crew)

    assert in_parts(["photos"], engine=Second()).done == 9


def test_rows_that_cannot_be_read_are_failures(photos: list[Path]) -> None:
    rows = [path.read_bytes() for path in photos]
    tables.write_table(pyarrow.table({"image": rows}), "in.parquet", row_group_size=3, compression="none")
    data = bytearray(Path("in.parquet").read_bytes())
    place = tables.ParquetFile("in.parquet").metadata.row_group(1).column(0).data_page_offset
    data[place : place + 40] = bytes(40)
    Path("in.parquet").write_bytes(data)
    in_parts(["in.parquet"], part_size=3)
    records = list(read_records("parts/detections.parquet"))
    assert [number for number, record in enumerate(records) if "in.parquet: cannot be read" in record.error] == [
        3,
        4,
        5,
    ]


@pytest.fixture
def here() -> Callable[..., Any]:
    if "here" not in BATCH_ENGINES:
        BATCH_ENGINES.register("here")(HereEngine())  # as another package would
    return lambda *words: CliRunner().invoke(app, ["predict", *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "spark"), "no batch engine 'spark'"),
        (("--workers", "2"), "--workers is of an --engine: name one"),
        (("--engine", "processes", "--workers", "0"), "--workers must lie in 1..1024"),
        (("--engine", "processes", "--address", "auto"), "--address is of a cluster"),
        (("--engine", "processes", "--track"), "--track does not go with an --engine"),
        (("--engine", "processes", "--save", "parquet,json"), "save the rest in a run of its own"),
        (("--engine", "processes", "--save", "parquet", "--part-size", "0"), "--part-size must lie in"),
        (("--engine", "processes", "--save", "parquet", "--resume"), "name it by --out"),
        (("--engine", "processes", "--save", "xml"), "choose from"),
    ],
)
def test_mistakes_are_one_message(photos: list[Path], here: Callable[..., Any], words: Any, message: str) -> None:
    result = here("photos", *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("predictions").exists()


def test_the_verb_on_an_engine_of_another_package(
    photos: list[Path], here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("singleshot.detector.Detector.predictor", lambda *_, **__: toy_predictor())
    result = here("photos", "--engine", "here")
    assert result.exit_code == 1, result.output
    assert "8 images, 7 objects" in result.output
    assert "photos/5.png: failed" in result.output
    assert Path("predictions/detections.json").exists()
    result = here("photos", "--engine", "here", "--save", "parquet", "--part-size", "4", "--out", "found")
    assert result.exit_code == 1, result.output
    assert "1 could not be read" in result.stderr
    assert len(list(Path("found/detections.parquet").iterdir())) == 3
    again = here("photos", "--engine", "here", "--save", "parquet", "--part-size", "4", "--out", "found", "--resume")
    assert again.exit_code == 0, again.output
    assert "9 images done before, 0 to do" in again.stderr


@pytest.mark.parametrize("save", ["json", "parquet"])
def test_without_a_cluster_nothing_is_overwritten(
    photos: list[Path], here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, save: str
) -> None:
    def refuse(engine: HereEngine, crew: Crew) -> None:
        raise ConfigError("there is no cluster")

    monkeypatch.setattr("singleshot.detector.Detector.predictor", lambda *_, **__: toy_predictor())
    words = ("photos", "--engine", "here", "--save", save, "--out", "found", "--overwrite")
    assert here(*words).exit_code == 1  # for the picture that cannot be read
    before = {path: path.read_bytes() for path in Path("found").rglob("*") if path.is_file()}
    assert len(before) > 1
    monkeypatch.setattr(HereEngine, "ready", refuse)
    result = here(*words)
    assert (result.exit_code, result.stderr.count("there is no cluster")) == (2, 1), result.output
    assert {path: path.read_bytes() for path in Path("found").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("remote", [False, True])
def test_a_job_that_could_not_begin_may_be_started_again(tmp_path: Path, remote: bool) -> None:
    out = (tmp_path / "out").as_uri() if remote else str(tmp_path / "out")

    def begin() -> None:
        with PartsFolder.at(out).held(["part-a.parquet"], {"score": 0.5}, [], overwrite=False, resume=False):
            raise ConfigError("there is no cluster")

    for _ in range(2):  # not "results of an earlier run"
        with pytest.raises(ConfigError, match="no cluster"):
            begin()
