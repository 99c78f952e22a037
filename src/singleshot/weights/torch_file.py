"""PyTorch checkpoints (zip and the format before it): `torch_pickle` reads what they say, here are their numbers.

Only the numbers that are wanted are read, and no more than the file holds.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from singleshot.errors import WeightsError
from singleshot.weights.file import read_state
from singleshot.weights.torch_pickle import DAMAGE, ITEM_BYTES, Refused, Storage, TensorRecord, unpickle

MAX_FILE_BYTES = 8 * 1024**3
MAX_PICKLE_BYTES = 256 * 1024**2
MAX_ENTRIES = 200_000
# Tensors may share numbers (tied weights), but not without end.
MAX_COPIES = 4
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# What torch.save writes before the numbers of each storage in the format before zip.
LEGACY_COUNT_BYTES = 8

WRAPPERS = ("model", "state_dict", "model_state_dict", "net", "network", "weights")
"""Keys under which training scripts put the state dict, in the order of trust."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A state dict from ``.pth`` or ``.safetensors``; nothing in it is executed. 16-bit floats become float32.

    Raises:
        WeightsError: missing, damaged, or something else than a state dict.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint")
    return read_state(path) if path.suffix == ".safetensors" else read_checkpoint(path)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict of a PyTorch checkpoint; floats of any width as float32.

    Args:
        path: written by ``torch.save``: a state dict, or a dict that holds one. ``module.`` prefixes are cut off.

    Raises:
        WeightsError: it is damaged, claims impossible sizes, holds no state dict, or holds more than numbers.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise WeightsError(f"{path}: larger than {MAX_FILE_BYTES} bytes; a state dict alone is smaller")
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            read = _read_zip if start[:2] == b"PK" else _read_legacy
            return read(file, path)
    except Refused as error:
        raise WeightsError(
            f"{path}: holds '{error}', not only numbers: nothing of it was run. Save the state dict alone, where it "
            f"was made: torch.save(model.state_dict(), 'weights.pth')"
        ) from None
    except WeightsError:
        raise
    except DAMAGE as error:
        what = str(error) or type(error).__name__
        raise WeightsError(f"{path}: a damaged or truncated PyTorch checkpoint ({what}); get it again") from error


def _read_zip(file: IO[bytes], path: Path) -> dict[str, Tensor]:
    archive = zipfile.ZipFile(file)
    entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if len(entries) > MAX_ENTRIES or "data.pkl" not in entries:
        raise WeightsError(f"{path}: a zip file, but not a PyTorch checkpoint (no data.pkl)")
    if "constants.pkl" in entries:
        raise WeightsError(
            f"{path}: TorchScript, which holds code; save only the numbers, where it was made: "
            "torch.save(torch.jit.load('model.pt').state_dict(), 'weights.pth')"
        )
    size = path.stat().st_size

    def content(name: str, limit: int) -> bytes:
        info = entries[name]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > min(size, limit):
            raise WeightsError(f"{path}: '{name}' claims {info.file_size} bytes in a file of {size}, or is compressed")
        return archive.read(info)

    if "byteorder" in entries and content("byteorder", 16).strip() != b"little":
        raise WeightsError(f"{path}: written on a big-endian machine; save it again on another")
    state = find_state(unpickle(io.BytesIO(content("data.pkl", MAX_PICKLE_BYTES))), path)

    def numbers(storage: Storage) -> bytes:
        return content(f"data/{storage.key}", MAX_FILE_BYTES)

    return _materialise(state, numbers, path)


