"""JSON from files and services that may be damaged."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """A JSON value.

    Args:
        text: a document; bytes are UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: it is none. The message is short, and begins with the line where there is one.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: is no JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"is no text: {error.reason} at byte {error.start:,}") from error
    except RecursionError as error:
        raise ValueError("is nested too deep") from error
    except ValueError as error:  # Python reads no numbers of thousands of digits
        raise ValueError("holds a number of absurdly many digits") from error
