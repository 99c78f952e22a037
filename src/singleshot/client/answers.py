"""What a service answers, as what it means here. Nothing of it is believed before it was looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from singleshot.client.transport import Reply
from singleshot.core.wording import printable
from singleshot.errors import ServerError
from singleshot.prediction.detections import Detections

_MOST_SAID = 500


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of a service.

    Attributes:
        name: by which requests ask for it.
        class_names: by class id.
        category_ids: of the training data by class id; empty when they equal the index.
        size_hw: the network's input.
        score: least confidence where a request does not say.
    """

    name: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    size_hw: tuple[int, int]
    score: float


def document_of(url: str, answer: Reply) -> Mapping[str, Any]:
    """The JSON object of an answer.

    Args:
        url: of the service, for messages.
        answer: what it said.

    Raises:
        ServerError: it refuses, or this is no answer of such a service.
    """
    if answer.status != 200:
        raise _refusal(url, answer)
    with _understood(url):
        document = json.loads(answer.body)
        if not isinstance(document, dict):
            raise TypeError("no object")
        return document


def models_in(document: Mapping[str, Any], url: str) -> list[ServedModel]:
    """The models that ``GET /models`` lists.

    Raises:
        ServerError: it is no such list.
    """
    with _understood(url):
        return [
            ServedModel(
                str(entry["name"]),
                tuple(map(str, entry["class_names"])),
                tuple(map(int, entry["category_ids"])),
                (int(entry["size_hw"][0]), int(entry["size_hw"][1])),
                float(entry["score"]),
            )
            for entry in document["models"]
        ]


def found_in(document: Mapping[str, Any], url: str) -> Detections:
    """The detections of the one image that ``POST /detect`` was sent.

    Raises:
        ServerError: there are none.
    """
    with _understood(url):
        (record,) = document["results"]
        ids = {"category_ids": document["category_ids"]}
        return Detections.from_dict(record | ids, document["class_names"])


@contextmanager
def _understood(url: str) -> Iterator[None]:
    """What does not look as it should is from something else than this service."""
    try:
        yield
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, OverflowError) as error:
        raise ServerError(
            f"{url}: its answer is not that of 'singleshot serve' ({type(error).__name__}): is this its address?"
        ) from None


def _refusal(url: str, answer: Reply) -> ServerError:
    """Why a request was refused, in the service's words where it is one."""
    request_id = printable(answer.headers.get("x-request-id", ""), one_line=True)[:_MOST_SAID]
    if 300 <= answer.status < 400:
        where = printable(answer.headers.get("location", ""), one_line=True)[:_MOST_SAID]
        return ServerError(f"{url}: leads on to {where!r}: give that address", answer.status, request_id)
    try:
        said = json.loads(answer.body)["error"]
        said = said["message"] if isinstance(said, dict) else said
        said = printable(str(said), one_line=True)[:_MOST_SAID]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = f"answers {answer.status}"
    remedy = ": give the service's token" if answer.status == 401 else ""
    return ServerError(f"{url}: {said}{remedy}", answer.status, request_id)
