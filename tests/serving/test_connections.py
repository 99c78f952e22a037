"""Connections whose client says nothing: who still reads an answer is no such one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from singleshot.serving.connections import TimedConnection


@pytest.mark.parametrize(
    ("left", "checks"),
    [([0, 0], 1), ([9, 0], 1), ([9, 9], 1), ([9, 5, 5, 2, 2, 0], 3), (range(100, 0, -1), 7)],
)
def test_it_ends_once_nothing_more_is_read(left: Any, checks: int) -> None:
    sizes, later, ended = iter(left), [], []
    connection: Any = TimedConnection.__new__(TimedConnection)
    connection.transport = SimpleNamespace(
        get_write_buffer_size=sizes.__next__, is_closing=lambda: False, abort=lambda: ended.append(True)
    )
    timer = SimpleNamespace(cancel=lambda: None)
    connection.loop = SimpleNamespace(call_later=lambda seconds, call, *how: later.append((call, how)) or timer)
    connection._count()
    done = 0
    while not ended:
        call, how = later.pop()
        call(*how)
        done += 1
    assert done == checks
