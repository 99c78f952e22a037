"""Damaged compiled networks: every one is named, none takes more memory than a whole one would."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from singleshot.errors import WeightsError
from singleshot.export import package as module
from singleshot.export.package import Package, PackageInfo, read_info, read_package
from singleshot.models.catalogue import model_spec
from torture.damage import flip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A package of kind ``openvino`` with packed parts."""
    info = PackageInfo(kind="openvino", spec=model_spec("ssd300_vgg16", ("a", "b")), quantized=True)
    anchors = np.arange(40, dtype=np.float32).reshape(10, 4)
    parts = (b"<net>" + b"layer " * 300 + b"</net>", bytes(range(256)) * 20)
    return Package(info, anchors, parts).save(tmp_path_factory.mktemp("package") / "p").read_bytes()


def rebuilt(whole: bytes, **changes: bytes | None) -> bytes:
    """The package with other parts (``_`` stands for the dot) under right checksums; ``None`` leaves one out."""
    old, buffer = zipfile.ZipFile(io.BytesIO(whole)), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in old.namelist():
            part = changes.get(name.replace(".", "_"), old.read(name))
            if part is not None:
                archive.writestr(name, part)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def without_digests(whole: bytes) -> bytes:
    info = json.loads(zipfile.ZipFile(io.BytesIO(whole)).read("info.json"))
    return json.dumps(info | {"parts_sha256": {}}).encode()


def test_any_flipped_byte_is_an_error_or_changes_nothing(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(whole)
    right = read_package(path)
    random, refused = Random(0), 0
    for _ in range(200):
        path.write_bytes(flip(whole, random, ()))
        try:
            found = read_package(path)
        except WeightsError:
            refused += 1
        else:
            assert found.parts == right.parts
            assert np.array_equal(found.anchors_cxcywh, right.anchors_cxcywh)
    assert refused > 100


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_cut_files(whole: bytes, tmp_path: Path, share: float) -> None:
    path = tmp_path / "p"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsError, match="damaged") as caught:
        read_package(path)
    assert str(path) in str(caught.value)


HEADERS = {
    "of another shape": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10, 3), }", bytes(120)),
    "huge": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 4), }", bytes(160)),
    "negative": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-10, 4), }", bytes(160)),
    "empty": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (10, 4), }", bytes(160)),
    "doubles": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10, 4), }", bytes(320)),
    "in columns": npy("{'descr': '<f4', 'fortran_order': True, 'shape': (10, 4), }", bytes(160)),
    "short": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10, 4), }", bytes(100)),
    "not finite": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), }", b"\xff" * 16),
    "no header": b"\x93NUMPY",
    "no literal": npy("{'descr': __import__('os'), 'fortran_order': False, 'shape': (10, 4), }"),
    "unclosed": npy("{'descr': ('''"),
    "nested": npy("(" * 5000),
    "nothing": b"",
}


@pytest.mark.parametrize("case", HEADERS)
def test_anchors_that_are_none(case: str, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(rebuilt(whole, anchors_npy=HEADERS[case], info_json=without_digests(whole)))
    with pytest.raises(WeightsError, match="damaged"):
        read_package(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_bin": None}, "model.bin"),
        ({"model_bin": b"other"}, "model.bin is not what its digest says"),
        ({"info_json": b"{}"}, "damaged"),
        ({"info_json": b"[" * 100_000}, "damaged"),
        ({"info_json": b"\xff\xfe"}, "damaged"),
    ],
)
def test_other_parts(change: dict[str, bytes | None], message: str, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(rebuilt(whole, **change))
    with pytest.raises(WeightsError, match=message):
        read_package(path)


def test_files_without_digests_are_read(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(rebuilt(whole, info_json=without_digests(whole)))
    assert read_package(path).info.parts_sha256 == {}


@pytest.mark.parametrize("part", ["info_json", "anchors_npy", "model_xml", "model_bin"])
def test_a_part_that_unpacks_to_far_more_is_refused_before(
    part: str, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SMALL_BYTES", 2**14)
    path = tmp_path / "p"
    path.write_bytes(rebuilt(whole, **{part: bytes(2**22)}))
    monkeypatch.setattr(zipfile.ZipExtFile, "read", _no_more_than(2**14))
    with pytest.raises(WeightsError, match="would have 4,194,304 bytes"):
        read_package(path)


def test_a_size_that_is_a_lie_unpacks_no_further(whole: bytes, tmp_path: Path) -> None:
    """The directory says 1,000 bytes, the data hold 64 MiB of zeros."""
    bomb = rebuilt(whole, model_bin=bytes(2**26), info_json=without_digests(whole))
    lie = bomb.replace((2**26).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    path = tmp_path / "p"
    path.write_bytes(lie)
    with pytest.raises(WeightsError, match="damaged"):
        read_package(path)


def _no_more_than(limit: int) -> Callable[..., bytes]:
    whole_read = zipfile.ZipExtFile.read

    def read(self: zipfile.ZipExtFile, size: int = -1) -> bytes:
        assert 0 <= size <= limit
        return whole_read(self, size)

    return read


def test_what_is_no_file(tmp_path: Path) -> None:
    import os

    assert read_info(tmp_path / "missing") is None
    with pytest.raises(WeightsError, match="not an ordinary file"):
        read_package(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="not an ordinary file"):
        read_info(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    with pytest.raises(WeightsError, match="no such file"):
        read_info(tmp_path / "link")


def test_damage_inside_a_packed_part(whole: bytes, tmp_path: Path) -> None:
    entry = zipfile.ZipFile(io.BytesIO(whole)).getinfo("model.xml")
    content = bytearray(whole)
    for place in range(20):
        content[entry.header_offset + 39 + place] ^= 255
    path = tmp_path / "p"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged") as caught:
        read_package(path)
    assert isinstance(caught.value.__cause__, (zlib.error, zipfile.BadZipFile, ValueError))
