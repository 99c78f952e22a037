"""Many records in tar shards: opening them, the first batch, records a CPU second against loose files, memory, kills.

    python benchmarks/million.py make FOLDER            # a COCO file and its images
    singleshot data convert FOLDER SHARDS --to shards
    python benchmarks/stream.py index SHARDS            # by their indices, and without them
    python benchmarks/stream.py read SHARDS FOLDER      # against the files of FOLDER
    python benchmarks/stream.py kills SHARDS            # 3 epochs, 20 times kill -9

One process, one thread, CPU time. `kills` starts a process that streams, and kills it; the state of the stream is saved
with what was read, as a training run saves both. In the end every record must have come three times.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

BATCH, SIZE = 32, 64
EPOCHS, KILLS = 3, 20
SAVE_EVERY = 100
PARTS = 10


def rss_mib() -> float:
    """Resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def index(shards: Path) -> None:
    """Seconds until a stream is there, with the indices beside the tars and without."""
    from singleshot import data

    begun = time.process_time()
    count = len(data.stream(shards))
    print(f"{count:,} records, indexed: {time.process_time() - begun:.2f} s")
    with tempfile.TemporaryDirectory(dir=shards.parent) as folder:
        os.environ["SINGLESHOT_CACHE"] = folder
        bare = Path(folder) / "bare"
        bare.mkdir()
        for tar in (shards / "shards").glob("*.tar"):
            os.link(tar, bare / tar.name)
        for kind in ("the tars alone, read through", "again, from the cache"):
            begun = time.process_time()
            count = len(data.stream(bare))
            print(f"{count:,} records, {kind}: {time.process_time() - begun:.2f} s, {rss_mib():,.0f} MiB")


def read(shards: Path, folder: Path) -> None:
    """Records a second: bytes alone and decoded, of loose files and of shards; memory on the way."""
    from singleshot import data
    from singleshot.images.read import read_image

    files = sorted((folder / "images").rglob("*.jpg"))
    order = np.random.default_rng(0).permutation(len(files))[: len(files) // PARTS].tolist()
    for kind, use in (("bytes", Path.read_bytes), ("decoded", read_image)):
        begun = time.process_time()
        for row in order:
            use(files[row])
        print(f"files, {kind}: {len(order) / (time.process_time() - begun):,.0f}/s")
    del files, order
    begun = time.process_time()
    importlib.import_module("singleshot.data.streaming")
    imported, before = time.process_time(), rss_mib()
    stream = data.stream(shards, size=SIZE)
    items = iter(stream)
    list(islice(items, BATCH))
    print(
        f"imports, torch's too: {imported - begun:.2f} s; first batch {time.process_time() - imported:.2f} s later; "
        f"{before:,.0f} MiB before, {rss_mib():,.0f} MiB then"
    )
    for kind, records in (("bytes", _bytes(stream)), ("decoded, as network inputs", items)):
        begun, done = time.process_time(), 0
        for part in range(PARTS):
            done += sum(1 for _ in islice(records, len(stream) // PARTS))
            if kind != "bytes" or part == PARTS - 1:
                print(
                    f"shards, {kind}: {done:,} at {done / (time.process_time() - begun):,.0f}/s, {rss_mib():,.0f} MiB"
                )


def _bytes(stream: object) -> Iterator[bytes]:
    """The files of the records in the order of an epoch, not decoded."""
    order, shards = stream._order, stream._shards  # type: ignore[attr-defined]
    for window in order.windows(0, 0, 1):
        read = [shards[chunk.shard].read(chunk.first, chunk.last) for chunk in window.chunks]
        for place, row in window.order.tolist():
            yield read[place][row - window.chunks[place].first]


def consume(shards: Path, folder: Path) -> None:
    """Stream from the saved state to the end of the last epoch, and save what was read together with the state."""
    from singleshot import data

    stream = data.stream(shards, size=8)
    saved, log = folder / "state.json", folder / "seen.bin"
    told = json.loads(saved.read_text()) if saved.is_file() else {"seen": 0, "stream": stream.state_dict()}
    stream.load_state_dict(told["stream"])
    with log.open("r+b" if log.is_file() else "w+b") as file:
        file.truncate(8 * told["seen"])  # what was read after the save is read again
        file.seek(0, os.SEEK_END)

        def save(seen: list[int]) -> None:
            file.write(np.array(seen, np.int64).tobytes())
            file.flush()
            temporary = saved.with_suffix(".tmp")
            temporary.write_text(json.dumps({"seen": file.tell() // 8, "stream": stream.state_dict()}))
            temporary.replace(saved)
            seen.clear()

        seen: list[int] = []
        while stream.state_dict()["epoch"] < EPOCHS:
            for _, target in stream:
                seen.append(target.image_index)
                if len(seen) == SAVE_EVERY:
                    save(seen)
            save(seen)


def kills(shards: Path) -> None:
    """Kill `consume` at random moments, start it again, and count."""
    from singleshot import data

    total = EPOCHS * len(data.stream(shards))
    points = sorted(np.random.default_rng(0).integers(0, total, KILLS).tolist())
    with tempfile.TemporaryDirectory(dir=shards.parent) as folder:
        log = Path(folder) / "seen.bin"
        for point in [*points, None]:
            process = multiprocessing.get_context("fork").Process(target=consume, args=(shards, Path(folder)))
            process.start()
            while point is not None and (log.stat().st_size if log.is_file() else 0) < 8 * point:
                time.sleep(0.001)
            if point is not None:
                process.kill()
            process.join()
            if point is None and process.exitcode:
                raise SystemExit("the last process failed")
        counts = np.bincount(np.fromfile(log, np.int64), minlength=total // EPOCHS)
    print(f"{KILLS} kills; records that came {EPOCHS} times: {(counts == EPOCHS).sum():,} of {len(counts):,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["index", "read", "kills"])
    parser.add_argument("shards", type=Path)
    parser.add_argument("folder", type=Path, nargs="?")
    options = parser.parse_args()
    if options.what == "index":
        index(options.shards)
    elif options.what == "kills":
        kills(options.shards)
    elif options.folder is None:
        parser.error("which folder?")
    else:
        read(options.shards, options.folder)


if __name__ == "__main__":
    sys.exit(main())
