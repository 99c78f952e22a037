"""Run every verb on a machine that fails it, and see that it says so in one line, ends with the right code, and does
the rest of the job: ``PYTHONPATH=tests python -m torture.faults --only "full disk"``.

Root only, for some: a small file system is mounted, and privileges are dropped to see folders that cannot be written.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torture.failing import (
    clock_jumps,
    closed_pipe,
    full_output,
    killed_children,
    limited,
    little_memory,
    no_home,
    nobody,
    nothing,
    sent,
    tampered,
)
from torture.kills import cli, in_child, make_inputs

LINES = 60
"""More than this on the terminal is no clear line."""
MEMORY_MIB = (24, 120, 400)
OPENED = (1, 9, 30)
"""Files that were opened before somebody changes them."""


@dataclass(frozen=True)
class Case:
    """A verb and a fault.

    Attributes:
        name: of both.
        arguments: of the command line; ``{out}`` is where it writes.
        fault: makes the process fail; called in it.
        codes: as which it may end.
        says: what it must say, a regular expression; empty where nothing need be said.
        place: makes the folder that it writes in, and removes it.
        check: sees that the rest was done, or nothing was lost.
    """

    name: str
    arguments: tuple[str, ...]
    fault: Callable[[], object]
    codes: tuple[int, ...]
    says: str = ""
    place: Callable[[Path], object] = lambda folder: None
    check: Callable[[Path], object] = lambda folder: None


def verbs(inputs: Path) -> dict[str, tuple[str, ...]]:
    """Every verb that reads or writes files."""
    scenes, photos = str(inputs / "scenes"), str(inputs / "photos")
    tiny = ("--steps", "2", "--batch", "2", "--size", "96", "--workers", "0")
    return {
        "predict": ("predict", photos, "--out", "{out}/found", "--backend", "torch"),
        "train": ("train", scenes, "--out", "{out}/run", *tiny),
        "eval": (
            "eval",
            str(inputs / "own.safetensors"),
            scenes,
            "--out",
            "{out}/eval",
            "--backend",
            "torch",
            "--split",
            "test",
        ),
        "check": ("data", "check", scenes, "--json", "{out}/check.json"),
        "split": ("data", "split", scenes, "--out", "{out}/split"),
        "convert": ("data", "convert", scenes, "{out}/yolo", "--to", "yolo"),
        "convert rec": ("data", "convert", scenes, "{out}/rec", "--to", "rec"),
        "scenes": ("data", "scenes", "{out}/scenes", "--count", "4"),
        "doctor": ("doctor", scenes, "--out", "{out}/doctor"),
        "anchors": ("anchors", scenes, "--out", "{out}/anchors"),
        "explain": ("explain", f"{photos}/scene_00001.jpg", "--out", "{out}/explain"),
        "export": ("export", "coco", "--out", "{out}/it.onnx", "--no-verify"),
        "export openvino": ("export", "coco", "--format", "openvino", "--out", "{out}/it.xml", "--no-verify"),
        "import": ("import", str(inputs / "foreign.pth"), "--out", "{out}/it.safetensors"),
        "quantize": ("quantize", "coco", f"{scenes}/JPEGImages", "--images", "10", "--out", "{out}/it.int8"),
    }


def writable_by_all(folder: Path) -> None:
    folder.chmod(0o777)


def cases(inputs: Path) -> Iterator[Case]:
    """All of them."""
    every = verbs(inputs)
    yield from without_workers(inputs, every)
    yield from changed_meanwhile(inputs, every)
    for name, arguments in every.items():
        if name != "split":  # its files are smaller than the limit, which must leave room for what is said
            limit = limited(resource.RLIMIT_FSIZE, 700)
            yield Case(f"full disk: {name}", arguments, limit, (1, 2), "{out}|large|space|written")
        yield Case(f"read-only folder: {name}", arguments, nobody, (1, 2), "{out}.*(denied|cannot be)")
        yield Case(f"no home: {name}", arguments, no_home, (0, 1), "", writable_by_all)
        yield Case(f"few descriptors: {name}", arguments, limited(resource.RLIMIT_NOFILE, 40), (0, 1, 2))
        yield Case(f"closed pipe: {name}", arguments, closed_pipe, (0, 1, 141), "", check=is_written)
        yield Case(f"output on a full disk: {name}", arguments, full_output, (0, 1, 2))
        yield Case(f"a clock that jumps: {name}", arguments, clock_jumps, (0, 1), "", check=is_written)
        for number in (signal.SIGTERM, signal.SIGHUP):
            codes = (128 + number, 130, 0, 1)  # 0 and 1: it had done all before
            yield Case(f"{number.name}: {name}", arguments, sent(number, 0.5), codes)
        for more in MEMORY_MIB:
            limit = little_memory(more * 2**20)
            # 127: so glibc ends a process that has no memory for a thread's variables; -6: so Rust does (safetensors)
            codes = (0, 1, 2, 127, -6)
            yield Case(f"{more} MiB of memory: {name}", arguments, limit, codes, check=said_if_nothing)
    photos = with_odd_files(inputs / "odd", inputs / "photos")
    odd = ("predict", str(photos), "--out", "{out}/found", "--backend", "torch", "--save", "json")
    yield Case("odd files: predict", odd, nothing, (0, 1), "6 images", check=is_written)
    scenes = inputs / "odd-scenes"
    shutil.copytree(inputs / "scenes", scenes)
    with_odd_files(scenes / "JPEGImages", None)
    with_odd_files(scenes / "Annotations", None, suffix=".xml")
    for name in ("check", "convert", "train", "eval", "doctor"):
        words = tuple(word.replace(str(inputs / "scenes"), str(scenes)) for word in every[name])
        yield Case(f"odd files: {name}", words, nothing, (0, 1), check=is_written)


def changed_meanwhile(inputs: Path, every: dict[str, tuple[str, ...]]) -> Iterator[Case]:
    """Files vanish or change between the moment they are found and the moment they are read."""
    for name, words in every.items():
        source = next((word for word in words if word in (str(inputs / "scenes"), str(inputs / "photos"))), None)
        for opened in OPENED if source else ():
            copy = inputs / f"changed-{name.replace(' ', '-')}-{opened}"
            shutil.copytree(source, copy)
            own = tuple(word.replace(source, str(copy)) for word in words)
            yield Case(f"changed meanwhile, {opened}: {name}", own, tampered(copy, opened), (0, 1, 2))


def without_workers(inputs: Path, every: dict[str, tuple[str, ...]]) -> Iterator[Case]:
    """A process that helps is killed."""
    train = (*every["train"][:-2], "--workers", "1", "--set", "save_minutes=0.001", "--steps", "200")
    yield Case("killed worker: train", train, killed_children(1.0), (2,), "prepares images died.*--workers")
    predict = ("predict", str(inputs / "photos"), "--out", "{out}/found", "--engine", "processes", "--workers", "1")
    yield Case("killed worker: predict", predict, killed_children(3.0), (1,), "a worker died", check=is_written)


def said_if_nothing(folder: Path) -> None:
    """Something was said, whatever came of it."""
    assert (folder.parent / "logs" / folder.name).read_text().strip(), "not a word"


def is_written(folder: Path) -> None:
    """Something is there.

    Raises:
        AssertionError: nothing is.
    """
    assert [path for path in folder.rglob("*") if path.is_file() and path.name != "log"], "nothing was written"


def with_odd_files(folder: Path, photos: Path | None, suffix: str = ".jpg") -> Path:
    """A folder with what is no photo under a photo's name; opening some of it would take for ever."""
    if photos is not None:
        shutil.copytree(photos, folder)
    os.mkfifo(folder / f"fifo{suffix}")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / f"socket{suffix}"))
    (folder / f"device{suffix}").symlink_to("/dev/zero")
    (folder / f"terminal{suffix}").symlink_to("/dev/tty")
    (folder / f"dangling{suffix}").symlink_to("nowhere")
    (folder / f"loop{suffix}").symlink_to(f"loop{suffix}")
    (folder / f"folder{suffix}").mkdir()
    with (folder / f"sparse{suffix}").open("wb") as file:
        file.write(b"\xff\xd8\xff\xe0")
        file.truncate(100 * 2**30)
    (folder / f"empty{suffix}").touch()
    return folder


