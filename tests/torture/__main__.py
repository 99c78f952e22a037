"""`make torture`, or `PYTHONPATH=tests python -m torture [--minutes 10] [--seed 0] [--only NAME] [--guided]`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from torture.guided import instrument


def main() -> int:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all readers together")
    parser.add_argument("--executions", type=int, default=10**9, help="of each reader at most")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", default="", help="readers whose names hold this")
    parser.add_argument(
        "--input", type=int, help="write the input of this number to --out, and say what the reader does"
    )
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "torture-findings")
    parser.add_argument("--guided", action="store_true", help="steer by coverage (atheris: the extra 'torture')")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    if chosen.guided and not instrument():
        print("atheris is missing (pip install atheris): the engine chooses by chance alone", file=sys.stderr)
        chosen.guided = False
    import cv2
    import torch

    from torture.campaign import Campaign, Row, table
    from torture.targets import TARGETS

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    targets = [target for name, target in TARGETS.items() if chosen.only.lower() in name.lower()]
    if not targets:
        print(f"no reader is named '{chosen.only}'; there are: {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    if chosen.input is not None:
        return show(targets[0], chosen)
    rows: list[Row] = []
    start = time.monotonic()
    for number, target in enumerate(targets):
        left = chosen.minutes * 60 - (time.monotonic() - start)
        campaign = Campaign(
            chosen.seed, max(left / (len(targets) - number), 1.0), chosen.executions, chosen.out, chosen.guided
        )
        row = campaign.run(target)
        rows.append(row)
        print(f"{row.name}: {row.executions:,} executions, {len(row.findings)} findings", file=sys.stderr, flush=True)
        for where, (key, text) in row.findings.items():
            print(f"  input {key}: {where}: {text}", file=sys.stderr, flush=True)
    print(table(rows))
    found = sum(len(row.findings) for row in rows)
    if found:
        print(f"{found} findings; their inputs are in {chosen.out}", file=sys.stderr)
    return int(found > 0)


def show(target: object, chosen: argparse.Namespace) -> int:
    from torture.target import Bench

    files = target.damaged(chosen.seed, chosen.input)
    for name, content in files.items():
        path = chosen.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    bench = Bench()
    outcome = bench.run(target, files)
    bench.close()
    print(f"{target.name}: {outcome.kind} {outcome.where}\n{outcome.text}")
    return int(outcome.is_finding)


if __name__ == "__main__":
    sys.exit(main())
