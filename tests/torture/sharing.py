"""One detector for many: threads, forks, other processes, an event loop; runs that meet in a folder or a cache:
``PYTHONPATH=tests python -m torture.sharing --calls 2000``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import singleshot
from singleshot.images.read import write_image
from singleshot.images.samples import sample_pictures

THREADS = 8
Pictures = list[NDArray[np.uint8]]
Answer = list[dict[str, object]]


def pictures() -> Pictures:
    """Two that are found something in, and an empty one."""
    found = sample_pictures(2)[0]
    return [*found, np.zeros((60, 90, 3), np.uint8)]


def answer(model: singleshot.Detector, images: Pictures, backend: str) -> Answer:
    """What a detector finds."""
    return [model.predict(image, backend=backend).to_dict() for image in images]


def by_threads(backend: str, calls: int) -> str:
    """Threads that share a detector find what one alone finds."""
    model, images = singleshot.load("coco"), pictures()
    expected = answer(model, images, backend)

    def call(number: int) -> bool:
        place = number % len(images)
        return model.predict(images[place], backend=backend).to_dict() == expected[place]

    with ThreadPoolExecutor(THREADS) as pool:
        wrong = calls - sum(pool.map(call, range(calls)))
    return f"{wrong} of {calls} calls differ" if wrong else ""


def _put_answer(queue: multiprocessing.Queue[Answer], backend: str) -> None:
    queue.put(answer(_kept.get("model") or singleshot.load("coco"), pictures(), backend))


_kept: dict[str, singleshot.Detector] = {}


def by_processes(backend: str, calls: int) -> str:
    """A process that was forked, or started, after the detector was used finds the same."""
    model = _kept["model"] = singleshot.load("coco")
    expected = answer(model, pictures(), backend)
    for way in ("fork", "spawn"):
        context = multiprocessing.get_context(way)
        queue: multiprocessing.Queue[Answer] = context.Queue()
        child = context.Process(target=_put_answer, args=(queue, backend))
        child.start()
        found = queue.get(timeout=240)
        child.join(60)
        if child.exitcode != 0:
            return f"a child by {way} ends with {child.exitcode}"
        if found != expected:
            return f"a child by {way} finds something else"
    return ""


def by_event_loop(backend: str, calls: int) -> str:
    """Calls of coroutines, in the loop's own threads."""
    model, images = singleshot.load("coco"), pictures()
    expected = answer(model, images, backend)

    async def all_calls() -> list[dict[str, object]]:
        work = [asyncio.to_thread(model.predict, images[n % len(images)], backend=backend) for n in range(calls // 10)]
        return [found.to_dict() for found in await asyncio.gather(*work)]

    found = asyncio.run(all_calls())
    wrong = sum(one != expected[number % len(images)] for number, one in enumerate(found))
    return f"{wrong} of {len(found)} calls differ" if wrong else ""


def resident_kib() -> int:
    """Memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def flat_memory(backend: str, calls: int) -> str:
    """Memory after the second half of many calls is what it was after the first."""
    model, images = singleshot.load("coco"), pictures()
    sizes = []
    for _ in range(2):
        for number in range(calls * 5 // 4):
            model.predict(images[number % len(images)], backend=backend)
        gc.collect()
        sizes.append(resident_kib())
    grown = sizes[1] - sizes[0]
    return f"{grown:,} KiB more after {calls * 5 // 4:,} further calls" if grown > 8192 else ""


def together(code: str, folder: Path, count: int = 3) -> list[tuple[int, str]]:
    """Run the same program several times at once; exit codes and what they said."""
    command = [sys.executable, "-c", code, str(folder)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(count)
    ]
    said = [process.communicate(timeout=600)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


MAKE_BOTH = """
import os, sys
os.environ["SINGLESHOT_CACHE"] = sys.argv[1]
import numpy as np, singleshot
from singleshot.kernels import detect
assert detect.is_compiled()
found = singleshot.load("coco").predict(np.zeros((60, 90, 3), np.uint8), backend="openvino")
print(len(found))
"""


def one_cache(backend: str, calls: int) -> str:
    """Processes that compile the same kernel and convert the same network at once: all work, and the cache is whole."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ended = together(MAKE_BOTH, folder)
        left = [path.name for path in folder.rglob("*.tmp")]
        kept = [path for path in folder.rglob("*") if path.is_file()]
        return str(ended) if any(code for code, _ in ended) else f"left {left}" if left or len(kept) < 2 else ""


def one_folder(backend: str, calls: int) -> str:
    """Two runs into one folder: one of them does it, the other says why not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo = folder / "a.png"
        write_image(photo, np.zeros((60, 90, 3), np.uint8))
        code = f"from singleshot.cli import app; app(['predict', {str(photo)!r}, '--out', {str(folder / 'out')!r}])"
        ended = together(code, folder, 2)
    codes = sorted(code for code, _ in ended)
    said = "".join(text for code, text in ended if code)
    return "" if codes == [0, 2] and "out" in said and "Traceback" not in said else str(ended)


CASES: dict[str, Callable[[str, int], str]] = {
    f"{THREADS} threads": by_threads,
    "fork and spawn after use": by_processes,
    "asyncio": by_event_loop,
    "flat memory": flat_memory,
}
MEETINGS: dict[str, Callable[[str, int], str]] = {
    "three processes, one empty cache": one_cache,
    "two runs, one folder": one_folder,
}


def main() -> None:
    """Try all, end with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description="One detector for many.")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--backend", action="append", help="default: torch, openvino, onnx")
    parser.add_argument("--only", default="", help="cases whose names contain this")
    options = parser.parse_args()
    work = [
        (f"{name}, {backend}", case, backend)
        for backend in options.backend or ["torch", "openvino", "onnx"]
        for name, case in CASES.items()
    ]
    work += [(name, case, "auto") for name, case in MEETINGS.items()]
    wrong = 0
    for name, case, backend in work:
        if options.only in name:
            fault = case(backend, options.calls)
            wrong += bool(fault)
            print(f"{'! ' if fault else '  '}{name}{': ' + fault if fault else ''}", flush=True)
    sys.stdout.flush()
    os._exit(wrong > 0)  # the pools of three backends are of no more use


if __name__ == "__main__":
    main()
