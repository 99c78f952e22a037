"""Weights files: one ``.safetensors`` that holds the numbers and, as metadata, the ``ModelSpec``.

Reading the spec and checking a file need no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from singleshot.core.files import is_regular, write_atomically
from singleshot.core.lazy import lazy_module
from singleshot.core.setting_errors import wrong_settings
from singleshot.errors import WeightsError
from singleshot.models.config import ModelSpec

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")


SPEC_KEY = "singleshot"
VERSION_KEY = "singleshot_format"
VERSION = 1

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_TENSORS = 20_000
MAX_FILE_BYTES = 8 * 1024**3
MAX_DIMENSIONS = 8
COUNTER = "num_batches_tracked"
"""BatchNorm's count of training steps: what files of other systems may lack."""

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8,
    "U64": 8, "F64": 8,
}  # fmt: skip

_FLOATS = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}

FOREIGN = {
    b"PK\x03\x04": "a PyTorch checkpoint",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x89HDF": "an HDF5 file",
    b"\x12\x01\x00\x00": "an MXNet .params file",
}


def save_weights(
    path: str | Path, spec: ModelSpec, state: dict[str, torch.Tensor], dtype: torch.dtype | None = None
) -> Path:
    """Write a weights file; a crash never leaves half of one.

    Args:
        path: the file, usually ``*.safetensors``.
        spec: everything besides the numbers.
        state: the network's ``state_dict()``.
        dtype: storage type of the convolutions' weights; ``None`` keeps each tensor's own. Biases, norms and
            statistics are few and sensitive, and keep theirs.
    """
    from safetensors.torch import save

    stored = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        if dtype is not None and tensor.is_floating_point() and tensor.ndim > 1:
            tensor = tensor.to(dtype)
        stored[name] = tensor.clone()
    metadata = {"format": "pt", VERSION_KEY: str(VERSION), SPEC_KEY: spec.model_dump_json()}
    return write_atomically(path, _in_order(save(stored, metadata)))


def _in_order(content: bytes) -> bytes:
    """The same file with sorted metadata, which safetensors writes in random order: equal numbers give equal bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    return b"".join([len(raw).to_bytes(8, "little"), raw, memoryview(content)[8 + length :]])


def read_spec(path: str | Path) -> ModelSpec:
    """Read what a weights file says about its detector. Needs no torch.

    Raises:
        WeightsError: the file is missing, foreign, damaged, or newer than this package.
    """
    metadata, _ = read_header(path)
    if SPEC_KEY not in metadata:
        raise WeightsError(
            f"{path}: a safetensors file, but not one of singleshot's (no '{SPEC_KEY}' metadata); "
            f"try: singleshot import {path}"
        )
    version = metadata.get(VERSION_KEY, "")
    if version != str(VERSION):
        raise WeightsError(f"{path}: format '{version}', this singleshot reads {VERSION}; upgrade singleshot")
    try:
        return ModelSpec.model_validate_json(metadata[SPEC_KEY])
    except ValidationError as error:
        raise WeightsError(f"{path}: its description is damaged: {wrong_settings(error, ModelSpec)[0]}") from error


def is_weights_file(path: str | Path) -> bool:
    """Whether there is a weights file of singleshot, of whatever version."""
    try:
        return SPEC_KEY in read_header(path)[0]
    except WeightsError:
        return False


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the numbers of a weights file; 16-bit floats become float32.

    Raises:
        WeightsError: the file is missing, foreign, damaged, or holds numbers that are not finite.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path)
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged: {error}; get the file again") from error
    for name, tensor in state.items():
        if tensor.dtype in (torch.float16, torch.bfloat16):
            state[name] = tensor.float()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: '{name}' holds numbers that are not finite; get or train the file again")
    return state


def read_numbers(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Read the floating-point numbers of a weights file as float32. Needs no torch.

    Raises:
        WeightsError: the file is missing, foreign, damaged, or holds numbers that are not finite.
    """
    _, header = read_header(path)
    content = Path(path).read_bytes()
    data = memoryview(content)[8 + int.from_bytes(content[:8], "little") :]
    numbers = {}
    for name, entry in header.items():
        if entry["dtype"] not in _FLOATS:
            continue
        first, last = entry["data_offsets"]
        stored = np.frombuffer(data[first:last], dtype=_FLOATS[entry["dtype"]])
        is_brain = entry["dtype"] == "BF16"  # the upper half of a float32
        with np.errstate(over="ignore"):  # infinity is refused below
            values = (stored.astype(np.uint32) << 16).view(np.float32) if is_brain else stored.astype(np.float32)
        if not np.isfinite(values).all():
            raise WeightsError(f"{path}: '{name}' holds numbers that are not finite; get or train the file again")
        numbers[name] = values.reshape(entry["shape"])
    return numbers


