"""Named objects: ours on demand, others' by registration or entry point."""

import sys
from pathlib import Path

import pytest

from singleshot.core.registry import Registry
from singleshot.errors import ConfigError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with an installed package that brings ``theirs``."""
    (tmp_path / "their_things.py").write_text("thing = object()\n")
    metadata = tmp_path / "their_things-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-things\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[singleshot.odd_things]\ntheirs = their_things:thing\n")
    (tmp_path / "our_things.py").write_text("import test_registry\ntest_registry.THINGS.register('ours')(print)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "test_registry", sys.modules[__name__])
    for module in ("our_things", "their_things"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


THINGS: Registry[object] = Registry("odd thing", {"ours": "our_things"})


def test_of_nothing_there_is_nothing() -> None:
    empty: Registry[object] = Registry("missing thing", {})
    assert empty.names() == ()
    with pytest.raises(ConfigError, match="no missing thing 'a'; there are"):
        empty.get("a")


def test_ours_is_imported_when_asked_for(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    things: Registry[object] = Registry("odd thing", {"ours": "our_things"})
    monkeypatch.setattr(sys.modules[__name__], "THINGS", things)
    assert "ours" in things
    assert "our_things" not in sys.modules
    with pytest.raises(ValueError, match="registered twice"):
        things.register("ours")(len)


def test_theirs_come_by_entry_point(package: Path) -> None:
    assert THINGS.names() == ("ours", "theirs")
    thing = THINGS.get("theirs")
    assert thing is sys.modules["their_things"].thing


def test_or_by_registration() -> None:
    things: Registry[object] = Registry("odd thing", {})
    assert things.register("mine")(len) is len
    assert things.names() == ("mine",)
    assert things.get("mine") is len
    with pytest.raises(ValueError, match="odd thing 'mine' is registered twice"):
        things.register("mine")(print)


def test_a_wrong_name_has_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"network\.thing: no odd thing 'our'; did you mean ours\?"):
        THINGS.get("our", "network.thing")


def test_too_many_names_are_listed_elsewhere() -> None:
    things: Registry[object] = Registry("odd thing", {"ours": "our_things"}, "thing_names()")
    with pytest.raises(ConfigError, match=r"no odd thing 'x'; thing_names\(\) lists them"):
        things.get("x")
