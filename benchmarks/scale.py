"""What a job costs on many machines, computed from measured figures: the tables of ``docs/scale.md``.

    python benchmarks/scale.py          # print the tables
    python benchmarks/scale.py --write  # put them into docs/scale.md

Nothing is measured here. Each figure below is from ``docs/benchmarks.md`` or ``docs/family.md``, with its hardware
there; the rest is arithmetic.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
DAY_S, HOUR_S = 86_400, 3_600
COCO, HUNDRED_MILLION, BILLION = 118_287, 10**8, 10**9
PHOTO_BYTES = 160_000
"""A photo of COCO: 19.3 GB of train2017.zip for 118,287 of them."""
CPU_CORE_IMG_S = 142.3 / 2
"""`predict` of the bundled SSDLite, bf16, decoding included, on two cores."""
DECODE_CORE_IMG_S = 1_416
"""OpenCV's decoding of 500x375 JPEG files on one thread."""
AUGMENT_CORE_IMG_S = 701.1
"""JPEG to an augmented 300x300 training image, one thread."""
H200_TRAIN_IMG_S = 2_144
"""SSD300-VGG16, batch 128, bf16, compiled, images in memory."""
H200_DETECT_IMG_S = 2_864
"""SSD300-VGG16, batch 64, compiled, from images in memory to detections."""
GPU_BATCH = 128
NICS_GBIT = (10, 25, 100, 400)
NIC_SHARE = 0.8
"""Of a NIC's rate that a large all-reduce reaches: an assumption."""
PARAMETERS = {
    "ssd300_vgg16": 26_285_486,
    "ssd512_vgg16": 27_188_676,
    "ssdlite300_mobilenet_v2": 3_355_833,
    "ssdlite320_mobilenet_v3_large": 2_469_860,
    "refinedet320_vgg16": 34_440_884,
    "refinedet320_resnet101": 75_815_348,
}
"""With 20 classes, as `docs/family.md` measures them."""


class Job(NamedTuple):
    """A pass over some images on some machines: seconds that each resource alone would need."""

    network_s: float
    decode_s: float
    bytes_s: float

    @property
    def limit(self) -> str:
        """What saturates first."""
        return max((self.network_s, "network"), (self.decode_s, "decoding"), (self.bytes_s, "bytes"))[1]

    @property
    def seconds(self) -> float:
        """As long as the slowest: they overlap."""
        return max(self)


def traffic_bytes(parameters: int, ranks: int) -> float:
    """What each rank sends (and receives) in a step: float32 gradients, 2 (n - 1) / n of them, as a ring does."""
    return parameters * 4 * 2 * (ranks - 1) / ranks


def job(images: int, machines: int, network_img_s: float, decode_img_s: float, nic_gbit: float) -> Job:
    """A pass over images that are spread evenly over machines, each with so much of every resource."""
    share = images / machines
    return Job(share / network_img_s, share / decode_img_s, share * PHOTO_BYTES * 8 / (nic_gbit * 1e9))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def duration(seconds: float) -> str:
    """In words."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 2 * HOUR_S:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / HOUR_S:.1f} h" if seconds < 3 * DAY_S else f"{seconds / DAY_S:,.1f} days"


def prediction_table() -> str:
    """10^9 photos: machines of 16 cores, and machines of 8 GPUs with 128 cores."""
    rows = []
    for name, network, decode, nic in (
        ("16 cores, 10 Gbit/s", 16 * CPU_CORE_IMG_S, 16 * DECODE_CORE_IMG_S, 10),
        ("1 GPU, 16 cores, 25 Gbit/s", H200_DETECT_IMG_S, 16 * DECODE_CORE_IMG_S, 25),
        ("8 GPUs, 128 cores, 100 Gbit/s", 8 * H200_DETECT_IMG_S, 128 * DECODE_CORE_IMG_S, 100),
        ("8 GPUs, 32 cores, 10 Gbit/s", 8 * H200_DETECT_IMG_S, 32 * DECODE_CORE_IMG_S, 10),
    ):
        for machines in (1, 10, 100):
            one = job(BILLION, machines, network, decode, nic)
            shares = (one.network_s, one.decode_s, one.bytes_s)
            rows.append((name, str(machines), *map(duration, shares), f"**{duration(one.seconds)}**", one.limit))
    return table(("each machine", "machines", "network", "decoding", "bytes", "all", "first to saturate"), rows)


def epoch_table() -> str:
    """An epoch of SSD300-VGG16 on n GPUs."""
    rows = []
    for name, images in (("COCO, 118,287", COCO), ("10^8", HUNDRED_MILLION)):
        for gpus in (1, 8, 64, 512):
            steps = images / (gpus * GPU_BATCH)
            step_s = GPU_BATCH / H200_TRAIN_IMG_S
            cores = gpus * H200_TRAIN_IMG_S / AUGMENT_CORE_IMG_S
            read = gpus * H200_TRAIN_IMG_S * PHOTO_BYTES / 1e9
            rows.append(
                (name, str(gpus), duration(steps * step_s), f"{steps:,.0f}", f"{cores:,.0f}", f"{read:,.2f} GB/s")
            )
    return table(("images", "GPUs", "an epoch", "steps", "cores that augment", "read from disks"), rows)


def traffic_table(ranks: int = 8) -> str:
    """Traffic of a step and its time, by preset and NIC, against a step of SSD300."""
    rows = []
    for name, parameters in PARAMETERS.items():
        sent = traffic_bytes(parameters, ranks)
        times = [f"{1e3 * sent * 8 / (nic * 1e9 * NIC_SHARE):.1f} ms" for nic in NICS_GBIT]
        rows.append((f"`{name}`", f"{parameters / 1e6:.2f} M", f"{sent / 1e6:.0f} MB", *times))
    return table(("preset", "parameters", "each rank sends", *(f"{nic} Gbit/s" for nic in NICS_GBIT)), rows)


TABLES = {"prediction": prediction_table, "epoch": epoch_table, "traffic": traffic_table}


def filled(text: str) -> str:
    """A page with its tables, between ``<!-- NAME -->`` and ``<!-- end -->``, computed anew."""
    for name, make in TABLES.items():
        text = re.sub(rf"(<!-- {name} -->\n\n).*?(\n\n<!-- end -->)", lambda m: m[1] + make() + m[2], text, flags=re.S)  # noqa: B023
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text()))
    else:
        print("\n\n".join(make() for make in TABLES.values()))


if __name__ == "__main__":
    sys.exit(main())
