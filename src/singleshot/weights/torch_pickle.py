"""The pickles of PyTorch's files, without ever running what they say.

A pickle may only name the few things in ``_ALLOWED``, and our own functions answer for them; tensors become records of
where their numbers lie. (``torch.load(weights_only=True)`` runs no code either, but believes the sizes that a file
claims.)
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections import Counter, OrderedDict
from typing import IO, Any, NamedTuple, cast

from singleshot.weights.pickle_check import check_opcodes

MAX_DIMENSIONS = 8

DTYPES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
ITEM_BYTES = {
    "float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1,
}  # fmt: skip

DAMAGE = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError,
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What unpicklers and zipfile raise on bytes that make no sense."""


class Storage(NamedTuple):
    """A block of numbers of one type, by its key in the file."""

    dtype: str
    key: str
    numbers: int


class TensorRecord(NamedTuple):
    """A tensor whose numbers have not been read."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Refused(Exception):
    """The pickle names something that is no part of a state dict."""


def unpickle(file: IO[bytes], storages: dict[str, Storage] | None = None) -> object:
    """What one pickle says, from where the file stands to behind its end.

    Args:
        file: is left behind the pickle.
        storages: is filled with the blocks of numbers that it names, by key.

    Raises:
        Refused: it names something that is no part of a state dict.
        Exception: of `DAMAGE`.
    """
    start, end = file.tell(), file.seek(0, io.SEEK_END)
    file.seek(start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_opcodes(pickletools.genops(cast("IO[bytes]", _Reader(file, end))))
    file.seek(start)
    return _Unpickler(_Reader(file, end), encoding="utf-8", storages={} if storages is None else storages).load()


class _Reader:
    """A file that is never asked for more than it holds, whatever length its content claims.

    Without ``readinto``: CPython's unpickler, cut off in there, frees memory that is still in use.
    """

    def __init__(self, file: IO[bytes], end: int) -> None:
        self.file, self.end = file, end
        self.readline = file.readline
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        return self.file.read(min(size, self.end - self.file.tell()))


class _Unpickler(pickle.Unpickler):  # the class whose find_class is the safety
    """Knows the names in ``_ALLOWED`` and nothing else."""

    def __init__(self, file: _Reader, *, encoding: str, storages: dict[str, Storage]) -> None:
        super().__init__(file, encoding=encoding)
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in DTYPES:
            return _Name(DTYPES[name])
        if module == "torch" and name in ITEM_BYTES:
            return _Name(name)
        if (module, name) not in _ALLOWED:
            raise Refused(f"{module}.{name}"[:120])
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, _Name) or type(count) is not int or count < 0 or not _is_key(key):
            raise ValueError("an unknown kind of record")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("views of storages, as PyTorch 0.1 wrote them")
        storage = Storage(dtype.name, str(key), count)
        self.storages[storage.key] = storage
        return storage


def _is_key(key: object) -> bool:
    return isinstance(key, str) or (isinstance(key, int) and 0 <= key < 2**64)


class _Name:
    """Stands for a type that is only named, never made."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Ignored:
    """Stands for a number, a type or the settings of a training script: read, and of no use here."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _rebuild_tensor(storage: Storage, offset: int, shape: Any, strides: Any, *_: object) -> TensorRecord:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    return TensorRecord(storage, offset, sides(shape), sides(strides))


def _rebuild_parameter(data: TensorRecord, *_: object) -> TensorRecord:
    return data


def sides(items: Any = ()) -> tuple[int, ...]:
    """A shape or the like, as ``torch.Size``: a few whole numbers, and nothing that hides more."""
    if len(items) > MAX_DIMENSIONS or any(type(number) is not int for number in items):
        raise ValueError(f"the impossible shape of more than {MAX_DIMENSIONS} sides, or not of whole numbers")
    return tuple(items)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): Counter,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): sides,
    ("torch", "device"): _Ignored,
    ("argparse", "Namespace"): _Ignored,
    ("numpy", "dtype"): _Ignored,
    ("numpy.core.multiarray", "scalar"): _Ignored,
    ("numpy._core.multiarray", "scalar"): _Ignored,
    ("_codecs", "encode"): _Ignored,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}
"""Names that state dicts, optimisers, schedulers and counters are made of, and what answers for them here."""
