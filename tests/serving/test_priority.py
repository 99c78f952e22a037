"""Threads of a runtime have a lower priority, and so have those that they start."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from singleshot.serving.priority import run_aside


def test_what_is_returned_and_raised() -> None:
    assert run_aside(lambda value: value + 1, 1) == 2
    with pytest.raises(ZeroDivisionError):
        run_aside(lambda value: 1 / value, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere priorities are left alone")
def test_threads_inherit_a_lower_priority() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def with_child(found: list[int]) -> list[int]:
        child = threading.Thread(target=lambda: found.append(niceness()))
        child.start()
        child.join()
        return [*found, niceness()]

    own = niceness()
    assert run_aside(with_child, []) == [min(19, own + 10)] * 2
    assert niceness() == own
