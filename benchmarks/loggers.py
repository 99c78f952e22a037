"""What a logger costs: the time that a record keeps a run waiting, and the processor time of all its threads.

    python benchmarks/loggers.py

A run makes a record every 20 steps (or 2 seconds). Loggers whose package is not installed are left out. Printed: the
medians over the records, and the step time from which on a record is at most 1 % of its 20 steps.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from singleshot.training.config import TrainConfig
from singleshot.training.loggers.guarded import open_loggers
from singleshot.training.logs import CsvLog, LoggedRun, Observer, StepRecord
from singleshot.training.registry import LOGGERS

RECORDS = 200
STEPS_A_RECORD = 20
SHARE = 0.01
# Records of a real run are further apart; threads get the time to do their work.
PAUSE_S = 0.05


def cost(log: Observer) -> tuple[float, float]:
    """Milliseconds of waiting and of processor time per record."""
    waits, worked = [], time.process_time()
    for number in range(RECORDS):
        losses = {"localization": 1.0, "classification": 2.0, "total": 3.0, "positives": 40.0}
        record = StepRecord(number, RECORDS, number / 10, 20.0, 1e-3, losses, 100.0, 0.01, 60.0)
        started = time.perf_counter()
        log.on_step(record)
        waits.append((time.perf_counter() - started) * 1000)
        time.sleep(PAUSE_S)
    return statistics.median(waits), (time.process_time() - worked) * 1000 / RECORDS


def main() -> None:
    names = [name for name in LOGGERS if not LOGGERS.get(name).package or find_spec(LOGGERS.get(name).package)]
    settings = TrainConfig().model_dump(mode="json")
    print(f"{'':<12} {'waits, ms':>10} {'works, ms':>10} {'1 % of steps of, ms':>20}")
    for name in ["csv", *names]:
        with tempfile.TemporaryDirectory() as folder:
            run = LoggedRun(Path(folder), settings=settings)
            log = CsvLog(Path(folder) / "metrics.csv") if name == "csv" else open_loggers([name], run)[0]
            wait, work = cost(log)
            log.close()
        print(f"{name:<12} {wait:>10.3f} {work:>10.3f} {max(wait, work) / STEPS_A_RECORD / SHARE:>20.2f}")


if __name__ == "__main__":
    main()