def _read_legacy(file: IO[bytes], path: Path) -> dict[str, Tensor]:
    """Pickles of magic, version, machine and object, then of the storages' keys; then their numbers, in that order."""
    if file.read(1) != b"\x80":
        what = "empty" if path.stat().st_size == 0 else "not a PyTorch checkpoint"
        raise WeightsError(f"{path}: {what}, or from before PyTorch 0.2: load and save it again with a newer one")
    file.seek(0)
    storages: dict[str, Storage] = {}
    if unpickle(file) != LEGACY_MAGIC:
        raise WeightsError(f"{path}: a plain pickle, which may run code: save the state dict with torch.save instead")
    unpickle(file)
    unpickle(file)
    tree = unpickle(file, storages)
    keys = unpickle(file)
    if not isinstance(keys, list):
        raise ValueError("no list of blocks")
    state = find_state(tree, path)
    places = {}
    end = path.stat().st_size
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(file.read(LEGACY_COUNT_BYTES), "little")
        length = count * ITEM_BYTES[storage.dtype]
        places[key] = (file.tell(), length)
        if count != storage.numbers or file.tell() + length > end:
            raise WeightsError(f"{path}: truncated, or a block claims {count} numbers; get it again")
        file.seek(length, io.SEEK_CUR)

    def numbers(storage: Storage) -> bytes:
        start, length = places[storage.key]
        file.seek(start)
        return file.read(length)

    return _materialise(state, numbers, path)


def find_state(tree: object, path: Path) -> dict[str, TensorRecord]:
    """The state dict in what a checkpoint holds.

    Raises:
        WeightsError: there is none; the message lists what there is.
    """
    if isinstance(tree, Mapping):
        for candidate in _candidates(tree):
            state = {key: value for key, value in candidate.items() if isinstance(value, TensorRecord)}
            if state and all(isinstance(key, str) for key in state):
                return {key.removeprefix("module."): value for key, value in state.items()}
    keys = ", ".join(map(_brief, list(tree)[:8])) if isinstance(tree, Mapping) else type(tree).__name__
    raise WeightsError(f"{path}: no state dict in it (it holds: {keys[:200]}); save model.state_dict()")


def _brief(key: object) -> str:
    return key[:80] if isinstance(key, str) else type(key).__name__


def _candidates(tree: Mapping[Any, Any]) -> Iterator[Mapping[Any, Any]]:
    yield tree
    for key in WRAPPERS:
        inner = tree.get(key)
        if isinstance(inner, Mapping):
            yield inner


def _materialise(
    state: Mapping[str, TensorRecord], numbers: Callable[[Storage], bytes], path: Path
) -> dict[str, Tensor]:
    """Read the numbers of every tensor; each tensor must lie inside its storage."""
    blocks: dict[Storage, Tensor] = {}
    tensors = {}
    unread = path.stat().st_size
    budget = MAX_COPIES * unread
    for name, record in state.items():
        storage = record.storage
        if storage not in blocks:
            raw = numbers(storage)
            unread -= len(raw)
            if unread < 0:
                raise WeightsError(f"{path}: blocks of numbers that lie upon each other; get it again")
            if len(raw) < storage.numbers * ITEM_BYTES[storage.dtype]:
                raise WeightsError(f"{path}: '{name}' claims {storage.numbers} numbers, {len(raw)} bytes are there")
            dtype = getattr(torch, storage.dtype)
            blocks[storage] = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        _check(record, name, path)
        budget -= math.prod(record.shape) * ITEM_BYTES[storage.dtype]
        if budget < 0:
            raise WeightsError(f"{path}: its tensors claim more than {MAX_COPIES} times the file's size")
        tensor = blocks[storage].as_strided(record.shape, record.strides, record.offset)
        tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
        tensors[name] = tensors[name].clone().contiguous()
    return tensors


def _check(record: TensorRecord, name: str, path: Path) -> None:
    shape, strides, offset, count = record.shape, record.strides, record.offset, record.storage.numbers
    whole = all(type(number) is int and 0 <= number <= MAX_FILE_BYTES for number in (*shape, *strides, offset))
    if not whole or len(shape) != len(strides) or math.prod(shape) > count:
        raise WeightsError(f"{path}: '{name}' claims the impossible shape {str(shape)[:80]}")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= count:
        raise WeightsError(f"{path}: '{name}' reaches beyond its {count} numbers")
