"""The same executions steered by coverage: atheris (the extra ``torture``) keeps inputs that reach new lines.

The engine damages them (atheris' custom mutator), so inputs keep their structure; what atheris adds is the choice of
what to damage further.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from random import Random

from torture.target import Files, Target

MAX_BYTES = 2**22


def instrument() -> bool:
    """Counts the lines of singleshot that are imported from now on; false where atheris is missing."""
    if find_spec("atheris") is None:
        return False
    import atheris

    atheris.instrument_imports(include=["singleshot"]).__enter__()
    return True


def pack(files: Files) -> bytes:
    """Files as one input."""
    return json.dumps({name: content.decode("latin-1") for name, content in files.items()}).encode()


def unpack(data: bytes) -> Files:
    """The way back; nothing for what atheris makes itself."""
    try:
        return {name: content.encode("latin-1") for name, content in json.loads(data).items()}
    except (ValueError, AttributeError):
        return {}


def fuzz(
    target: Target, execute: Callable[[Files], None], seed: object, seconds: float, runs: int, folder: Path
) -> None:
    """Runs until the time is up, and then ends the process.

    Args:
        target: the reader.
        execute: is given each input.
        seed: of what is random.
        seconds, runs: when to end.
        folder: for the seeds, and what libFuzzer writes of an input that kills the process.
    """
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, files in enumerate(target.inputs):
        (corpus / str(number)).write_bytes(pack(files))

    def one(data: bytes) -> None:
        if files := unpack(data):
            execute(files)

    def worsen(data: bytes, most: int, number: int) -> bytes:
        random = Random(f"{seed}/{number}")
        worse = pack(target.worsened(unpack(data) or random.choice(target.inputs), random))
        return worse if len(worse) <= most else data

    limits = [f"-max_total_time={max(int(seconds), 1)}", f"-runs={runs}", f"-max_len={MAX_BYTES}", "-timeout=300"]
    number = Random(str(seed)).randrange(1, 2**31)
    arguments = [sys.argv[0], *limits, f"-seed={number}", "-cross_over=0", "-rss_limit_mb=0"]
    atheris.Setup([*arguments, f"-artifact_prefix={folder}/", str(corpus)], one, custom_mutator=worsen)
    atheris.Fuzz()
