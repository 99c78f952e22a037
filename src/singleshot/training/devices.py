"""``singleshot.train(devices=...)``: a process for each device, and what came of them."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from singleshot.core.files import write_atomically
from singleshot.core.transforms import Transform
from singleshot.errors import ConfigError, SingleshotError
from singleshot.training.launch import TOLD, launch, parse_devices
from singleshot.training.logs import Observer
from singleshot.training.request import Request
from singleshot.training.result import TrainResult
from singleshot.training.running import run_request
from singleshot.training.world import StoppedError

PATHS = ("folder", "best", "last", "report")


def check_handed_over(transform: Transform | None, callbacks: Sequence[Observer], console: Console | None) -> None:
    """Refuse what cannot be handed to other processes.

    Raises:
        ConfigError: names it.
    """
    given = {"transform": transform, "callbacks": callbacks or None, "console": console}
    names = [f"`{name}`" for name, value in given.items() if value is not None]
    if names:
        raise ConfigError(
            f"`devices` starts processes, to which {' and '.join(names)} cannot be handed: leave `devices` out and "
            "start this script by torchrun"
        )


def train_on_devices(request: Request) -> TrainResult:
    """Train with a process for each device.

    Raises:
        ConfigError: the devices are not there.
        SingleshotError: as `singleshot.train`; or a process was lost.
    """
    assert request.devices is not None
    devices = parse_devices(request.devices, request.device)
    if len(devices) == 1 and not request.max_restarts:
        return run_request(replace(request, device=str(devices[0]), devices=None), None, (), None)
    with tempfile.TemporaryDirectory(prefix="singleshot-devices-") as folder:
        asked, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps(asdict(request)), encoding="utf-8")
        command = ["-m", "singleshot.training.devices", str(asked), str(answer)]
        ended = launch(command, len(devices), request.max_restarts)
        told: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
    if "error" in told:
        raise _kind(told["error"])(told["text"])
    if "result" not in told:
        raise SingleshotError(ended.reason or f"the processes ended with code {ended.code}: what they printed says why")
    values = told["result"]
    return TrainResult(**values | {name: values[name] and Path(values[name]) for name in PATHS})


def _kind(name: str) -> type[SingleshotError]:
    """The error of a name, if a text is all that it is made of."""
    kinds: list[type[SingleshotError]] = [SingleshotError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return next((kind for kind in kinds if kind.__name__ == name and "__init__" not in vars(kind)), SingleshotError)


def main(asked: str, answer: str) -> int:
    """One of these processes.

    Args:
        asked: file with the request.
        answer: file for the result, or the error; one process writes it.
    """
    try:
        result = run_request(Request(**json.loads(Path(asked).read_text(encoding="utf-8"))), None, (), None)
    except StoppedError:
        return 1
    except SingleshotError as error:
        write_atomically(Path(answer), json.dumps({"error": type(error).__name__, "text": str(error)}))
        return TOLD
    if result.is_first:
        values = asdict(result)
        write_atomically(Path(answer), json.dumps({"result": values}, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
