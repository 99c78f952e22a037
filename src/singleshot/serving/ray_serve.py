"""The service as a deployment of Ray Serve: as many replicas as the load asks for. Needs the extra ``ray``, too."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from singleshot.core.lazy import lazy_module
from singleshot.errors import ConfigError, MissingExtraError
from singleshot.prediction.batch.ray_data import connected
from singleshot.serving import check_extra, create_app
from singleshot.serving.options import ServeOptions
from singleshot.weights.find import find_weights

if TYPE_CHECKING:
    import ray.serve as ray_serve
else:
    ray_serve = lazy_module("ray.serve")

NAME = "singleshot"
"""Of the application on the cluster."""


class Replicas(NamedTuple):
    """How many copies of the service there are.

    Attributes:
        least, most: as the load asks for.
    """

    least: int = 1
    most: int = 1

    @classmethod
    def parse(cls, text: str) -> Replicas:
        """From ``4`` or ``1-8``.

        Raises:
            ConfigError: it is neither.
        """
        first, _, last = text.partition("-")
        try:
            own = cls(int(first), int(last or first))
        except ValueError:
            own = cls(0, 0)
        if not 1 <= own.least <= own.most:
            raise ConfigError(f"`replicas={text}`: write how many, 4, or from how many to how many, 1-8")
        return own


ONE = Replicas()


def check_ray(options: ServeOptions) -> None:
    """Refuse what a service on a cluster cannot do.

    Raises:
        MissingExtraError: an extra is not installed.
        ConfigError: a folder to watch.
    """
    check_extra()
    if find_spec("ray") is None:
        raise MissingExtraError("ray", "ray", "`engine='ray'`")
    if options.watch is not None:
        raise ConfigError("`watch` is of a service in one process: name the models, or leave `engine` out")


def deployment(models: Mapping[str, str | os.PathLike[str]], options: ServeOptions, replicas: Replicas = ONE) -> Any:
    """The service for ``ray.serve.run``: each replica makes its own application, and holds the models.

    Args:
        models, options: as for `create_app`; files of weights must lie at the same place on every node.
        replicas: how many; requests that wait for a replica, more than two each, call for another.
    """

    def build() -> Any:
        return create_app(models, options)

    scaling = {"min_replicas": replicas.least, "max_replicas": replicas.most, "target_ongoing_requests": 2}
    kind = ray_serve.deployment(
        ray_serve.ingress(build)(),
        name=NAME,
        autoscaling_config=scaling,
        max_ongoing_requests=options.queue,
    )
    return kind.bind()


def serve_on_ray(
    models: Mapping[str, str | os.PathLike[str]],
    options: ServeOptions,
    replicas: Replicas = ONE,
    address: str | None = None,
    on_start: Callable[[str], object] | None = None,
    until: threading.Event | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        models, options, replicas: as for `deployment`.
        address: of the cluster; ``None`` starts Ray here.
        on_start: is told the address once requests are taken.
        until: ends it when set.

    Raises:
        MissingExtraError, ConfigError: as `check_ray`; or there is no cluster, or it has such a service.
        WeightsError: a model cannot be found.
    """
    check_ray(options)
    from singleshot.serving.server import warn_if_open

    for source in models.values():
        if isinstance(source, (str, os.PathLike)):
            find_weights(source)
    with connected(address):
        if NAME in ray_serve.status().applications:
            raise ConfigError(f"`address={address}`: a service called '{NAME}' runs there: end it first")
        ray_serve.start(http_options={"host": options.host, "port": options.port})
        try:
            ray_serve.run(deployment(models, options, replicas), name=NAME, route_prefix="/")
            where = f"http://{options.host}:{options.port}"
            if on_start is not None:
                on_start(where)
            warn_if_open(options, where)
            (until or threading.Event()).wait()
        except KeyboardInterrupt:
            return
        finally:
            if NAME in ray_serve.status().applications:
                ray_serve.delete(NAME)
            if not ray_serve.status().applications:  # others' services on the cluster go on
                ray_serve.shutdown()
