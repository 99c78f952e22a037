"""What the OpenAPI document says of bodies and problems, which FastAPI cannot know."""

from __future__ import annotations

from typing import Any

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
    "parameters": [
        {
            "name": "X-Deadline-Ms",
            "in": "header",
            "required": False,
            "description": "Milliseconds after which the answer is of no use.",
            "schema": {"type": "number", "minimum": 0},
        }
    ],
    "responses": {
        "200": {
            "description": "Detections.",
            "content": {"application/json": {"schema": _ANSWER}, "image/jpeg": _BINARY},
        }
    },
}
