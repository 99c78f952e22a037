"""Which parameters of a network a name means: a prefix, a shell pattern, or a regular expression."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from singleshot.errors import ConfigError
from singleshot.interop.mxnet.names import mxnet_names
from singleshot.models.config import ModelSpec

_EXPRESSION = re.compile(r"[\^$()|+\\]")
"""What no prefix and no shell pattern holds."""


def original_names(spec: ModelSpec, names: Sequence[str]) -> dict[str, str]:
    """What the system that a detector comes from calls its parameters, by our name; empty where it has no others.

    Args:
        spec: one in the form of mxnet-ssd or mxnet-dssd has MXNet's names. (An imported Caffe model's are ours.)
        names: of our parameters.
    """
    if not spec.name.startswith("mxnet_"):
        return {}
    return mxnet_names(spec.network, names, "dssd" if spec.name.startswith("mxnet_dssd") else "ssd")


def matching(patterns: Sequence[str], names: Sequence[str], originals: Mapping[str, str], setting: str) -> list[str]:
    """The parameters that any of the patterns names, in their order.

    Args:
        patterns: prefixes (``backbone``, ``backbone.conv1_1``), shell patterns (``backbone.conv[12]_*``), or regular
            expressions, known by one of ``^ $ ( ) | + \\``, which match from the start as Python's ``re.match`` of the
            whole name, of the name within its part (``conv1_1.weight``), or of the original name (``conv1_1_weight``).
        names: of all parameters.
        originals: see `original_names`.
        setting: the setting that holds the patterns, for the message.

    Raises:
        ConfigError: a pattern names nothing, or is no regular expression.
    """
    found: set[str] = set()
    for pattern in patterns:
        own = [name for name in names if is_named(name, pattern, originals.get(name, ""), setting)]
        if not own:
            raise ConfigError(f"{setting}: {_no_part(pattern, names, originals)}")
        found.update(own)
    return [name for name in names if name in found]


def is_named(name: str, pattern: str, original: str = "", setting: str = "freeze") -> bool:
    """Whether a parameter is what a pattern names, or lies in it; see `matching`.

    Raises:
        ConfigError: the pattern is no regular expression.
    """
    if not _EXPRESSION.search(pattern):
        return any(
            own == pattern or own.startswith(pattern + ".") or fnmatchcase(own, pattern)
            for own in (name, original)
            if own
        )
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{setting}: '{pattern}' is no regular expression: {error}") from error
    return any(own and expression.match(own) for own in (name, name.partition(".")[2], original))


def _no_part(pattern: str, names: Sequence[str], originals: Mapping[str, str]) -> str:
    parts = sorted({".".join(name.split(".")[:depth]) for name in names for depth in (1, 2, 3)})
    plain = re.sub(r"[\^$()|+\\*]|\.\*", "", pattern)
    near = difflib.get_close_matches(plain, [*parts, *originals.values()], n=3)
    hint = f"did you mean {' or '.join(repr(name) for name in near)}?" if near else f"parts: {_tops(names)}"
    return f"'{pattern}' is no part of the network; {hint}"


def _tops(names: Sequence[str]) -> str:
    return ", ".join(sorted({name.partition(".")[0] for name in names}))
