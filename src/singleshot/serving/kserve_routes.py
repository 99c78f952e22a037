"""The routes of KServe V2, over `kserve`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from singleshot.errors import ConfigError, ImageError
from singleshot.images.read import check_encoded
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Encoded, Failure, Frame, Result
from singleshot.serving.batcher import Picture, Thresholds
from singleshot.serving.kserve import (
    HEADER_LENGTH,
    VERSION,
    InferRequest,
    model_metadata,
    read_infer,
    server_metadata,
    write_infer,
)
from singleshot.serving.openapi import INFER, KSERVE_PROBLEMS
from singleshot.serving.problems import HttpProblem
from singleshot.serving.requests import class_choice, held, parse, read_body
from singleshot.serving.service import Service
from singleshot.serving.tensors import padded


def kserve_routes(service: Service) -> APIRouter:
    """The routes under ``/v2``."""
    router = APIRouter(prefix="/v2", tags=["KServe V2"], responses=KSERVE_PROBLEMS)

    @router.get("", summary="The service")
    async def server() -> dict[str, Any]:
        return server_metadata()

    @router.get("/health/live", summary="Whether the service runs")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="Whether it takes requests")
    async def ready() -> Response:
        is_ready = not service.is_draining and any(True for _ in service.repository)
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @router.get("/models/{model}", summary="Inputs and outputs of a model")
    @router.get("/models/{model}/versions/{version}", include_in_schema=False)
    async def metadata(request: Request, model: str) -> dict[str, Any]:
        _check_version(request)
        return model_metadata(service.model(model).name)

    @router.get("/models/{model}/ready", summary="Whether a model takes requests")
    @router.get("/models/{model}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(request: Request, model: str) -> dict[str, Any]:
        _check_version(request)
        return {"name": service.model(model).name, "ready": True}

    @router.post("/models/{model}/infer", summary="Detect objects", openapi_extra=INFER)
    @router.post("/models/{model}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, model: str) -> Response:
        _check_version(request)
        return await _infer(service, request, model)

    return router


def _check_version(request: Request) -> None:
    """Refuse a version in the path that there is not.

    Raises:
        HttpProblem: 404.
    """
    version = request.path_params.get("version", VERSION)
    if version != VERSION:
        raise HttpProblem(404, f"no version '{version}': a model has the version '{VERSION}'")


async def _infer(service: Service, request: Request, model: str) -> Response:
    deadline = service.deadline(request)
    service.check_room(model, deadline)
    with held(service) as own:
        body = await read_body(request, service, own, deadline)
        header_length = request.headers.get(HEADER_LENGTH)
        wanted, pictures = await parse(body, service, deadline, partial(_read, body, header_length, service))
        del body
        if wanted.timeout_s is not None:
            deadline = min(deadline, request.scope["singleshot_start"] + wanted.timeout_s)
        served = service.model(model)
        request.scope["singleshot_log"] = {"model": served.name, "images": len(pictures)}
        results: Sequence[Result] = ()
        if pictures:
            thresholds = _thresholds(wanted, served.detector.class_names)
            results = (await service.detect(request, served.name, pictures, thresholds, deadline)).results
    found = _all_found(results)
    # In a thread: of thousands of objects this takes long enough for others to miss their deadlines.
    answer = await asyncio.to_thread(write_infer, wanted, served.name, padded(found))
    if answer.header_length is None:
        return Response(answer.body, media_type="application/json")
    return Response(
        answer.body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(answer.header_length)}
    )


def _read(body: bytes, header_length: str | None, service: Service) -> tuple[InferRequest, list[Picture]]:
    """A request, and its pictures, whose sizes are checked; nothing is decoded.

    Raises:
        HttpProblem: 400.
    """
    try:
        return _checked(body, header_length, service)
    except (ConfigError, ImageError) as error:
        raise HttpProblem(400, str(error)) from None


def _checked(body: bytes, header_length: str | None, service: Service) -> tuple[InferRequest, list[Picture]]:
    options = service.options
    wanted = read_infer(body, header_length, max_images=options.max_images)
    pictures: list[Picture] = []
    for number, picture in enumerate(wanted.pictures, 1):
        name = _name(number)
        if isinstance(picture, bytes):
            try:
                check_encoded(picture, options.max_pixels)
            except ImageError as error:
                raise ImageError(f"{name}: {error}") from None
            pictures.append(Encoded(picture, name))
        else:
            height, width = picture.shape[:2]
            if height * width > options.max_pixels:
                raise ImageError(f"pictures of {width} x {height} pixels are over the limit of {options.max_pixels:,}")
            pictures.append(Frame(picture, name))
    return wanted, pictures


def _name(number: int) -> str:
    return f"image {number}"


def _thresholds(wanted: InferRequest, class_names: Sequence[str]) -> Thresholds:
    settings = dict(wanted.settings)
    classes = class_choice([settings.pop("classes")], class_names) if "classes" in settings else None
    return Thresholds(**settings, classes=classes)


def _all_found(results: Sequence[Result]) -> list[Detections]:
    """Detections of every picture: the protocol has no place for one that failed among others.

    Raises:
        HttpProblem: 400: one cannot be read.
    """
    found: list[Detections] = []
    for number, result in enumerate(results, 1):
        if isinstance(result, Failure):
            raise HttpProblem(400, f"{_name(number)}: {result.error}")
        found.append(result.detections)
    return found
