"""The token of a service, which lies in a file: a command line is seen by everyone on the machine."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from singleshot.errors import ConfigError

_SHORTEST = 16


def read_token(path: Path) -> SecretStr:
    """The token in a file.

    Raises:
        ConfigError: it cannot be read, or holds no token that is worth the name.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "holds more than plain letters and digits"
        raise ConfigError(f"`token_file={path}`: {reason}") from None
    if len(text) < _SHORTEST or len(text.split()) > 1:
        raise ConfigError(
            f"`token_file={path}`: a token is one word of {_SHORTEST} letters or more: openssl rand -hex 32 > {path}"
        )
    return SecretStr(text)
