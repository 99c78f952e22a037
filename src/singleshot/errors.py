"""Errors that a user can cause. Each message says what is wrong, where (file, line, key), and how to mend it."""

from __future__ import annotations


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


class MissingExtraError(SingleshotError, ImportError):
    """An optional package is not installed. The message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}': pip install 'singleshot[{extra}]'")
        self.package = package
        self.extra = extra
