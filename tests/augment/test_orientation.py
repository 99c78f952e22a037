"""Which classes a mirrored picture turns into others, by their names."""

from __future__ import annotations

import pytest

from singleshot.augment.config import parse_augment
from singleshot.augment.orientation import why_not_mirrored


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["turn left", "turn right", "stop"], "classes 'turn left', 'turn right' name a side"),
        (["no_left_turn", "stop"], "class 'no_left_turn' names a side"),
        (["TurnLeft", "TurnRight", "left2"], "classes 'TurnLeft', 'TurnRight', 'left2' name a side"),
        (["Pfeil-links", "Pfeil-rechts"], "classes 'Pfeil-links', 'Pfeil-rechts' name a side"),
        (list("0123456789"), "classes '0', '1', '2' and 7 more are letters or digits"),
        (["cos", "x", "y", "z", "é", "Three"], "classes 'x', 'y', 'z' and 2 more are letters or digits"),
        (["leftover", "bright", "copyright", "screw"], ""),
        (["cat", "a", "b", "-", "+", "=", "*"], ""),
        (["arrow up", "arrow down"], ""),
        ([], ""),
    ],
)
def test_names_say_what_must_not_be_mirrored(names: list[str], why: str) -> None:
    assert why_not_mirrored(names) == why


def test_upside_down_other_names_count() -> None:
    assert why_not_mirrored(["arrow_up", "arrow_down"], upside_down=True).endswith("name a side")
    assert not why_not_mirrored(["turn left", "cup", "setup", "laptop"], upside_down=True)
    assert why_not_mirrored(list("abcde"), upside_down=True)


def test_auto_mirrors_unless_names_speak_against_it() -> None:
    light = parse_augment("light")
    assert (light.mirror, light.settled().mirror, light.settled(["cat", "dog"]).mirror) == ("auto", 0.5, 0.5)
    assert light.settled(["left", "right"]).mirror == 0.0
    asked = parse_augment({"preset": "light", "mirror": 0.25})
    assert asked.settled(["left", "right"]).mirror == 0.25
