"""Kill every verb that writes at random moments, and see that nothing good is lost and the next run ends as if nothing
had been: ``PYTHONPATH=tests python -m torture.kills --kills 200 --seed 0``.

Half of the kills fall at a random time, half just before a random change of the disk (an opening for writing, a rename,
a removal), which reaches the narrow places that time alone hardly finds. The processes are forked from one that has
imported everything, so that a kill costs little more than the work itself.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink", "os.chmod")
LEFT_OVER = ".singleshot-"
WAIT_S = 600


@dataclass(frozen=True)
class Job:
    """Something that writes.

    Attributes:
        name: of the verb.
        run: does it in a folder; called in a process of its own.
        again: does it once more after a kill: continues, or repeats.
        results: what it leaves in the folder, by name: equal for what was killed and repeated, and for what was not.
        prepare: what the folder holds before, good and to be replaced.
        check: called in a folder right after the kill; raises if what was good is neither there nor replaced.
    """

    name: str
    run: Callable[[Path], object]
    again: Callable[[Path], object]
    results: Callable[[Path], dict[str, str]]
    prepare: Callable[[Path], object] = lambda folder: None
    check: Callable[[Path], object] = lambda folder: None


@dataclass
class Tally:
    """What came of a job's kills."""

    kills: int = 0
    too_late: int = 0
    faults: list[str] = field(default_factory=list)
    wall_s: float = 0.0


def digests(folder: Path, *, leaving_out: Sequence[str] = ()) -> dict[str, str]:
    """Digest of every file below a folder, by its path in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in leaving_out
    }


def in_child(call: Callable[[], object], log: Path, *, kill_at: int = 0, kill_after_s: float = 0.0) -> tuple[int, int]:
    """Run something in a forked process, and kill that with signal 9.

    Args:
        call: what.
        log: where its output goes.
        kill_at: before which change of the disk; 0: none.
        kill_after_s: at which time; 0: never.

    Returns:
        its exit status (negative: the signal), and how many changes of the disk it made.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            os.setsid()
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(output, 1), os.dup2(output, 2)
            count = watch_changes(log.parent, kill_at)
            call()
            os.write(writer, str(count[0]).encode())
            status = 0
        except SystemExit as end:
            os.write(writer, str(count[0]).encode())
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writer)
    deadline = time.monotonic() + (kill_after_s or WAIT_S)
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
            break
        time.sleep(0.001)
    with os.fdopen(reader) as counted:
        changes = int(counted.read() or 0)
    return os.waitstatus_to_exitcode(ended[1]), changes


