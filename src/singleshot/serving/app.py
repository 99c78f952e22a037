"""The routes of a service, but for those of other protocols and of the page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from singleshot.serving.batcher import Thresholds
from singleshot.serving.docs import docs_page
from singleshot.serving.gate import Gate
from singleshot.serving.kserve_routes import kserve_routes
from singleshot.serving.metrics import CONTENT_TYPE
from singleshot.serving.openapi import DETECT, PROBLEMS
from singleshot.serving.problems import HttpProblem
from singleshot.serving.query import read_query
from singleshot.serving.repository import Repository, Served
from singleshot.serving.requests import class_choice, held, names_of, parse, pictures_of, read_body
from singleshot.serving.responses import check_count, check_format, problem_response
from singleshot.serving.service import CLIENT_GONE, Service
from singleshot.serving.site import add_page
from singleshot.version import __version__

_INLINE_DETECTIONS = 500
"""More are written in a thread: the others' deadlines do not wait for it."""


def build_app(repository: Repository) -> FastAPI:
    """The service of these models as an ASGI application; ``app.state.service`` is its `Service`."""
    service = Service(repository, repository.options)
    repository.on_batch = service.metrics.count_batch
    app = FastAPI(title="singleshot", version=__version__, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_middleware(Gate, service=service)
    app.add_exception_handler(HttpProblem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    _add_routes(app, service)
    app.include_router(kserve_routes(service))

    add_page(app)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/detect", summary="Detect objects in images", responses=PROBLEMS, openapi_extra=DETECT)
    async def detect(request: Request) -> Response:
        query = read_query(request.query_params)
        render = check_format(query.format)
        deadline = service.deadline(request)
        service.check_room(query.model, deadline)
        with held(service) as own:
            body = await read_body(request, service, own, deadline)
            content_type = request.headers.get("content-type", "")
            pictures = await parse(body, service, deadline, partial(pictures_of, body, content_type, service))
            del body
            check_count(query.format, len(pictures))
            served = service.model(query.model)
            request.scope["singleshot_log"] = {"model": served.name, "images": len(pictures)}
            thresholds = Thresholds(
                query.score,
                query.nms_iou,
                class_choice(query.classes, served.detector.class_names),
                query.max_detections,
                query.clip,
            )
            answer = await service.detect(request, served.name, pictures, thresholds, deadline)
            names = names_of(pictures)
            total_ms = 1000 * (monotonic() - request.scope["singleshot_start"])
            if query.format == "json" and answer.detections <= _INLINE_DETECTIONS:
                return render(answer, names, total_ms)
            return await asyncio.to_thread(render, answer, names, total_ms)

    @app.get("/models", summary="The models, the first one being the default", responses=PROBLEMS)
    async def models() -> dict[str, Any]:
        described = [_described(served, service) for served in service.repository]
        return {"models": described, "max_bytes": service.options.max_bytes}

    @app.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse, responses=PROBLEMS)
    async def metrics() -> Response:
        return Response(service.metrics.text(_gauges(service)), media_type=CONTENT_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(docs_page(app.openapi()), headers={"Content-Security-Policy": "default-src 'none'"})


def _described(served: Served, service: Service) -> dict[str, Any]:
    spec = served.detector.spec
    rules = ("nms", "nms_iou", "nms_compare", "nms_union_eps", "class_agnostic", "max_per_class", "max_detections")
    return {
        "name": served.name,
        "architecture": spec.name,
        "class_names": list(spec.class_names),
        "category_ids": list(spec.class_ids),
        "size_hw": list(spec.preprocess.size_hw),
        "score": served.batcher.score,
        **{name: getattr(spec.postprocess, name) for name in rules},
        "backend": served.batcher.backend_name,
    }


def _gauges(service: Service) -> Mapping[str, Any]:
    models = list(service.repository)
    queued = {(("model", served.name),): served.batcher.queued for served in models}
    info = {
        (
            ("model", served.name),
            ("architecture", served.detector.spec.name),
            ("backend", served.batcher.backend_name),
        ): 1
        for served in models
    }
    return {
        "singleshot_queue_images": ("Images that are accepted and not computed yet.", queued),
        "singleshot_queue_limit_images": ("Images that may wait for a model.", {(): service.options.queue}),
        "singleshot_held_bytes": ("Bytes of requests in memory.", {(): service.held_bytes}),
        "singleshot_model_info": ("The models.", info),
    }


def _answer(request: Request, problem: HttpProblem) -> Response:
    return problem_response(problem, request.scope["singleshot_request_id"], request.scope["path"])


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpProblem)
    return Response(status_code=CLIENT_GONE) if error.code == CLIENT_GONE else _answer(request, error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(request, HttpProblem(error.status_code, error.detail, dict(error.headers or {})))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _answer(request, HttpProblem(400, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"))
