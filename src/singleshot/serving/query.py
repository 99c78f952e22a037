"""What the address of ``/detect`` says, as one model: FastAPI's own reading took a quarter of the time of a refusal."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError
from starlette.datastructures import QueryParams

from singleshot.core.settings import Frozen, UnitFloat
from singleshot.core.wording import similar
from singleshot.serving.problems import HttpProblem


class DetectQuery(Frozen):
    """Parameters of a request; their descriptions are in the OpenAPI document."""

    score: UnitFloat | None = Field(None, description="Least confidence.")
    nms_iou: UnitFloat | None = Field(None, description="Overlap above which the weaker of two boxes goes.")
    max_detections: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="Most objects of an image.")
    clip: bool = Field(True, description="Let boxes end at the picture.")
    classes: tuple[str, ...] | None = Field(None, description="Names or ids of classes to report, separated by commas.")
    model: str | None = Field(None, description="Name of a model; the first one by default.")
    format: str = Field("json", description="json, coco, or image: the picture with its boxes.")


def read_query(given: QueryParams) -> DetectQuery:
    """The parameters of a request; of one that is given twice the last, but all classes.

    Raises:
        HttpProblem: 400: a value makes no sense, or a name is none: a misspelt threshold is not passed over.
    """
    for name in given:
        if name not in DetectQuery.model_fields:
            raise HttpProblem(400, f"no parameter '{name}'; {similar(name, tuple(DetectQuery.model_fields))}")
    values: dict[str, Any] = dict(given)
    if "classes" in values:
        values["classes"] = given.getlist("classes")
    try:
        return DetectQuery.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise HttpProblem(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def query_parameters() -> list[dict[str, Any]]:
    """The parameters as OpenAPI writes them."""
    properties = DetectQuery.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False, "description": schema.pop("description"), "schema": schema}
        for name, schema in properties.items()
    ]
