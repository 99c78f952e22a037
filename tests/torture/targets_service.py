"""What comes over the network: requests to a service, and a service's answers."""

from __future__ import annotations

import base64
import json
import struct
from contextlib import suppress
from functools import cache
from pathlib import Path

from serving.toys import ToyDetector, photo
from singleshot.client.answers import document_of, found_in, models_in
from singleshot.client.transport import Reply
from singleshot.errors import SingleshotError
from singleshot.serving import ServeOptions, create_app
from singleshot.serving.kserve import read_infer
from singleshot.serving.problems import HttpProblem
from singleshot.serving.requests import pictures_of
from torture.structures import in_headed, in_json
from torture.target import Files, Target

BOUNDARY = "multipart/form-data; boundary=B"


@cache
def service() -> object:
    return create_app({"toy": ToyDetector()}, ServeOptions(max_bytes=2**22, max_images=4)).state.service


def forms() -> list[Files]:
    head = b'--B\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    other = b"--B\r\nContent-Disposition: form-data; name=b; filename*=UTF-8''%e2%82%ac.png\r\n\r\n"
    return [{"type": BOUNDARY.encode(), "body": head + photo(9) + b"\r\n" + other + photo(3) + b"\r\n--B--\r\n"}]


def documents() -> list[Files]:
    image = base64.b64encode(photo(9)).decode()
    body = json.dumps({"images": [image, {"data": image, "name": "a.png"}]}).encode()
    return [{"type": b"application/json", "body": body}, {"type": b"image/png", "body": photo(7)}]


def infers() -> list[Files]:
    """JSON, a line feed, and binary tensors."""
    files = struct.pack("<I", len(photo(9))) + photo(9)
    tensors = [
        ({"name": "file", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(files)}}, files),
        (
            {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "parameters": {"binary_data_size": 12}},
            bytes(12),
        ),
        ({"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3]}, b""),
        ({"name": "file", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(photo(9)).decode()]}, b""),
    ]
    found: list[Files] = []
    for tensor, raw in tensors:
        outputs = [{"name": "boxes", "parameters": {"binary_data": True}}, {"name": "scores"}]
        more = {"id": "7", "outputs": outputs, "parameters": {"score": 0.5, "classes": "cup", "timeout": 1000}}
        found.append({"infer": json.dumps({"inputs": [tensor], **more}).encode() + b"\n" + raw})
    return found


def answers() -> list[Files]:
    rows = [{"box_xyxy": [1, 2, 3, 4], "score": 0.5, "class_id": 0, "class_name": "cup"}]
    result = {"path": None, "image_size_hw": [4, 6], "detections": rows}
    detect = {"results": [result], "class_names": ["cup"], "category_ids": [1]}
    model = {"name": "toy", "class_names": ["cup"], "category_ids": [], "size_hw": [8, 8], "score": 0.3}
    contents = [detect, {"models": [model]}, {"error": {"message": "no"}}]
    return [{"status": b"200", "answer": json.dumps(content).encode()} for content in contents]


def body(folder: Path) -> None:
    kind = (folder / "type").read_bytes() if (folder / "type").exists() else b""
    content = (folder / "body").read_bytes() if (folder / "body").exists() else b""
    pictures_of(content, kind.decode("latin-1"), service())


def infer(folder: Path) -> None:
    content = (folder / "infer").read_bytes()
    head, _, rest = content.partition(b"\n")
    if rest:
        read_infer(head + rest, str(len(head)), max_images=4)
        read_infer(content, (head[-3:] or b"0").decode("latin-1"), max_images=4)
    else:
        read_infer(content, max_images=4)


def answer(folder: Path) -> None:
    status = (folder / "status").read_bytes() if (folder / "status").exists() else b"500"
    content = (folder / "answer").read_bytes() if (folder / "answer").exists() else b""
    reply = Reply(
        int(status[:3]) if status[:3].isdigit() else 500, {"x-request-id": content[:9].decode("latin-1")}, content
    )
    document = document_of("http://service", reply)
    for read in (models_in, found_in):
        with suppress(SingleshotError):
            read(document, "http://service")


ERRORS = (SingleshotError, HttpProblem)
HEADERS = (
    b"--B",
    b"--B--",
    b"Content-Disposition: form-data",
    b"filename=",
    b"boundary=",
    b"\r\n\r\n",
    b'filename*="',
    b"B" * 100,
)
TARGETS = [
    Target("HTTP forms", forms, body, words=HEADERS, errors=ERRORS, names_file=False),
    Target("HTTP bodies of JSON and pictures", documents, body, {"body": in_json}, errors=ERRORS, names_file=False),
    Target("KServe requests", infers, infer, {"infer": in_headed(in_json)}, errors=ERRORS, names_file=False),
    Target("answers to the client", answers, answer, {"answer": in_json}, errors=ERRORS, names_file=False),
]
