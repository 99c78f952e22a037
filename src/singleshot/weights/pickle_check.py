"""What a pickle would make, seen before it is unpickled: CPython's unpickler believes every number in it.

The codes are walked as the unpickler would, without values. Refused are codes that PyTorch never writes, places in the
memo that are not yet due (its table grows to the largest: 222 bytes could ask for gigabytes), and tuples in tuples
without end: they are compared and hashed by recursion in C, which has no guard.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Iterable
from typing import NamedTuple

MAX_CODES = 3_000_000
MAX_TUPLE_DEPTH = 100
# Of all tuples together, written out: shared ones may stand for many.
MAX_TUPLE_ITEMS = 2**25

# Of protocol 5: CPython reserves the length that they claim, and where there is no room for it, frees memory that it
# has not filled in. Of protocol 0: text with escapes, whose damage is a warning of Python's.
REFUSED = ("BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER", "STRING")
PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
GETS = ("GET", "BINGET", "LONG_BINGET")
TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")

Code = tuple[pickletools.OpcodeInfo, object, "int | None"]


class _Made(NamedTuple):
    """Something on the stack: how deep its tuples nest, and how many items they hold with all in them."""

    depth: int = 0
    items: int = 1


_PLAIN = _Made()
_MARK = _Made(-1, 0)


def check_opcodes(codes: Iterable[Code]) -> None:
    """Walk the codes of one pickle, as ``pickletools.genops`` gives them.

    Raises:
        pickle.UnpicklingError: it asks for what no state dict needs.
    """
    stack: list[_Made] = []
    memo: dict[object, _Made] = {}
    budget = MAX_TUPLE_ITEMS
    for count, (code, argument, _) in enumerate(codes):
        name = code.name
        if name in REFUSED:
            raise pickle.UnpicklingError(f"{name} in it, which PyTorch never writes")
        if count > MAX_CODES:
            raise pickle.UnpicklingError(f"more than {MAX_CODES:,} objects, which no state dict has")
        if name in PUTS:
            place = len(memo) if argument is None else argument
            if not isinstance(place, int) or place > count:
                raise pickle.UnpicklingError("a place in its memo that is not due")
            memo[place] = stack[-1]
            continue
        if name in GETS:
            stack.append(memo.get(argument, _PLAIN))
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            parts = _take(stack, code)
            if not code.stack_after:
                continue
            stack.append(_tuple_of(parts) if name in TUPLES else _PLAIN)
        budget -= stack[-1].items
        if budget < 0 or stack[-1].depth > MAX_TUPLE_DEPTH:
            raise pickle.UnpicklingError("tuples in tuples without end")


def _take(stack: list[_Made], code: pickletools.OpcodeInfo) -> list[_Made]:
    """Take from the stack what a code takes."""
    to_mark, count = _TAKES[code.name]
    taken: list[_Made] = []
    if to_mark:
        while (top := stack.pop()) is not _MARK:
            taken.append(top)
    taken.extend(stack.pop() for _ in range(count))
    return taken


def _takes(code: pickletools.OpcodeInfo) -> tuple[bool, int]:
    """Whether a code takes all down to a mark, and how many objects besides."""
    before = [kind.name for kind in code.stack_before]
    return (True, before.index("mark")) if "mark" in before else (False, len(before))


def _tuple_of(parts: list[_Made]) -> _Made:
    return _Made(1 + max((part.depth for part in parts), default=0), 1 + sum(part.items for part in parts))


_TAKES = {code.name: _takes(code) for code in pickletools.opcodes}
