"""Readers of protocol buffers, .prototxt and .params: tables, then bytes that make no sense."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mxnet_writer import V1, V2, params_bytes
from wire_writer import blob, caffemodel, field, graphdef, varint

from singleshot.errors import WeightsError
from singleshot.interop.caffe.caffemodel import read_caffemodel
from singleshot.interop.mxnet.params import read_params
from singleshot.interop.tensorflow.graphdef import read_constants
from singleshot.interop.wire import protobuf
from singleshot.interop.wire.prototxt import parse_prototxt, read_prototxt

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3) - 1.5
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_prototxt_of_nothing() -> None:
    assert parse_prototxt("").entries == {}
    assert parse_prototxt("  # only a comment\n").entries == {}


def test_prototxt_values() -> None:
    message = parse_prototxt(
        """
        name: 'a' "b\\"c"  # two strings are one
        dim: 1 dim: -2, dim: 3.5e1; flag: true on: false
        list: [1, 2 ,3]
        layer { type: "X" inner: { size: .5f } }
        layer < type: MAX >
        """
    )
    assert message.text("name") == 'ab"c'
    assert message.numbers("dim") == [1, -2, 35]
    assert (message.flag("flag", False), message.flag("on", True), message.flag("absent", True)) == (True, False, True)
    assert message.numbers("list") == [1, 2, 3]
    assert [layer.text("type") for layer in message.messages("layer")] == ["X", "MAX"]
    assert message.messages("layer")[0].message("inner").number("size", 0) == 0.5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("layer {\n name: 'x'\n", "line 3: it ends within"),
        ("a: 1\n}", "line 2: '}' is no field"),
        ("a: ", "it ends where a value belongs"),
        ("a: 'x", "makes no sense"),
        ("a: }", "a value is missing"),
        ("a {" * 40, "deep"),
        ("a: [1, ", "it ends where a value belongs"),
        ("layer { a: 1 >", "'>' is no field"),
    ],
)
def test_prototxt_that_is_not_well_formed(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(source)
    with pytest.raises(WeightsError, match=message):
        read_prototxt(tmp_path / "net.prototxt")


@pytest.mark.parametrize("value", ["1e999", "-1e999"])
def test_infinity_is_no_whole_number(value: str) -> None:
    message = parse_prototxt(f"height: {value}")
    assert message.number("height", 0) == float(value)
    with pytest.raises(ValueError, match=r"'height' is -?inf, not a whole number"):
        message.integer("height", 0)


def test_a_word_is_no_number() -> None:
    with pytest.raises(ValueError, match="'pad' is 'same', not a number"):
        parse_prototxt("pad: same").number("pad", 0)


@pytest.mark.parametrize("form", ["packed", "unpacked", "legacy", "half", "double"])
@pytest.mark.parametrize("old", [False, True])
def test_caffemodel(form: str, old: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(caffemodel({"conv": [ARRAY, ARRAY[0]], "relu": []}, form, old=old))
    found = read_caffemodel(path)
    assert list(found) == ["conv"]
    np.testing.assert_array_equal(found["conv"][0].reshape(2, 3), ARRAY)
    np.testing.assert_array_equal(found["conv"][1].ravel(), ARRAY[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"\x0a\xff\xff\xff\xff\x0f", "claims"),
        (b"\xff" * 11, "more than ten bytes"),
        (b"\x0b", "wire type 3"),
        (field(1, "net"), "no layer with numbers"),
        (field(100, field(1, b"\xff\xfe") + field(7, blob(ARRAY))), "not UTF-8"),
        (field(100, field(1, "x") + field(7, field(7, field(1, 10**12)) + field(5, b"\0" * 8))), r"1000000000000"),
        (field(100, field(1, "x") + field(7, field(5, b"\0" * 7))), "7 bytes where <f4"),
        (field(100, field(1, "x") + field(7, field(7, field(1, -4)) + field(5, b"\0" * 16))), "claims the shape"),
    ],
)
def test_caffemodel_that_makes_no_sense(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_caffemodel(path)


def test_fields_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 10)
    assert len(list(protobuf.fields(memoryview(b"\x08\x01" * 10)))) == 10
    with pytest.raises(protobuf.WireError, match="more than 10 fields"):
        list(protobuf.fields(memoryview(b"\x08\x01" * 11)))


def test_graphdef(tmp_path: Path) -> None:
    path = tmp_path / "x.pb"
    path.write_bytes(graphdef({"a/weights": ARRAY, "b": np.float32([2.0])}))
    found = read_constants(path)
    assert list(found) == ["a/weights", "b"]
    np.testing.assert_array_equal(found["a/weights"], ARRAY)


def test_a_constant_of_one_number_fills_its_shape_within_reason(tmp_path: Path) -> None:
    for side, fits in ((3, True), (10**9, False)):
        tensor = field(1, 1) + field(2, field(2, field(1, side))) + varint(5 << 3 | 5) + struct.pack("<f", 2.5)
        node = field(1, "c") + field(2, "Const") + field(5, field(1, "value") + field(2, field(8, tensor)))
        (tmp_path / "x.pb").write_bytes(field(1, node))
        if fits:
            np.testing.assert_array_equal(read_constants(tmp_path / "x.pb")["c"], [2.5] * side)
        else:
            with pytest.raises(WeightsError, match="claims the shape"):
                read_constants(tmp_path / "x.pb")


@pytest.mark.parametrize("version", [0, V1, V2])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
def test_params(version: int, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "x.params"
    arrays = {"arg:conv_weight": ARRAY.astype(dtype), "aux:bn_moving_var": ARRAY[0].astype(dtype)}
    path.write_bytes(params_bytes(arrays, version))
    found = read_params(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_params_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.params").write_bytes(params_bytes({}))
    assert read_params(tmp_path / "x.params") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "claimed where 0 are left"),
        (struct.pack("<QQQ", 0x113, 0, 0), "does not begin"),
        (struct.pack("<QQQ", 0x112, 0, 10**15), "entries claimed"),
        (struct.pack("<QQQIii", 0x112, 0, 1, V2, 1, 2), "sparse"),
        (struct.pack("<QQQIii", 0x112, 0, 1, V2, 0, 99), "99 dimensions"),
        (struct.pack("<QQQIiiqiii", 0x112, 0, 1, V2, 0, 1, 10**12, 1, 0, 0), "4000000000000 bytes claimed"),
        (struct.pack("<QQQIiiqiii", 0x112, 0, 1, V2, 0, 1, -1, 1, 0, 0), "impossible shape"),
        (struct.pack("<QQQIiiqiii", 0x112, 0, 1, V2, 0, 1, 1, 1, 0, 77), "unknown type 77"),
        (params_bytes({"a": ARRAY})[:-9], "claimed|names"),
    ],
)
def test_params_that_make_no_sense(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.params").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_params(tmp_path / "x.params")


READERS: dict[str, tuple[Callable[[Path], Any], bytes]] = {
    "caffemodel": (read_caffemodel, caffemodel({"conv": [ARRAY, ARRAY[0]]})),
    "pb": (read_constants, graphdef({"a/weights": ARRAY})),
    "params": (read_params, params_bytes({"arg:a": ARRAY, "aux:b": ARRAY[0]})),
    "prototxt": (read_prototxt, b'name: "x" layer { type: "Convolution" convolution_param { pad: 1 } }'),
}


@pytest.mark.parametrize("kind", READERS)
@FUZZ
@given(data=st.data())
def test_any_bytes_give_one_error_and_little_memory(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    read, good = READERS[kind]
    if data.draw(st.booleans()):
        content = data.draw(st.binary(max_size=200))
    else:
        damaged = bytearray(good)
        for _ in range(data.draw(st.integers(1, 5))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        content = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    path = tmp_path / f"x.{kind}"
    path.write_bytes(content)
    message = path.name
    tracemalloc.start()
    try:
        read(path)
    except WeightsError as error:
        message = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert path.name in message
    assert peak < 8_000_000
