"""Messages of KServe V2 (the Open Inference Protocol, as Triton speaks it over HTTP): pure functions, no web framework.

An ``infer`` request has one input: ``image``, UINT8 ``[N, H, W, 3]``, or ``file``, BYTES ``[N]``, image files. Results
are ``boxes`` FP32 ``[N, K, 4]`` (xyxy in pixels of the picture), ``scores`` FP32 ``[N, K]``, ``labels`` INT64
``[N, K]`` and ``counts`` INT64 ``[N]``; past a picture's count, boxes and scores are 0 and labels -1.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from singleshot.core.postprocess import PaddedArrays
from singleshot.errors import ConfigError
from singleshot.serving.tensors import OUTPUTS, Picture, named, read_files, read_pixels, read_shape
from singleshot.version import __version__

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that says how much of a body is JSON; binary tensors follow."""

VERSION = "1"
"""Of every model: one that is replaced keeps it."""

MAX_JSON_BYTES = 2**24
"""Python's objects take up to 25 times the memory of the JSON that they are read from."""

_Read = Callable[[Sequence[int], Any, memoryview | None], Sequence[Picture]]

READERS: Mapping[str, tuple[str, _Read]] = {"image": ("UINT8", read_pixels), "file": ("BYTES", read_files)}
_SHAPES = {
    "image": [-1, -1, -1, 3],
    "file": [-1],
    "boxes": [-1, -1, 4],
    "scores": [-1, -1],
    "labels": [-1, -1],
    "counts": [-1],
}
_SETTINGS = {"score": (int, float), "nms_iou": (int, float), "max_detections": (int,), "classes": (str,)}
_PARAMETERS: Mapping[str, tuple[type, ...]] = {**_SETTINGS, "binary_data_output": (bool,), "timeout": (int,)}
_RANGES = {"score": (0, 1), "nms_iou": (0, 1), "max_detections": (1, 10_000)}
_MAX_ID = 1000
_MAX_LISTS = 2**18
"""Of a request's JSON: its parser, which stops all else, takes far longer for lists than for numbers in one."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What an ``infer`` request asks for.

    Attributes:
        pictures: pixels, or image files.
        outputs: names of `OUTPUTS`, and whether each is wanted as bytes.
        settings: ``score``, ``nms_iou`` and ``classes`` (names with commas) as they came, where they came.
        request_id: repeated in the answer; empty without one.
        timeout_s: how long the answer is of use; ``None`` leaves that to the service.
    """

    pictures: Sequence[Picture]
    outputs: Mapping[str, bool]
    settings: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""
    timeout_s: float | None = None


class InferAnswer(NamedTuple):
    """The answer to an ``infer`` request.

    Attributes:
        body: JSON, and what tensors were wanted as bytes.
        header_length: bytes of the JSON, for the header `HEADER_LENGTH`; ``None`` where there is nothing else.
    """

    body: bytes
    header_length: int | None


shortened = reprlib.repr
"""What a request holds, as a message may show it, however large or deep it is."""


def server_metadata() -> dict[str, Any]:
    """What ``/v2`` answers."""
    return {"name": "singleshot", "version": __version__, "extensions": ["binary_tensor_data"]}


def model_metadata(name: str) -> dict[str, Any]:
    """What ``/v2/models/M`` answers; of the inputs a request has one."""
    return {
        "name": name,
        "versions": [VERSION],
        "platform": "singleshot",
        "inputs": [_described(tensor, datatype) for tensor, (datatype, _) in READERS.items()],
        "outputs": [_described(tensor, datatype) for tensor, datatype in OUTPUTS.items()],
    }


def _described(tensor: str, datatype: str) -> dict[str, Any]:
    return {"name": tensor, "datatype": datatype, "shape": _SHAPES[tensor]}


def error_body(message: str) -> dict[str, str]:
    """What a request that failed is answered, whatever the status."""
    return {"error": message}


def read_infer(body: bytes, header_length: str | None = None, *, max_images: int) -> InferRequest:
    """Read the body of an ``infer`` request. Image files are not decoded.

    Args:
        body: all of it.
        header_length: the header `HEADER_LENGTH`, where there is one.
        max_images: more in one request are refused.

    Raises:
        ConfigError: it is no such request. The message names what is wrong, and is meant for the client.
    """
    head, binary = _split_body(body, header_length)
    request = _object(_parsed(head), "the request")
    parameters = _parameters(request)
    pictures = _pictures(request.get("inputs"), binary, max_images)
    return InferRequest(
        pictures,
        _outputs(request.get("outputs"), parameters.get("binary_data_output", False)),
        {name: parameters[name] for name in _SETTINGS if name in parameters},
        _id(request.get("id", "")),
        _timeout_s(parameters.get("timeout")),
    )


def write_infer(request: InferRequest, model: str, found: PaddedArrays) -> InferAnswer:
    """Write the answer to a request.

    Args:
        request: what was asked for.
        model: name of the model.
        found: of its pictures, boxes in their pixels.
    """
    arrays, outputs, binary = named(found), [], []
    for name, as_bytes in request.outputs.items():
        array = arrays[name]
        output: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": list(array.shape)}
        if as_bytes:
            binary.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            output["data"] = array.ravel().tolist()
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model, "model_version": VERSION, "outputs": outputs}
    if request.request_id:
        answer["id"] = request.request_id
    head = json.dumps(answer).encode()
    return InferAnswer(b"".join((head, *binary)), len(head) if binary else None)


