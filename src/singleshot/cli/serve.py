"""``singleshot serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singleshot.cli.console import shown

if TYPE_CHECKING:
    from collections.abc import Sequence


def serve(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Bundled names, weights files or exported files, as NAME=FILE where requests shall ask for NAME.",
            show_default="coco",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 is every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(help="Requests must bring what this file holds: Authorization: Bearer TOKEN.")
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(help="Also serve the models of this folder, as its files come, change and go.")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Images of a model that may wait; more are refused (503).")] = 64,
    deadline: Annotated[float, typer.Option(min=0.001, max=3600, help="Seconds that a request may take (504).")] = 30.0,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", "--batch", min=1, max=1024, help="Images at once.", show_default="1; 8 on a GPU"),
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(help="Least confidence, where a request does not say.", show_default="the model's own"),
    ] = None,
    max_mb: Annotated[int, typer.Option(min=1, max=1024, help="Megabytes of a request.")] = 32,
    max_pixels: Annotated[int, typer.Option(min=1, help="Pixels of an image.")] = 64_000_000,
    backend: Annotated[str, typer.Option(help="What runs the networks: auto, torch, openvino, onnx.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, int8.")] = "auto",
    device: Annotated[str, typer.Option(help="Where torch computes: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    engine: Annotated[
        str | None, typer.Option(help="ray: replicas on a cluster, as the load asks for.", show_default="one process")
    ] = None,
    replicas: Annotated[str | None, typer.Option(help="Of --engine: 4, or 1-8.", show_default="1")] = None,
    address: Annotated[
        str | None, typer.Option(help="Of --engine: the cluster.", show_default="Ray on this machine")
    ] = None,
) -> None:
    """Serve detectors over HTTP.

    Examples:

    * `singleshot serve`, then `curl --data-binary @street.jpg localhost:8000/detect`
    * `singleshot serve plates=runs/plates/best.safetensors coco --queue 100 --deadline 2`
    * `singleshot serve --host 0.0.0.0 --token-file token.txt --watch models`
    * `singleshot serve coco --engine ray --address auto --replicas 1-8`

    Each request is a line of JSON on standard error. SIGTERM or Ctrl-C ends it once what was accepted is answered;
    docs/serve.md tells the rest.
    """
    from singleshot.prediction.settings import check_score
    from singleshot.serving import ServeOptions, check_extra
    from singleshot.serving import serve as run

    check_extra()
    from singleshot.serving.logs import json_logs
    from singleshot.serving.token import read_token

    options = ServeOptions(
        host=host,
        port=port,
        token=None if token_file is None else read_token(token_file),
        watch=watch,
        queue=queue,
        deadline_s=deadline,
        batch_size=batch_size,
        score=None if score is None else check_score(score),
        max_bytes=max_mb * 2**20,
        max_held_bytes=max(2**29, max_mb * 2**20),
        max_pixels=max_pixels,
        backend=backend,
        precision=precision,
        device=device,
    )
    models = _by_name(model or ([] if watch else ["coco"]))

    def say(address: str) -> None:
        typer.echo(f"Serving at {address} (how: {address}/docs). Ctrl-C ends it.")

    if _on_ray(engine, replicas, address):
        from singleshot.serving.ray_serve import Replicas, serve_on_ray

        serve_on_ray(models, options, Replicas.parse(replicas or "1"), address, say)
        return
    with json_logs():
        whole = run(models, options, say)
    if not whole:
        raise typer.Exit(130)


def _on_ray(engine: str | None, replicas: str | None, address: str | None) -> bool:
    """Whether a cluster is to serve.

    Raises:
        ConfigError: another engine, or its options without it.
    """
    from singleshot.errors import ConfigError

    for name, value in (("replicas", replicas), ("address", address)):
        if engine is None and value is not None:
            raise ConfigError(f"`{name}` is of an `engine`: say `engine='ray'`")
    if engine not in (None, "ray"):
        raise ConfigError(f"`engine='{engine}'`: unknown; there is 'ray'")
    return engine is not None


def _by_name(words: Sequence[str]) -> dict[str, str]:
    """Models by name: ``NAME=FILE``, else a file's name without its suffix.

    Raises:
        ConfigError: two of the same name.
    """
    from singleshot.errors import ConfigError

    models: dict[str, str] = {}
    for word in words:
        name, sign, file = word.partition("=")
        if not sign or "/" in name:
            name, file = Path(word).stem, word
        if name in models:
            raise ConfigError(f"two models are called '{shown(name)}': give one as NAME={file}")
        models[name] = file
    return models
