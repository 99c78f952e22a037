"""Requests begin one by one, so that a crowd of them keeps no deadline waiting."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets one request begin in each round of the event loop.

    A loop looks at its timers between rounds. Whoever asks again the moment it is refused makes a round of as many
    refusals as there are clients, a millisecond or two each, and a deadline that passes meanwhile is answered after
    them all.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_going_round = False

    async def take(self) -> None:
        """Wait for a turn; nobody waits where nobody else has begun in this round."""
        loop = asyncio.get_running_loop()
        if not self._is_going_round:
            self._is_going_round = True
            loop.call_soon(self._next)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its client went away
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._is_going_round = False