def run(case: Case, folder: Path) -> str:
    """What is wrong; empty if nothing is."""
    folder.mkdir(mode=0o755)
    case.place(folder)
    log = folder.parent / "logs" / folder.name
    log.parent.mkdir(exist_ok=True)
    words = [word.format(out=folder) for word in case.arguments]

    def call() -> None:
        from singleshot.cli import main

        case.fault()
        sys.stdout = os.fdopen(1, "w", closefd=False)  # whatever it is by now
        sys.argv = ["singleshot", *words]
        os.chdir("/")
        main()

    began = time.monotonic()
    status, _ = in_child(call, log)
    took_s = time.monotonic() - began
    said = log.read_text(errors="replace")
    if status not in case.codes:
        return f"ends with {status}, not {case.codes}: {said[-700:]}"
    if "Traceback" in said or "Exception ignored" in said:
        return f"a traceback: {said[-1200:]}"
    if len(said.splitlines()) > LINES:
        return f"{len(said.splitlines())} lines: {said[:700]}"
    if case.says and not re.search(case.says.replace("{out}", re.escape(str(folder))), said):
        return f"does not say {case.says}: {said[-700:]}"
    if took_s > 300:
        return f"took {took_s:.0f} s"
    left = [path.name for path in folder.rglob(".singleshot-*") if path.name != ".singleshot-results"]
    if left:
        return f"leaves {left}"
    try:
        case.check(folder)
    except AssertionError as error:
        return f"{error}: {said[-500:]}"
    return ""


