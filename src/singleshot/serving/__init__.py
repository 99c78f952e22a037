"""Detectors behind HTTP, with a bounded queue and exact deadlines (docs/serve.md). Needs the extra ``serve``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from singleshot.core.lazy import lazy_module
from singleshot.errors import MissingExtraError
from singleshot.serving.options import ServeOptions

if TYPE_CHECKING:
    import fastapi

    import singleshot.detector as detectors
    import singleshot.serving.repository as repositories
else:
    detectors = lazy_module("singleshot.detector")
    fastapi = lazy_module("fastapi")
    repositories = lazy_module("singleshot.serving.repository")

__all__ = ["ServeOptions", "create_app", "serve"]

Models = Mapping[str, "str | os.PathLike[str] | detectors.Detector"]
"""Models by the name that requests ask for; the first one is the default."""


def create_app(models: Models | repositories.Repository, options: ServeOptions | None = None) -> fastapi.FastAPI:
    """A service as an ASGI application, for a server of one's own; ``app.state.service`` is its `Service`.

    Args:
        models: by name, as `singleshot.load` takes them or detectors; or a `Repository`, with its own options.
        options: limits; the defaults without.

    Raises:
        MissingExtraError: FastAPI is not installed.
        SingleshotError: a model cannot be loaded.
    """
    check_extra()
    from singleshot.serving.app import build_app
    from singleshot.serving.repository import Repository

    if isinstance(models, Repository):
        return build_app(models)
    repository = Repository(options)
    for name, source in models.items():
        repository.load(name, source)
    return build_app(repository)


def serve(models: Models, options: ServeOptions | None = None, on_start: Callable[[str], object] | None = None) -> bool:
    """Serve until SIGTERM or Ctrl-C, then finish what was accepted.

    Args:
        models, options: as for `create_app`.
        on_start: is told the address once requests are taken.

    Returns:
        Whether all that was accepted was finished.

    Raises:
        MissingExtraError: FastAPI or uvicorn is not installed.
        ConfigError: it cannot listen there, or there is no folder to watch.
        SingleshotError: a model cannot be loaded.
    """
    check_extra()
    from singleshot.serving.repository import check_folder
    from singleshot.serving.server import listen, run_server

    chosen = options or ServeOptions()
    if chosen.watch is not None:
        check_folder(chosen.watch)
    listener = listen(chosen)
    with listener:
        app = create_app(models, chosen)
        return run_server(app, app.state.service.repository, listener, on_start)


def check_extra() -> None:
    """Refuse where the extra is not installed.

    Raises:
        MissingExtraError: it is not.
    """
    for package, module in (("fastapi", "fastapi"), ("uvicorn", "uvicorn"), ("python-multipart", "python_multipart")):
        if find_spec(module) is None:
            raise MissingExtraError(package, "serve", "a service")
