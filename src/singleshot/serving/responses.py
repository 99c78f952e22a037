"""What a request is answered: JSON as every sink writes it, COCO results, a picture; and problems."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from singleshot.core.registry import Registry
from singleshot.errors import ConfigError
from singleshot.images.draw import draw_detections
from singleshot.prediction.frames import Failure, Prediction, Result
from singleshot.serving.kserve import error_body
from singleshot.serving.problems import HttpProblem
from singleshot.serving.service import Answer

Render = Callable[[Answer, Sequence[str], float], Response]
"""An answer, the names of its images and the milliseconds of the whole request -> a response."""

FORMATS: Registry[Render] = Registry("format", {})
"""Forms of an answer, by ``format=``."""


@FORMATS.register("json")
def json_response(answer: Answer, names: Sequence[str], total_ms: float) -> Response:
    """Detections of each image, or why it has none."""
    detector = answer.served.detector
    document = {
        "model": answer.served.name,
        "class_names": detector.class_names,
        "category_ids": detector.spec.class_ids,
        "results": [record(result, name) for result, name in zip(answer.results, names, strict=True)],
        "ms": {"compute": round(1000 * answer.compute_s, 2), "total": round(total_ms, 2)},
    }
    return Response(json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace"), media_type=JSON)


@FORMATS.register("coco")
def coco_response(answer: Answer, names: Sequence[str], total_ms: float) -> Response:
    """Rows of a COCO results file; an image's id is the number that its name is, else the name.

    Raises:
        HttpProblem: 400: an image cannot be read, for which COCO has no place.
    """
    rows: list[dict[str, Any]] = []
    for result, name in zip(answer.results, names, strict=True):
        if isinstance(result, Failure):
            raise HttpProblem(400, f"{result.error} (the format json has the other images)")
        stem = name.rpartition(".")[0] or name
        rows += result.detections.to_coco(int(stem) if stem.isdecimal() and len(stem) <= 15 else name)
    return JSONResponse(rows)


@FORMATS.register("image")
def image_response(answer: Answer, names: Sequence[str], total_ms: float) -> Response:
    """The picture with its boxes, as a JPEG.

    Raises:
        HttpProblem: 400: it is too large for one.
    """
    import cv2

    (prediction,) = answer.results  # `check_count`
    assert isinstance(prediction, Prediction)  # a request whose only image fails is no answer
    drawn = draw_detections(prediction.frame.pixels, prediction.detections)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise HttpProblem(400, "this picture has too many pixels a side for a JPEG: use format=json")
    return Response(data.tobytes(), media_type="image/jpeg")


JSON = "application/json"


def record(result: Result, name: str) -> dict[str, Any]:
    """What JSON says of one image: as `Detections.to_dict`, with its name; `Detections.from_dict` reads it."""
    if isinstance(result, Failure):
        return {"name": name, "error": str(result.error)}
    own = result.detections.to_dict(vocabulary=False)
    return {"name": name, "image_size_hw": own["image_size_hw"], "detections": own["detections"]}


def check_format(name: str) -> Render:
    """How a format is written.

    Raises:
        HttpProblem: 400: there is none of that name.
    """
    try:
        return FORMATS.get(FORMATS.check(name))
    except (ConfigError, ValueError) as error:
        raise HttpProblem(400, str(error)) from None


def check_count(format: str, images: int) -> None:
    """Refuse, before anything is computed, more images than a format has place for.

    Raises:
        HttpProblem: 400.
    """
    if format == "image" and images != 1:
        raise HttpProblem(400, f"format=image is for one image, not {images}: send each for itself, or use format=json")


def problem_response(problem: HttpProblem, request_id: str, path: str) -> Response:
    """A problem as JSON: its code, what it is, and the id to find it by in the log; or as KServe V2 has it."""
    error = {"code": problem.code, "message": str(problem), "request_id": request_id}
    document = error_body(str(problem)) if path == "/v2" or path.startswith("/v2/") else {"error": error}
    return Response(
        json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace"),
        problem.code,
        problem.headers,
        JSON,
    )