def load_state(network: torch.nn.Module, state: dict[str, torch.Tensor], origin: str | Path = "the weights") -> None:
    """Put weights into a network; every name and shape must fit.

    Args:
        network: changed in place.
        state: numbers by parameter name. BatchNorm's step counters may be absent.
        origin: the file, for messages.

    Raises:
        WeightsError: names or shapes differ. The message counts and shows them.
    """
    check_state(network, state, origin)
    counters = {name: tensor for name, tensor in network.state_dict().items() if name.endswith(COUNTER)}
    network.load_state_dict(counters | state)


def check_state(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], origin: str | Path = "the weights"
) -> None:
    """Compare names and shapes of weights with a network's, which may be on the ``meta`` device.

    Raises:
        WeightsError: they differ. The message counts and shows them.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in state and not name.endswith(COUNTER)]
    extra = [name for name in state if name not in own]
    wrong = [
        f"{name} is {tuple(state[name].shape)}, needed {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = [_count("missing", missing), _count("not of this network", extra), _count("of another shape", wrong)]
    if any(problems):
        raise WeightsError(f"{origin} does not fit the network: {'; '.join(filter(None, problems))}")


def read_header(path: str | Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Read and check a safetensors header: sizes are bounded, and every tensor lies inside the file.

    Returns:
        The metadata, and ``dtype, shape, data_offsets`` of each tensor by name.

    Raises:
        WeightsError: the file is missing, foreign, truncated or damaged.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: a folder, not a weights file")
    if path.exists() and not is_regular(path):
        raise WeightsError(f"{path}: a pipe or a device, not a weights file")
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            is_short = len(start) < 8 or length > file_bytes - 8
            raw = b"" if is_short or length > MAX_HEADER_BYTES else file.read(length)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    if file_bytes > MAX_FILE_BYTES:
        raise WeightsError(f"{path}: {file_bytes} bytes; a weights file has at most {MAX_FILE_BYTES}")
    if not raw.startswith(b"{"):
        raise WeightsError(_not_safetensors(path, start, file_bytes))
    return _parse_header(path, raw, file_bytes - 8 - length)


def _parse_header(path: Path, raw: bytes, data_bytes: int) -> tuple[dict[str, str], dict[str, Any]]:
    try:
        header = json.loads(raw)
        metadata = header.pop("__metadata__", {})
        if len(header) > MAX_TENSORS or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("an absurd header")
        end = 0
        for name, entry in header.items():
            if not isinstance(entry["shape"], list) or len(entry["shape"]) > MAX_DIMENSIONS:
                raise ValueError(f"'{name[:80]}' has more than {MAX_DIMENSIONS} sides")
            first, last = entry["data_offsets"]
            if any(type(number) is not int or number > MAX_FILE_BYTES for number in (first, last, *entry["shape"])):
                raise ValueError(f"'{name[:80]}' claims impossible sizes")
            count = math.prod(entry["shape"])
            if min(first, last, count, *entry["shape"], 0) < 0 or last - first != count * ITEM_BYTES[entry["dtype"]]:
                raise ValueError(f"the size of '{name[:80]}' does not fit its shape")
            end = max(end, last)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: a damaged safetensors header ({error}); get the file again") from error
    if end != data_bytes:
        what = "truncated" if end > data_bytes else "has bytes after its end"
        raise WeightsError(f"{path}: {what}: {end} bytes of numbers promised, {data_bytes} there; get the file again")
    return metadata, header


def _not_safetensors(path: Path, start: bytes, file_bytes: int) -> str:
    """What to say about a file that is no safetensors."""
    if file_bytes == 0:
        return f"{path}: empty"
    for magic, kind in FOREIGN.items():
        if start.startswith(magic):
            return f"{path}: {kind}, not a singleshot weights file; convert it: singleshot import {path}"
    return f"{path}: not a safetensors file, or truncated; weights of other systems need: singleshot import {path}"


def _count(what: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {what} ({shown})"
