"""Exported files are told by their content; damaged, foreign and absurd ones are one error each, before any is run."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from singleshot.errors import WeightsError
from singleshot.export.info import ANCHORS_KEY, KEY
from singleshot.export.onnx_contents import read_contents
from singleshot.export.onnx_reader import OnnxReader
from singleshot.export.readers import READERS, exported_kind, read_exported
from singleshot.export.seal import seal_onnx, seal_openvino
from singleshot.models.catalogue import model_spec

onnx = pytest.importorskip("onnx")

SPEC = model_spec("ssdlite300_mobilenet_v2", ["cat", "dog"])


def describe(**changes: object) -> dict[str, str]:
    from singleshot.export.info import ExportInfo, to_metadata

    settings: dict[str, Any] = {"kind": "onnx", "level": "raw", "spec": SPEC} | changes
    return to_metadata(ExportInfo(**settings), np.ones((4, 4), dtype=np.float32))


def model(texts: dict[str, str], inputs: Any = None, outputs: Any = None, weights: Any = None) -> Any:
    """A graph that only says what it takes and gives, with one constant."""
    info, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    inputs = inputs or [info("images", float32, ["batch", 3, 300, 300])]
    outputs = outputs or [info(name, float32, None) for name in ("box_codes", "class_logits")]
    weights = weights or [onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")]
    made = onnx.helper.make_model(onnx.helper.make_graph([], "g", inputs, outputs, weights))
    for key, text in texts.items():
        made.metadata_props.add(key=key, value=text)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def test_an_onnx_file_says_what_it_is(path: Path) -> None:
    path.write_bytes(model(describe(score=0.5)).SerializeToString())
    file = read_exported(path)
    assert file is not None
    assert (file.kind, file.info.level, file.info.score, file.backends) == ("onnx", "raw", 0.5, ("onnx", "openvino"))
    assert file.anchors_cxcywh.tolist() == np.ones((4, 4)).tolist()
    assert file.spec == SPEC
    contents = read_contents(path)
    assert contents.initializers == {"w"}
    assert contents.fed[0].shape == (0, 3, 300, 300)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x08", b"{}", b"\x89PNG\r\n", b"PK\x03\x04", b"\x12\x01\x00\x00" * 4, b"\x0a\x03net", struct.pack("<Q", 8)],
)
def test_other_files_are_none(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    assert exported_kind(path) is None


def external(location: str, offset: int = 0, sides: tuple[int, ...] = (2, 3)) -> Any:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=sides, data_location=1)
    for key, value in (("location", location), ("offset", str(offset))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def absurd(sides: tuple[int, ...]) -> Any:
    return onnx.TensorProto(name="w", data_type=1, dims=sides, raw_data=b"1234")


ours = describe()
f32, value_info = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: model(ours, weights=[absurd((2**20, 2**20))]), "the size of 'w' does not fit its shape"),
        (lambda: model(ours, weights=[absurd((2**40,))]), "'w' claims impossible sizes"),
        (lambda: model(ours, weights=[absurd((-1,))]), "'w' claims impossible sizes"),
        (lambda: model(ours, weights=[absurd((2,))]), "the size of 'w' does not fit its shape"),
        (lambda: model(ours, weights=[external("../secret")]), "wants numbers from '../secret', outside its folder"),
        (lambda: model(ours, weights=[external("/etc/passwd")]), "wants numbers from '/etc/passwd', outside its"),
        (lambda: model(ours, weights=[external("numbers")]), "numbers, which is not there: put it beside"),
        (lambda: model(ours, weights=[external("there", 999)]), "does not fit into .*there: truncated or damaged"),
        (lambda: model({}), "not of singleshot, and takes images and gives box_codes, class_logits: only graphs that"),
        (lambda: model({KEY: "{}"}), "its description is damaged"),
        (lambda: model({KEY: ours[KEY]}), "its default boxes are damaged"),
        (lambda: model({KEY: ours[KEY], ANCHORS_KEY: "AAAA"}), "its default boxes are damaged"),
        (lambda: model(describe(level="decoded")), "where level decoded has boxes, scores"),
        (lambda: model(ours, inputs=[value_info("a", f32, [1, 3, 64, 64])]), r"its input \(1, 3, 64, 64\) is not the"),
        (lambda: model(ours, inputs=[value_info("a", f32, None)]), r"its input \(\) is not the"),
        (lambda: model(ours, inputs=[value_info(n, f32, [1, 3, 300, 300]) for n in "ab"]), "takes 2 inputs in place"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_onnx_file_is_said(made: Any, message: str, path: Path) -> None:
    (path.parent / "there").write_bytes(bytes(24))
    path.write_bytes(made().SerializeToString())
    with pytest.raises(WeightsError, match=message) as caught:
        read_exported(path)
    assert str(path) in str(caught.value)


def test_numbers_in_a_file_beside_are_no_mistake(path: Path) -> None:
    (path.parent / "there").write_bytes(bytes(24))
    path.write_bytes(model(ours, weights=[external("there")]).SerializeToString())
    assert read_exported(path) is not None


def test_a_file_that_is_cut_off_anywhere_is_an_error(path: Path) -> None:
    whole = model(ours).SerializeToString()
    for cut in (*range(3, 120), *range(120, len(whole), len(whole) // 50)):
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError):
            read_exported(path)


def test_an_absurdly_large_file_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"\x08\x08\x12\x00")
        file.truncate(2**31 + 1)
    with pytest.raises(WeightsError, match=r"2,147,483,649 bytes; an ONNX file has at most"):
        read_exported(path)


IR = """<?xml version="1.0"?>
<net name="m" version="11"><layers>
<layer id="0" name="c" type="Const"><data element_type="f32" shape="2, 3" offset="0" size="24"/></layer>
<layer id="1" name="r" type="Result" output_names="box_codes"/>
<layer id="2" name="s" type="Result" output_names="class_logits"/>
</layers><edges/><rt_info>{texts}</rt_info></net>
"""


@pytest.fixture
def xml(tmp_path: Path) -> Path:
    from xml.sax.saxutils import quoteattr

    texts = "".join(f"<{key} value={quoteattr(text)}/>" for key, text in describe(kind="openvino").items())
    (tmp_path / "model.bin").write_bytes(bytes(24))
    path = tmp_path / "model.xml"
    path.write_text(IR.format(texts=texts))
    return path


def test_an_ir_says_what_it_is(xml: Path) -> None:
    file = read_exported(xml)
    assert file is not None
    assert (file.kind, file.backends, file.spec) == ("openvino", ("openvino",), SPEC)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('offset="0"', 'offset="8"', r"model.bin: truncated: 24 bytes, 32 promised"),
        ('shape="2, 3"', 'shape="20000, 30000"', "constant 'c' does not have the size of its shape"),
        ('shape="2, 3"', 'shape="-2, -3"', "constant 'c' does not have the size of its shape"),
        ('offset="0"', 'offset="x"', "a damaged description of a constant"),
        ("box_codes", "boxes", "gives boxes, class_logits, not box_codes, class_logits"),
        ("</rt_info>", "", "damaged or truncated XML"),
        ("<singleshot ", "<another ", "not exported by singleshot"),
        ('<?xml version="1.0"?>', '<!DOCTYPE a [<!ENTITY b "c">]>', None),
        ('<?xml version="1.0"?>', '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>', "damaged or truncated XML"),
    ],
)
def test_what_is_wrong_with_an_ir_is_said(old: str, new: str, message: str | None, xml: Path) -> None:
    text = xml.read_text()
    assert old in text
    xml.write_text(text.replace(old, new, 1))
    if message is None:
        assert exported_kind(xml) is None
        return
    with pytest.raises(WeightsError, match=message):
        read_exported(xml)


def test_an_ir_without_its_numbers(xml: Path) -> None:
    xml.with_suffix(".bin").unlink()
    with pytest.raises(WeightsError, match=r"its numbers are missing: put model.bin beside it"):
        read_exported(xml)


def test_a_sealed_onnx_file_is_what_was_exported(path: Path) -> None:
    whole = seal_onnx(model(ours).SerializeToString())
    path.write_bytes(whole)
    assert read_exported(path) is not None
    numbers = whole.index(np.arange(6, dtype=np.float32).tobytes())
    for place in (numbers, numbers + 23, len(whole) - 1, len(whole) - 60):  # all of which are well-formed
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(WeightsError, match=r"model.onnx: is not what its digest says: damaged, or changed"):
            read_exported(path)
    changed = onnx.load_from_string(whole)
    changed.graph.name = "another"
    path.write_bytes(changed.SerializeToString())
    with pytest.raises(WeightsError, match="remove its metadata 'singleshot_sha256' if you changed it"):
        read_exported(path)
    changed.metadata_props.pop()
    path.write_bytes(changed.SerializeToString())
    assert read_exported(path) is not None


def test_a_sealed_ir_is_what_was_exported(xml: Path) -> None:
    plain, numbers = xml.read_bytes(), xml.with_suffix(".bin")
    seal_openvino(xml)
    sealed = xml.read_bytes()
    assert read_exported(xml) is not None
    numbers.write_bytes(bytes(23) + b"\1")
    with pytest.raises(WeightsError, match=r"model.xml: it or its numbers are not what its digest says: damaged"):
        read_exported(xml)
    numbers.write_bytes(bytes(24))
    for content in (sealed.replace(b'name="m"', b'name="n"'), sealed + b" ", sealed[:-9] + b" -->"):
        xml.write_bytes(content)
        with pytest.raises(WeightsError, match="remove its last line if you changed it"):
            read_exported(xml)
    xml.write_bytes(plain)
    assert read_exported(xml) is not None


@pytest.mark.parametrize("name", list(READERS))
def test_readers_import_no_package(name: str) -> None:
    reader = READERS.get(name)
    assert not reader.recognises(Path("none"), b"")
    assert isinstance(OnnxReader().backends, tuple)