def _split_body(body: bytes, header_length: str | None) -> tuple[bytes, memoryview | None]:
    """The JSON and the binary part."""
    if header_length is None:
        head, rest = body, None
    else:
        is_number = header_length.isascii() and header_length.isdecimal() and len(header_length) < 20
        length = int(header_length) if is_number else -1
        if not 0 < length <= len(body):
            raise ConfigError(
                f"{HEADER_LENGTH} is the length of the JSON, 1..{len(body)}, not {shortened(header_length)}"
            )
        head, rest = body[:length], memoryview(body)[length:]
    if len(head) > MAX_JSON_BYTES:
        raise ConfigError(
            f"{len(head):,} bytes of JSON are over the limit of {MAX_JSON_BYTES:,}: send the input as a binary tensor"
        )
    return head, rest


def _parsed(head: bytes) -> Any:
    if head.count(b"[") + head.count(b"{") > _MAX_LISTS:
        raise ConfigError(f"the request has over {_MAX_LISTS:,} lists: send `data` flat, or as a binary tensor")

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(head, parse_constant=refuse)
    except (ValueError, RecursionError) as error:  # also what is no UTF-8, and numbers of thousands of digits
        raise ConfigError(f"the request is not JSON: {error!s:.200}") from None


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{what} is a JSON object")
    return value


def _parameters(request: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = _object(request.get("parameters", {}), "`parameters`")
    for name, value in parameters.items():
        if name not in _PARAMETERS:
            raise ConfigError(f"no parameter {shortened(name)}; there are {', '.join(_PARAMETERS)}")
        if type(value) not in _PARAMETERS[name]:
            raise ConfigError(f"`{name}` is not to be {shortened(value)}")
        if name in _RANGES:
            least, most = _RANGES[name]
            if not least <= value <= most:
                raise ConfigError(f"`{name}` must lie in {least}..{most}, not {shortened(value)}")
    return parameters


def _pictures(inputs: Any, binary: memoryview | None, max_images: int) -> Sequence[Picture]:
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise ConfigError("`inputs` is a list of one tensor: 'image' or 'file'")
    tensor = _object(inputs[0], "an input")
    name, datatype = tensor.get("name"), tensor.get("datatype")
    if not isinstance(name, str) or name not in READERS:
        raise ConfigError(f"no input {shortened(name)}; there are {', '.join(READERS)}")
    wanted, read = READERS[name]
    if datatype != wanted:
        raise ConfigError(f"input '{name}' is of datatype {wanted}, not {shortened(datatype)}")
    shape = read_shape(tensor.get("shape"), name)
    if shape[0] > max_images:
        raise ConfigError(f"{shape[0]:,} pictures in one request are over the limit of {max_images:,}: send fewer")
    return read(shape, tensor.get("data"), _raw(tensor, name, binary))


def _raw(tensor: Mapping[str, Any], name: str, binary: memoryview | None) -> memoryview | None:
    """The bytes of a binary tensor; ``None`` where it has ``data``."""
    parameters = _object(tensor.get("parameters", {}), f"input '{name}': `parameters`")
    size = parameters.get("binary_data_size")
    if set(parameters) - {"binary_data_size"}:
        raise ConfigError(f"input '{name}': the only parameter is binary_data_size")
    if (size is None) == ("data" not in tensor):
        raise ConfigError(f"input '{name}' wants either `data` or the parameter binary_data_size")
    have = 0 if binary is None else len(binary)
    if (size or 0) != have or (size is not None and type(size) is not int):
        raise ConfigError(f"input '{name}': binary_data_size is {shortened(size)}, and {have:,} bytes follow the JSON")
    return binary if size else None if size is None else memoryview(b"")


def _outputs(outputs: Any, binary: bool) -> Mapping[str, bool]:
    """Names of the wanted outputs, and whether as bytes; all of them where none is named."""
    if outputs is None or outputs == []:
        return dict.fromkeys(OUTPUTS, binary)
    if not isinstance(outputs, list):
        raise ConfigError("`outputs` is a list")
    wanted: dict[str, bool] = {}
    for output in outputs:
        name = _object(output, "an output").get("name")
        if not isinstance(name, str) or name not in OUTPUTS or name in wanted:
            raise ConfigError(f"no output {shortened(name)}, or it is named twice; there are {', '.join(OUTPUTS)}")
        parameters = _object(output.get("parameters", {}), f"output '{name}': `parameters`")
        own = parameters.get("binary_data", binary)
        if set(parameters) - {"binary_data"} or not isinstance(own, bool):
            raise ConfigError(f"output '{name}': the only parameter is binary_data, true or false")
        wanted[name] = own
    return wanted


def _id(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_ID:
        raise ConfigError(f"`id` is a text of at most {_MAX_ID} characters")
    return value


def _timeout_s(microseconds: int | None) -> float | None:
    if microseconds is not None and not 0 < microseconds < 2**53:
        raise ConfigError(f"`timeout` is a number of microseconds, not {shortened(microseconds)}")
    return None if microseconds is None else microseconds / 1e6
