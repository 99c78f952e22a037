"""Named objects of one kind: ours, and those that other installed packages add. Importing this imports none of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from singleshot.core.wording import similar
from singleshot.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects by name. A module is imported when one of its names is asked for, not before.

    Another package adds a name in one of two ways: with an entry point of the group ``singleshot.<kinds>``, whose value
    is the object (``my_neck = "my_package.necks:my_neck"``), or by calling ``register`` when it is imported.

    Args:
        kind: what they are, in the singular, as messages say it: ``neck``, ``data format``.
        homes: names of ours, each with the module that registers it when imported.
        listing: what lists the names, where they are too many for a message: ``model_names()``.

    Attributes:
        kind: as given.
        group: entry points of this group belong here.
    """

    def __init__(self, kind: str, homes: Mapping[str, str], listing: str = "") -> None:
        self.kind = kind
        plural = kind + ("es" if kind.endswith("s") else "s")
        self.group = f"singleshot.{plural.replace(' ', '_')}"
        self._homes = dict(homes)
        self._listing = listing
        self._objects: dict[str, T] = {}
        self._loaded: dict[str, T] = {}
        self._added: list[str] = []
        self._entries: dict[str, EntryPoint] | None = None

    def register(self, name: str) -> Callable[[T], T]:
        """Register the decorated object under a name; may be stacked.

        Raises:
            ValueError: the name is taken.
        """

        def add(item: T) -> T:
            # Ours registers a name of ours while it is imported.
            is_another = name in self._homes and self._homes[name] not in sys.modules
            if is_another or self._objects.get(name, item) is not item:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            if name not in self._homes and name not in self._added:
                self._added.append(name)
            self._objects[name] = item
            return item

        return add

    def replace(self, name: str, item: T) -> None:
        """Register an object under a name, in place of what another call put there."""
        self._objects.pop(name, None)
        self.register(name)(item)

    def names(self) -> tuple[str, ...]:
        """All names: ours in their order, then those that were added, then those of installed packages."""
        return tuple(dict.fromkeys([*self._homes, *self._added, *self._installed()]))

    def _installed(self) -> dict[str, EntryPoint]:
        if self._entries is None:
            self._entries = {entry.name: entry for entry in entry_points(group=self.group)}
        return self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._homes or name in self._objects or name in self._installed()

    def get(self, name: str, key: str = "") -> T:
        """The object of a name.

        Args:
            name: any of ``names()``.
            key: the setting that said so, for the message (``network.neck.kind``).

        Raises:
            ConfigError: there is none; the message names similar ones, or all.
        """
        if name in self._objects:
            return self._objects[name]
        self.check(name, key)
        if name in self._homes:
            import_module(self._homes[name])
            return self._objects[name]
        if name not in self._loaded:
            self._loaded[name] = self._installed()[name].load()
        return self._loaded[name]

    def check(self, name: str, key: str = "") -> str:
        """The name, if there is such an object. Imports nothing.

        Raises:
            ConfigError: as `get`.
        """
        if name in self:
            return name
        hint = similar(name, self.names(), f"{self._listing} lists them" if self._listing else "")
        raise ConfigError(f"{key}: no {self.kind} '{name}'; {hint}" if key else f"no {self.kind} '{name}'; {hint}")
