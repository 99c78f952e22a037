"""Files of settings: YAML mappings of bounded size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from singleshot.core.files import read_text
from singleshot.errors import ConfigError

MAX_SETTINGS_BYTES = 4 * 2**20
_HALF = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\U0000[dD][89a-fA-F]")
"""What may be one half of a character, written by its number."""


class PlainLoader(yaml.SafeLoader):
    """Reads plain values; of a key that is given twice, which YAML forbids, the first would be lost without a word."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._merged: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Follow merge keys (``<<``), after a look at the keys as they are written."""
        if id(node) not in self._merged:
            self._merged.add(id(node))
            seen: set[tuple[str, str]] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                    continue
                if (key.tag, key.value) in seen:
                    words = f"the key '{key.value}' is given twice in one mapping"
                    raise yaml.constructor.ConstructorError(None, None, words, key.start_mark)
                seen.add((key.tag, key.value))
        super().flatten_mapping(node)


def read_mapping(path: str | Path, what: str, example: str) -> dict[str, Any]:
    """What a YAML file says, by name; an empty file says nothing.

    Args:
        path: the file.
        what: it holds, for messages: ``settings``.
        example: an entry, for messages: ``batch_size: 32``.

    Raises:
        ConfigError: the file is missing, is not YAML, or is no mapping of names to values.
    """
    try:
        data = parse_yaml(read_text(path, MAX_SETTINGS_BYTES).text)
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        kind = "mapping with other keys than names" if isinstance(data, dict) else type(data).__name__
        raise ConfigError(f"{path} must be a mapping of {what} such as '{example}'; it is a {kind}")
    return data


def parse_yaml(text: str) -> Any:
    """A YAML value.

    Raises:
        yaml.YAMLError: it is none.
    """
    try:
        if _HALF.search(text):
            _check_characters(text)
        return yaml.load(text, Loader=PlainLoader)  # noqa: S506, a SafeLoader
    except (RecursionError, ValueError, TypeError, AttributeError, OverflowError) as error:  # odd dates, deep nesting
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error


def _check_characters(text: str) -> None:
    """Whether no text has one half of a character, which nothing can write.

    Raises:
        yaml.YAMLError: one has.
    """
    for token in yaml.scan(text):
        if isinstance(token, yaml.ScalarToken) and any("\ud800" <= letter <= "\udfff" for letter in token.value):
            raise yaml.YAMLError(f"line {token.start_mark.line + 1}: half of a character: {token.value!r}")
