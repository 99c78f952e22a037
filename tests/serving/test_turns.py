"""Requests begin one in each round of the event loop."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from singleshot.serving.turns import Turns


def begun(requests: int, cancelled: tuple[int, ...] = ()) -> list[int | str]:
    """Which requests began, in order, and the rounds of the loop between."""

    async def main() -> list[int | str]:
        turns, seen = Turns(), list[int | str]()

        async def request(number: int) -> None:
            await turns.take()
            seen.append(number)

        tasks = [asyncio.ensure_future(request(number)) for number in range(requests)]
        await asyncio.sleep(0)
        for number in cancelled:
            tasks[number].cancel()
        while not all(task.done() for task in tasks):
            seen.append("round")
            await asyncio.sleep(0)
        return seen

    return asyncio.run(main())


def test_one_a_round() -> None:
    seen = begun(20)
    assert [one for one in seen if one != "round"] == list(range(20))
    assert all("round" in pair for pair in pairwise(seen))


def test_whoever_went_away_takes_no_turn() -> None:
    assert [one for one in begun(5, cancelled=(1, 3)) if one != "round"] == [0, 2, 4]


def test_nobody_waits_alone() -> None:
    async def main() -> list[int]:
        turns, rounds, waited = Turns(), [0], list[int]()
        loop = asyncio.get_running_loop()

        def count() -> None:
            rounds[0] += 1
            loop.call_soon(count)

        loop.call_soon(count)
        for _ in range(3):
            before = rounds[0]
            await turns.take()
            waited.append(rounds[0] - before)
            await asyncio.sleep(0.01)
        return waited

    assert asyncio.run(main()) == [0, 0, 0]
