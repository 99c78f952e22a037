"""Errors that a user can cause. Each message says what is wrong, where (file, line, key), and how to mend it."""

from __future__ import annotations

import re


class SingleshotError(Exception):
    """Base of every error that singleshot raises for a mistake of its user."""


class ConfigError(SingleshotError, ValueError):
    """A setting has a wrong name, type or value. The message names the dotted key."""


class ImageError(SingleshotError, ValueError):
    """An image cannot be read, or is refused (too large, unknown format). The message names the file."""


class DataError(SingleshotError, ValueError):
    """A data set cannot be read. The message names the file and, where there is one, the line or key."""


class WeightsError(SingleshotError, ValueError):
    """A weights file is missing, damaged, foreign, or does not fit the network. The message names the file."""


class OutputError(SingleshotError, OSError):
    """A file would be written over one that this run did not make. The message names it."""


class ServerError(SingleshotError, OSError):
    """A detection service cannot be reached, or does not do what was asked. The message names its address.

    Attributes:
        status: of its answer; ``None`` where there was none.
        request_id: by which its log knows the request; empty where it told none.
    """

    def __init__(self, message: str, status: int | None = None, request_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class MissingExtraError(SingleshotError, ImportError):
    """An optional package is not installed. The message names the extra, and a command that brings what it holds."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        wanted = " ".join(f"'{requirement}'" for requirement in extra_requirements(extra) or [package])
        super().__init__(
            f"{purpose} needs the package '{package}': pip install {wanted}  (singleshot's extra '{extra}')"
        )
        self.package = package
        self.extra = extra


def extra_requirements(extra: str) -> list[str]:
    """What an extra installs, such as ``matplotlib>=3.8``; empty where the package's metadata cannot be found.

    Naming these works wherever singleshot was installed from (a checkout, a wheel, an index); ``singleshot[extra]``
    would ask an index for singleshot itself.
    """
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("singleshot") or []
    except PackageNotFoundError:
        return []
    found: list[str] = []
    for line in lines:
        requirement, _, condition = line.partition(";")
        if condition.replace('"', "'").replace(" ", "") == f"extra=='{extra}'":
            nested = re.fullmatch(r"singleshot\[([a-z,]+)\]", requirement.strip())
            parts = nested[1].split(",") if nested else []
            found += [own for part in parts for own in extra_requirements(part)] if nested else [requirement.strip()]
    return list(dict.fromkeys(found))
