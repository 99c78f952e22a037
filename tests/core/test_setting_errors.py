"""Wrong settings are told by dotted key, in our own words."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from singleshot.core.setting_errors import MAX_WRONG, explain_settings, wrong_settings
from singleshot.core.settings import Frozen, UnitFloat
from singleshot.errors import ConfigError


class Inner(Frozen):
    share: UnitFloat = 0.5
    kind: str = "a"

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind != "a":
            raise ConfigError(f"outer.inner.kind: no kind '{kind}'")
        return kind


class Outer(Frozen):
    name: str = ""
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    size: tuple[int, int] = (1, 1)
    count: int | Literal["auto"] = 1
    rates: dict[str, float] = Field(default_factory=dict)


def lines(data: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(data)
    return wrong_settings(caught.value, Outer)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, ["must be a mapping of settings"]),
        ({"nam": "x"}, ["nam: no such setting; did you mean 'name'?"]),
        ({"inner": {"shar": 1}}, ["inner.shar: no such setting; did you mean 'share'?"]),
        ({"several": [{}, {"shar": 1}]}, ["several.1.shar: no such setting; did you mean 'share'?"]),
        ({"inner": {"share": 2}}, ["inner.share: must be 1 or less (given: 2)"]),
        ({"inner": {"kind": "b"}}, ["inner.kind: no kind 'b' (given: 'b')"]),
        ({"size": [1]}, ["size.1: is missing"]),
        ({"size": 3}, ["size: must be a list (given: 3)"]),
        ({"count": "many"}, ["count: must be a whole number or 'auto' (given: 'many')"]),
        ({"rates": {"x": "y"}}, ["rates.x: must be a number (given: 'y')"]),
        ({"name": 3, "zzz": 1}, ["zzz: no such setting; known: name, inner, several, size, count, rates",
                                 "name: must be text (given: 3)"]),
    ],
)  # fmt: skip
def test_lines(data: Any, expected: list[str]) -> None:
    assert lines(data) == expected


def test_the_message_names_the_origin_and_ends() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({f"zzz{n}": 0 for n in range(30)} | {"size": [1]})
    text = explain_settings(caught.value, "x.yaml", Outer, lambda key: f"model.{key}")
    first, *rest = text.splitlines()
    assert first == "x.yaml: 31 wrong settings"
    assert len(rest) == MAX_WRONG + 1
    assert rest[0].startswith("  model.zzz0: no such setting; known: ")
    assert rest[1] == "  model.zzz1: no such setting"
    assert rest[-1] == f"  and {31 - MAX_WRONG} more"