def watch_changes(folder: Path, kill_at: int) -> list[int]:
    """Count changes of the disk below a folder in this process; it ends before the one that is asked for."""
    count, root = [0], str(folder)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            is_change = isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            is_change = event in EVENTS
        if not is_change or not os.fsdecode(str(arguments[0])).startswith((root, "/proc/self/fd")):
            return
        count[0] += 1
        if count[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return count


def torture(job: Job, kills: int, seed: int, place: Path) -> Tally:
    """Kill a job many times."""
    tally, began = Tally(), time.monotonic()
    whole = place / "whole"
    whole.mkdir()
    job.prepare(whole)
    at = time.monotonic()
    status, changes = in_child(lambda: job.run(whole), whole / "log")
    duration_s = time.monotonic() - at
    if status:
        tally.faults.append(f"without a kill it ends with {status}: {(whole / 'log').read_text()[-600:]}")
        return tally
    expected = job.results(whole)
    for number in range(kills):
        rng = random.Random(f"{job.name} {seed} {number}")
        folder = place / f"killed-{number}"
        folder.mkdir()
        job.prepare(folder)
        by_change = rng.random() < 0.5
        where = (
            {"kill_at": rng.randint(1, max(changes, 1))} if by_change else {"kill_after_s": rng.random() * duration_s}
        )
        status, _ = in_child(lambda folder=folder: job.run(folder), folder / "log", **where)
        if status != -signal.SIGKILL:
            tally.too_late += 1
        tally.kills += status == -signal.SIGKILL
        fault = "" if status in (0, -signal.SIGKILL) else f"ends with {status}: {(folder / 'log').read_text()[-600:]}"
        fault = fault or after_kill(job, folder, expected)
        if fault:
            tally.faults.append(f"kill {number} ({where}): {fault}")
        else:
            shutil.rmtree(folder)
    tally.wall_s = time.monotonic() - began
    return tally


def after_kill(job: Job, folder: Path, expected: dict[str, str]) -> str:
    """What is wrong after a kill and another run; empty if nothing is."""
    try:
        job.check(folder)
    except Exception as error:
        return f"right after it: {type(error).__name__}: {error}"
    status, _ = in_child(lambda: job.again(folder), folder / "log")
    if status:
        return f"the next run ends with {status}: {(folder / 'log').read_text()[-600:]}"
    found = job.results(folder)
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        return f"the next run leaves other files: {wrong[:8]}"
    left = [str(path.relative_to(folder)) for path in folder.rglob("*") if LEFT_OVER in path.name]
    left = [name for name in left if not name.endswith(".singleshot-results")]
    return f"left over: {left}" if left else ""


def cli(*arguments: object) -> None:
    """Run the command line in this process.

    Raises:
        SystemExit: as it ends.
    """
    from singleshot.cli import app

    app([str(argument) for argument in arguments])


def make_inputs(place: Path) -> Path:
    """Photos, a data set, a checkpoint of another system: what the jobs read."""
    from singleshot.demo.scenes import make_scenes

    make_scenes(place / "scenes", 12, seed=1)
    photos = place / "photos"
    photos.mkdir()
    for path in sorted((place / "scenes" / "JPEGImages").iterdir())[:6]:
        shutil.copy(path, photos / path.name)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff none")
    write_weights(place)
    return place


def write_weights(place: Path) -> None:
    """Random numbers, for the scenes' classes, in a file of ours; and for two classes under torchvision's names."""
    import torch

    import singleshot
    from singleshot.interop.pytorch.torchvision import BOXES, LOGITS, translate
    from singleshot.models.build import build_network
    from singleshot.models.catalogue import model_spec
    from singleshot.weights.file import save_weights

    own = build_network(model_spec("ssdlite320_mobilenet_v3_large", ["red", "green"]).network).state_dict()
    rename = translate({f"{BOXES}0.1.weight": (24, 1), f"{LOGITS}0.1.weight": (18, 1)}, "x").rename
    torch.save({rename(name): value for name, value in own.items()}, place / "foreign.pth")
    spec = model_spec("ssdlite320_mobilenet_v3_large", singleshot.data.open(place / "scenes").class_map.names)
    save_weights(place / "own.safetensors", spec, build_network(spec.network).state_dict())


def jobs(inputs: Path) -> list[Job]:
    """All of them."""
    scenes, photos = inputs / "scenes", inputs / "photos"
    return [
        train_job(scenes),
        predict_job(photos, "predict files", "json,jsonl,csv,text,coco,voc-results"),
        predict_job(photos, "predict folders", "images,yolo,voc,crops,json"),
        *(convert_job(scenes, kind) for kind in ("voc", "coco", "yolo", "rec")),
        export_job("onnx", ".onnx"),
        export_job("openvino", ".xml"),
        import_job(inputs),
        quantize_job(scenes / "JPEGImages"),
        compile_job(),
        conversion_job(photos),
        decisions_job(scenes),
    ]


def train_job(scenes: Path) -> Job:
    options = ["--steps", 5, "--batch", 2, "--size", 64, "--amp", "fp32", "--workers", 0]
    for setting in ("evaluation.every=0", "save_minutes=0.0001", "log_every=1", "checkpoints.every=2"):
        options += ["--set", setting]

    def run(folder: Path) -> None:
        importlib.import_module("singleshot.training.session")._report = lambda *_: None  # takes longer than all else
        cli("train", scenes, "--out", folder / "run", *options)

    def again(folder: Path) -> None:
        from singleshot.training.run_folder import holds_run

        resumes = holds_run(folder / "run")
        cli("train", "--resume", "--out", folder / "run") if resumes else run(folder)

    def check(folder: Path) -> None:
        from singleshot.weights.file import read_spec, read_state

        for path in (folder / "run").glob("*.safetensors"):
            read_spec(path), read_state(path)

    def results(folder: Path) -> dict[str, str]:
        import torch

        found = digests(folder / "run", leaving_out=("metrics.csv", "train.log", "state.pt", "report.html", ".lock"))
        found = {name: digest for name, digest in found.items() if not name.endswith(".pt")}
        state = torch.load(folder / "run" / "state.pt", map_location="cpu", weights_only=True)
        for part in ("network", "ema"):
            for name, tensor in (state[part] or {}).items():
                found[f"{part} {name}"] = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        moments = state["optimizer"]["state"]
        for place, kept in moments.items():
            for name, value in kept.items():
                found[f"moment {place} {name}"] = hashlib.sha256(np.asarray(value).tobytes()).hexdigest()
        return found

    return Job("train", run, again, results, check=check)


def predict_job(photos: Path, name: str, kinds: str) -> Job:
    def predict(folder: Path, *more: str) -> None:
        try:
            cli("predict", photos, "--out", folder / "found", "--save", kinds, "--backend", "torch", *more)
        except SystemExit as end:
            if end.code != 1:  # one photo is broken
                raise

    def again(folder: Path) -> None:

        predict(folder, "--resume") if is_begun(folder / "found") else predict(folder, "--overwrite")

    def is_begun(found: Path) -> bool:
        """Whether the record has its first line: a run that was killed before has nothing to continue."""
        record = found / ".singleshot-results"
        return record.is_file() and b"\n" in record.read_bytes()

    def results(folder: Path) -> dict[str, str]:
        return digests(folder / "found", leaving_out=(".singleshot-results",))

    return Job(name, predict, again, results)


def convert_job(scenes: Path, kind: str) -> Job:
    """Over an older data set of other images."""

    def convert(folder: Path) -> None:
        cli("data", "convert", scenes, folder / "data", "--to", kind, "--overwrite")

    def prepare(folder: Path) -> None:
        import singleshot
        from singleshot.data.convert import convert

        older = folder.parent / "older" / kind
        if not older.exists():
            convert(scenes, older, kind, classes=[singleshot.data.open(scenes).class_map.names[0]])
        shutil.copytree(older, folder / "data")

    def check(folder: Path) -> None:
        from singleshot.core.filled_folder import is_half_replaced

        old, new = digests(folder.parent / "older" / kind), digests(folder.parent / "whole" / "data")
        data = folder / "data"
        if is_half_replaced(data):  # and says so
            import singleshot
            from singleshot.errors import DataError

            try:
                singleshot.data.open(data)
            except DataError:
                return
            raise AssertionError("a half data set can be opened")
        found = {name: digest for name, digest in digests(data).items() if not name.startswith(LEFT_OVER)}
        assert found in (old, new), "neither the old data set nor the new one"

    return Job(f"convert {kind}", convert, convert, lambda folder: digests(folder / "data"), prepare, check)


def one_file_job(name: str, file: str, make: Callable[[Path], object], good: bytes, beside: Sequence[str] = ()) -> Job:
    """A verb that replaces a file."""

    def prepare(folder: Path) -> None:
        (folder / file).write_bytes(good)

    def check(folder: Path) -> None:
        found, whole = (folder / file).read_bytes(), folder.parent / "whole" / file
        assert found == good or found == whole.read_bytes(), "neither the old file nor the new one"

    def results(folder: Path) -> dict[str, str]:
        return {name: digest for name, digest in digests(folder).items() if name in (file, *beside)}

    return Job(name, make, make, results, prepare, check)


def export_job(form: str, suffix: str) -> Job:
    def export(folder: Path) -> None:
        cli("export", "coco", "--format", form, "--out", folder / f"it{suffix}", "--overwrite", "--no-verify")

    beside = ["it.bin"] if suffix == ".xml" else []
    return one_file_job(f"export {form}", f"it{suffix}", export, b"an older export", beside)


def import_job(inputs: Path) -> Job:
    def run(folder: Path) -> None:
        cli("import", inputs / "foreign.pth", "--out", folder / "it.safetensors", "--overwrite")

    return one_file_job("import", "it.safetensors", run, b"older weights")


def quantize_job(photos: Path) -> Job:
    def run(folder: Path) -> None:
        cli("quantize", "coco", photos, "--images", 10, "--out", folder / "it.int8", "--overwrite")

    return one_file_job("quantize", "it.int8", run, b"an older file")


def own_cache(folder: Path) -> None:
    os.environ["SINGLESHOT_CACHE"] = str(folder / "cache")


def compile_job() -> Job:
    """The first use of a kernel."""

    def run(folder: Path) -> None:
        own_cache(folder)
        library = importlib.import_module("singleshot.kernels.library")
        library._load.cache_clear()
        logging.disable()
        if library.load("resample", functions=()) is None:
            raise SystemExit("no kernel")

    def check(folder: Path) -> None:
        for path in (folder / "cache").rglob("*.so"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
            assert path.stem.endswith(digest), "a kernel that is not what its name says"

    def results(folder: Path) -> dict[str, str]:
        return {"kernels": str(len(list((folder / "cache").rglob("*.so"))))}

    return Job("compile a kernel", run, run, results, check=check)


def conversion_job(photos: Path) -> Job:
    """The first use of a network with OpenVINO."""

    def run(folder: Path) -> None:
        own_cache(folder)
        import singleshot

        model = singleshot.load("coco")
        found = model.predict(sorted(photos.glob("*_*.jpg"))[0], backend="openvino")
        (folder / "boxes").write_text(str(found.boxes_xyxy.round(2).tolist()))

    def results(folder: Path) -> dict[str, str]:
        kept = (folder / "cache" / "compiled").glob("*")
        return digests(folder, leaving_out=("log",)) | {"kept": str(len(list(kept)))}

    return Job("convert a network", run, run, lambda f: {n: d for n, d in results(f).items() if "/" not in n})


def decisions_job(scenes: Path) -> Job:
    """A person who decides about one label after the other."""

    def run(folder: Path) -> None:
        from singleshot.browsing.collection import open_collection
        from singleshot.browsing.decision_book import DecisionBook

        book = DecisionBook(folder / "decisions.json", open_collection(scenes))
        for image in range(len(book), 12):
            book.decide(image, None, "keep")

    def check(folder: Path) -> None:
        from singleshot.data.decisions import read_decisions

        if (folder / "decisions.json").exists():
            read_decisions(folder / "decisions.json")

    return Job("browse decisions", run, run, lambda folder: digests(folder, leaving_out=("log",)), check=check)


def main() -> None:
    """Kill, print a table, end with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description="Kill every verb that writes at random moments.")
    parser.add_argument("--kills", type=int, default=200, help="of all jobs together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="jobs whose names contain this")
    options = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        place = Path(folder)
        importlib.import_module("torch").set_num_threads(1)  # OpenMP's threads are not in a forked process, which waits
        os.environ.setdefault("SINGLESHOT_CACHE", str(place / "cache"))
        inputs = make_inputs(place)
        chosen = [job for job in jobs(inputs) if not options.only or options.only in job.name]
        importlib.import_module("cv2").setNumThreads(1)
        for module in ("torch", "cv2", "singleshot.cli.train", "singleshot.training.train", "singleshot.models.build"):
            importlib.import_module(module)  # before the first fork
        print(f"{'job':<20}{'kills':>7}{'too late':>10}{'faults':>8}{'seconds':>9}")
        for number, job in enumerate(chosen):
            share = options.kills * (number + 1) // len(chosen) - options.kills * number // len(chosen)
            work = place / job.name.replace(" ", "-")
            work.mkdir()
            tally = torture(job, share, options.seed, work)
            print(f"{job.name:<20}{tally.kills:>7}{tally.too_late:>10}{len(tally.faults):>8}{tally.wall_s:>9.1f}")
            for fault in tally.faults:
                print(f"    {fault}")
            sys.stdout.flush()
            faults += len(tally.faults)
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
