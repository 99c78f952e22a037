"""The arithmetic of docs/scale.md, and that the page has its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

import scale

DOCS = Path(__file__).parents[2] / "docs"


def test_nothing_to_do_and_one_rank_cost_nothing() -> None:
    assert scale.job(0, 5, 10, 10, 1).seconds == 0
    assert scale.traffic_bytes(26_285_486, 1) == 0


def test_the_slowest_resource_is_the_whole() -> None:
    one = scale.job(1000, 2, network_img_s=10, decode_img_s=100, nic_gbit=10)
    assert (one.network_s, one.decode_s, one.seconds, one.limit) == (50, 5, 50, "network")
    assert one.bytes_s == pytest.approx(500 * 160_000 * 8 / 1e10)
    assert scale.traffic_bytes(1000, 4) == pytest.approx(6000)


def test_the_page_has_the_tables() -> None:
    page = (DOCS / "scale.md").read_text()
    assert scale.filled(page) == page
    assert all(make() in page for make in scale.TABLES.values())


def test_figures_are_those_of_the_benchmarks() -> None:
    measured = (DOCS / "benchmarks.md").read_text()
    for figure in ("142.3", "1,416", "701.1", "2,144", "2,864"):
        assert figure in measured
    family = (DOCS / "family.md").read_text()
    for name, count in scale.PARAMETERS.items():
        assert any(f"`{name}`" in line and f"{count:,}" in line for line in family.splitlines()), name
