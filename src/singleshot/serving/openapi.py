"""What the OpenAPI document says of bodies and problems, which FastAPI cannot know."""

from __future__ import annotations

from typing import Any

from singleshot.serving.kserve import HEADER_LENGTH
from singleshot.serving.query import query_parameters

_PROBLEM = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": {"type": "integer"},
                "message": {"type": "string"},
                "request_id": {"type": "string"},
            },
        }
    },
}

_WHY = {
    400: "The request is damaged, or none of its images can be read.",
    401: "A token is needed.",
    403: "Asked by a page of another site.",
    404: "No such model.",
    413: "Too many bytes or images.",
    415: "Compressed bodies are not read.",
    421: "Another host was asked for.",
    500: "An error of the service.",
    503: "The queue is full; `Retry-After` says when to try again.",
    504: "The deadline passed, or cannot be met.",
}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"description": why, "content": {"application/json": {"schema": _PROBLEM}}} for code, why in _WHY.items()
}

KSERVE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {
        "description": why,
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
            }
        },
    }
    for code, why in _WHY.items()
}

_BINARY = {"schema": {"type": "string", "format": "binary"}}

_IMAGE = {
    "oneOf": [
        {"type": "string", "format": "byte"},
        {
            "type": "object",
            "required": ["data"],
            "properties": {"data": {"type": "string", "format": "byte"}, "name": {"type": "string"}},
        },
    ]
}

_DETECTION = {
    "type": "object",
    "properties": {
        "box_xyxy": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
        "score": {"type": "number"},
        "class_id": {"type": "integer"},
        "class_name": {"type": "string"},
    },
}

_RESULT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "image_size_hw": {"type": "array", "items": {"type": "integer"}},
        "detections": {"type": "array", "items": _DETECTION},
        "error": {"type": "string"},
    },
}

_ANSWER = {
    "oneOf": [
        {
            "type": "object",
            "required": ["model", "class_names", "category_ids", "results", "ms"],
            "properties": {
                "model": {"type": "string"},
                "class_names": {"type": "array", "items": {"type": "string"}},
                "category_ids": {"type": "array", "items": {"type": "integer"}},
                "results": {"type": "array", "items": _RESULT},
                "ms": {"type": "object"},
            },
        },
        {"type": "array", "items": {"type": "object"}},
    ]
}

_DEADLINE = {
    "name": "X-Deadline-Ms",
    "in": "header",
    "required": False,
    "description": "Milliseconds after which the answer is of no use.",
    "schema": {"type": "number", "minimum": 0},
}

DETECT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "minItems": 1, "items": _IMAGE}},
                    "additionalProperties": False,
                }
            },
        },
    },
    "parameters": [*query_parameters(), _DEADLINE],
    "responses": {
        "200": {
            "description": "Detections.",
            "content": {"application/json": {"schema": _ANSWER}, "image/jpeg": _BINARY},
        }
    },
}

_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"enum": ["image", "file"]},
        "datatype": {"enum": ["UINT8", "BYTES"]},
        "shape": {"type": "array", "minItems": 1, "maxItems": 4, "items": {"type": "integer", "minimum": 0}},
        "data": {"type": "array"},
        "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer", "minimum": 0}}},
    },
    "anyOf": [
        {"required": ["data"]},
        {"required": ["parameters"], "properties": {"parameters": {"required": ["binary_data_size"]}}},
    ],
}

_INFER_JSON = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "maxLength": 1000},
        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": _TENSOR},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        "parameters": {"type": "object"},
    },
}

INFER: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _INFER_JSON}, "application/octet-stream": _BINARY},
    },
    "parameters": [
        {
            "name": HEADER_LENGTH,
            "in": "header",
            "required": False,
            "description": "Bytes of the JSON, where binary tensors follow it.",
            "schema": {"type": "integer", "minimum": 1},
        },
        _DEADLINE,
    ],
}
