"""The registry of importers: light, and open to other packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_caffe import BODY, SHAPES, random_blobs, small_net, write
from typer.testing import CliRunner

import singleshot
from singleshot.cli import app
from singleshot.core.registry import Registry
from singleshot.errors import WeightsError
from singleshot.interop import read as reading
from singleshot.interop.fill import Part, fill
from singleshot.interop.importers import IMPORTERS, ForeignFile, Importer
from singleshot.interop.read import read_foreign
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec

THEIRS = """
import torch
from singleshot.interop.fill import Part, fill
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec


class Importer:
    name, description, takes_size = "walnut", "a walnut (.walnut)", False

    def recognises(self, file):
        return file.path.suffix == ".walnut"

    def read(self, file, size_hw):
        spec = model_spec("ssdlite300_mobilenet_v2", ["nut"])
        numbers = {f"nut/{name}": value for name, value in build_network(spec.network).state_dict().items()}
        parts = {name.removeprefix("nut/"): Part(value, name) for name, value in numbers.items()}
        return fill(spec, parts, numbers, self.name, file.path)


importer = Importer()
"""


def test_an_importer_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "walnuts.py").write_text(THEIRS)
    info = tmp_path / "walnuts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: walnuts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[singleshot.importers]\nwalnut = walnuts:importer\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(IMPORTERS, "_entries", None)
    monkeypatch.setattr(IMPORTERS, "_loaded", {})
    monkeypatch.chdir(tmp_path)
    Path("big.walnut").write_text("crack me")
    result = CliRunner().invoke(app, ["import", "big.walnut", "--out", "big.safetensors"])
    assert result.exit_code == 0, result.output
    assert singleshot.load("big.safetensors").class_names == ("nut",)
    assert singleshot.import_weights("big.walnut", "walnut").spec.name == "ssdlite300_mobilenet_v2"
    Path("big.txt").write_text("no walnut")
    with pytest.raises(WeightsError, match=r"not recognised[\s\S]*a walnut \(\.walnut\)"):
        singleshot.import_weights("big.txt")


def test_a_caffe_file_loads_no_other_system(tmp_path: Path) -> None:
    path = write(tmp_path, small_net(BODY, "c"), random_blobs(**SHAPES))
    code = (
        "import sys; from singleshot.interop.read import read_foreign; read_foreign(sys.argv[1]);"
        "print([m for m in sys.modules if m.startswith('singleshot.interop.') and m.split('.')[2] in "
        "('mxnet', 'tensorflow', 'pytorch')])"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_every_importer_has_its_name_and_its_module(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for name in IMPORTERS:
        importer = IMPORTERS.get(name)
        assert importer.name == name
        assert not importer.recognises(ForeignFile(tmp_path))
        assert not importer.recognises(ForeignFile(tmp_path / "empty"))
        assert callable(getattr(importer, "translate", importer.read))


def test_fill_lists_what_does_not_fit() -> None:
    spec = model_spec("ssdlite300_mobilenet_v2", ["nut"])
    own = build_network(spec.network).state_dict()
    parts = {name: Part(value, f"their {name}") for name, value in own.items()}
    given = [f"their {name}" for name in own] + ["more"]
    _, state, report = fill(spec, parts, given, "x", "file", ["note"])
    assert all(torch.equal(state[name], own[name]) for name in own)
    assert (len(report.mapped), report.left_over, report.notes) == (len(own), ("more",), ("note",))
    first, second, third, *_ = (name for name in own if name.endswith("weight"))
    del parts[first]
    parts[second] = Part(torch.zeros(3, 5), "theirs")
    parts[third] = Part(torch.full_like(own[third], torch.nan), "theirs, too")
    parts["surplus"] = Part(torch.zeros(1), "one too many")
    with pytest.raises(WeightsError) as caught:
        fill(spec, parts, given, "x", "file", hint="perhaps it is another")
    for text in (
        f"{first}: missing", f"{second}: 'theirs' is (3, 5) in shape, needed", "'theirs, too' holds numbers that are",
        "surplus: 'one too many' is (1,) in shape, and has no place", "; perhaps it is another",
    ):  # fmt: skip
        assert text in str(caught.value)


class _Broken:
    """An importer whose reader has a hole."""

    name = description = "broken"
    takes_size = False

    def __init__(self, error: Exception) -> None:
        self.error = error

    def recognises(self, file: ForeignFile) -> bool:
        return True

    def read(self, file: ForeignFile, size_hw: None) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), IndexError(), OverflowError("large"), RecursionError(), TypeError(), MemoryError(), EOFError()],
)
def test_what_no_reader_had_foreseen_names_the_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    broken: Registry[Importer] = Registry("importer", {})
    broken.register("broken")(_Broken(error))
    monkeypatch.setattr(reading, "IMPORTERS", broken)
    with pytest.raises(WeightsError, match=rf"x\.bin: damaged, or another kind of network: {type(error).__name__}"):
        read_foreign(tmp_path / "x.bin", "broken")