def full_disk(inputs: Path) -> Iterable[str]:
    """The same on a file system of 60 kilobytes, where what is begun does not fit."""
    with mounted(inputs / "small", "60k") as folder:
        if folder is None:
            return
        photos = str(inputs / "photos")
        for name, words in {
            "predict": ("predict", photos, "--out", f"{folder}/found", "--save", "images,json", "--backend", "torch"),
            "convert": ("data", "convert", str(inputs / "scenes"), f"{folder}/yolo", "--to", "yolo"),
            "export": ("export", "coco", "--out", f"{folder}/it.onnx", "--no-verify"),
        }.items():
            status, _ = in_child(lambda words=words: cli(*words), inputs / f"small-{name}")
            said = (inputs / f"small-{name}").read_text()
            wrong = "" if status in (1, 2) and "No space left" in said and "Traceback" not in said else said[-800:]
            yield f"{'  ' if not wrong else '! '}small file system: {name} ({status}){': ' + wrong if wrong else ''}"
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path | None]:
    """A small file system, if this may be had."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def main() -> None:
    """Try all, print what is wrong, end with 1 if anything is."""
    parser = argparse.ArgumentParser(description="Run every verb on a machine that fails it.")
    parser.add_argument("--only", default="", help="cases whose names contain this")
    options = parser.parse_args()
    wrong = tried = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        place = Path(name)
        place.chmod(0o755)
        importlib.import_module("torch").set_num_threads(1)  # OpenMP's threads are not in a forked process, which waits
        inputs = make_inputs(place)
        importlib.import_module("cv2").setNumThreads(1)
        for module in ("torch", "singleshot.training.train", "singleshot.models.build", "singleshot.prediction.job"):
            importlib.import_module(module)  # before the first fork
        for number, case in enumerate(case for case in cases(inputs) if options.only in case.name):
            fault = run(case, place / f"case-{number}")
            tried += 1
            wrong += bool(fault)
            if fault:
                print(f"! {case.name}: {fault}\n", flush=True)
        for line in full_disk(place) if options.only in "small file system" else ():
            tried += 1
            wrong += line.startswith("!")
            print(line, flush=True)
    print(f"{tried} cases, {wrong} wrong")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
