"""A digest at the end of an exported file, of all that lies before it.

What runs such a file trusts what it says blindly: a damaged size is memory without end, a damaged index a crash. So a
file that is not what it was when it was exported is refused before it reaches a runtime. Files without a seal (of
versions before there was one, or foreign) are only looked through.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from singleshot.errors import WeightsError
from singleshot.interop.wire.protobuf import write_field

KEY = "singleshot_sha256"
_METADATA = 14
"""Field of an ONNX model; entries may stand anywhere in it."""
_COMMENT = "<!-- {} {} -->\n"


def seal_onnx(model: bytes) -> bytes:
    """A serialised ONNX model and, as its last entry of metadata, its digest."""
    return model + _onnx_seal(hashlib.sha256(model).hexdigest())


def check_onnx(model: memoryview, path: Path) -> None:
    """Compare a model that has a seal with it.

    Raises:
        WeightsError: it is another's.
    """
    size = len(model) - len(_onnx_seal("0" * 64))
    if size < 0 or model[size:] != _onnx_seal(hashlib.sha256(model[:size]).hexdigest()):
        raise WeightsError(
            f"{path}: is not what its digest says: damaged, or changed since it was exported: export it again, or "
            f"remove its metadata '{KEY}' if you changed it"
        )


def seal_openvino(path: Path) -> None:
    """Put the digest of an IR and of its numbers behind its XML."""
    text = path.read_bytes()
    path.write_bytes(text + _openvino_seal(text, path))


def check_openvino(text: bytes, path: Path) -> None:
    """Compare an IR that has a seal with it.

    Args:
        text: of the XML.
        path: the file; its numbers lie beside it.

    Raises:
        WeightsError: it is another's.
    """
    start = text.rfind(f"<!-- {KEY}".encode())
    if start >= 0 and text[start:] != _openvino_seal(text[:start], path):
        raise WeightsError(
            f"{path}: it or its numbers are not what its digest says: damaged, or changed since it was exported: "
            "export it again, or remove its last line if you changed it"
        )


def _onnx_seal(digest: str) -> bytes:
    return write_field(_METADATA, write_field(1, KEY.encode()) + write_field(2, digest.encode()))


def _openvino_seal(text: bytes, path: Path) -> bytes:
    digest = hashlib.sha256(text)
    with path.with_suffix(".bin").open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return _COMMENT.format(KEY, digest.hexdigest()).encode()
