"""Checks of cases about services: threads, thresholds, copies, caches and kernels."""

from __future__ import annotations

import io
import json
import os
import resource
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from singleshot.detector import load
from singleshot.errors import WeightsError
from singleshot.export import compiled
from singleshot.export.cache import file_sha256
from singleshot.export.int8_file import int8_path
from singleshot.export.package import read_package
from singleshot.weights.bundled import bundled_path


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a case's folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


def quick_compiler(folder: Path) -> str:
    """A command that compiles without optimising, for what is run once from an empty cache."""
    script = folder / "quick-cc"
    script.write_text('#!/bin/sh\nexec cc "$@" -O0\n')
    script.chmod(0o755)
    return str(script)


def run_here(folder: Path, *arguments: str, **environment: str) -> str:
    """Run a case's ``run.py`` within this process; what it printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["run.py", *arguments])
        for name, value in environment.items():
            patch.setenv(name, value)
        runpy.run_path("run.py", run_name="__main__")
    return printed.getvalue()


def pickle_after_predict(folder: Path) -> None:
    for backend in ("torch", "openvino"):  # ONNX with a smaller network in tests/backends/test_engines.py
        run_here(folder, backend)


def threads_first_call(folder: Path) -> None:
    for backend in ("torch", "openvino"):
        done = run(folder, "run.py", backend, "cat.jpg", CC=quick_compiler(folder))
        assert done.returncode == 0, done.stdout + done.stderr


COUNTED = """
import sys
import singleshot
from singleshot.export import conversion
from singleshot.runtime import engines, source

model, backend, made = singleshot.load("coco"), sys.argv[1], []
if len(sys.argv) > 2:
    model.network
model.predict("cat.jpg", 0.4, backend=backend)
build, converted = engines.build_engine, conversion.convert_network
engines.build_engine = lambda *args: made.append(1) or build(*args)
source.convert_network = conversion.convert_network = lambda *args: made.append(2) or converted(*args)
for score in [0.5, 0.4] * 3:
    model.predict("cat.jpg", score, backend=backend)
sys.exit(len(made))
"""


def threshold_of_each_call(folder: Path) -> None:
    for arguments in (("openvino", "touch"), ("torch", "touch")):
        done = run(folder, "-c", COUNTED, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)


def threads_thresholds_race(folder: Path) -> None:
    root = os.environ.get("SINGLESHOT_REFERENCE", "../shared")
    for backend in ("torch", "openvino"):
        printed = run_here(folder, backend, "3", SHARED=str(Path(root).absolute()))
        assert f"{backend} ok 24 errors 0" in printed


def compiled_cache_damaged(folder: Path) -> None:
    for path in folder.glob("*.int8.openvino"):
        with pytest.raises(WeightsError, match=path.name):
            read_package(path)
    weights, converted = bundled_path("coco"), read_package(int8_path(bundled_path("coco")))
    made: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SINGLESHOT_CACHE", str(folder / "cache"))
        patch.setattr(compiled, "convert_file", lambda kind, path: made.append(path) or converted)
        entry = converted.save(compiled._cached(weights, "openvino"))
        place = zipfile.ZipFile(entry).getinfo("model.xml").header_offset + 1039
        content = bytearray(entry.read_bytes())
        content[place : place + 40] = bytes(byte ^ 255 for byte in content[place : place + 40])
        entry.write_bytes(content)
        assert compiled.compiled_file("openvino", weights).parts == converted.parts
        assert made == [weights]
        assert compiled.compiled_file("openvino", weights).parts == converted.parts
        assert made == [weights]
    assert read_package(entry).parts == converted.parts


def int8_file_bomb(folder: Path) -> None:
    weights = Path(shutil.copy(bundled_path("coco"), folder / "x.safetensors"))
    old = zipfile.ZipFile(int8_path(bundled_path("coco")))
    info = json.loads(old.read("info.json")) | {"quantization": {}, "weights_sha256": file_sha256(weights)}
    bomb = zipfile.ZipInfo("model.bin")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(int8_path(weights), "w") as archive:
        archive.writestr("info.json", json.dumps(info))
        for name in ("anchors.npy", "model.xml"):
            archive.writestr(name, old.read(name))
        with archive.open(bomb, "w", force_zip64=True) as file:
            for _ in range(300):
                file.write(bytes(1 << 20))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"model\.bin would have"):
        read_package(int8_path(weights))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000
    with pytest.raises(WeightsError, match="quantize"):
        load(weights).predictor(backend="openvino", precision="int8")


def kernel_cache(folder: Path) -> None:
    cache = folder / "cache"
    # The network is converted already: this is about kernels.
    weights = bundled_path("coco")
    compiled.compiled_file("openvino", weights).save(cache / "compiled" / compiled._cached(weights, "openvino").name)
    variables = {"SINGLESHOT_CACHE": str(cache), "CC": quick_compiler(folder)}
    first = run(folder, "-m", "singleshot", "predict", "a.jpg", "--backend", "openvino", **variables)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("Compiling kernels") == 1
    kernels = sorted((cache / "kernels").glob("*.so"))
    assert kernels
    assert (cache / "kernels").stat().st_mode & 0o777 == 0o700
    for path, content in zip(kernels, (None, b"", b"nonsense" * 1000, None), strict=False):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    load_all = (
        "import sys; from singleshot.kernels import detect, prepare, resample, resize;"
        "prepare(); sys.exit(not (detect.is_compiled() and resample.has_kernel() and resize.has_kernel()))"
    )
    second = run(folder, "-c", load_all, **variables)
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("is not used: is damaged") == len(kernels)
    third = run(folder, "-c", load_all, **variables)
    assert (third.returncode, third.stderr) == (0, "")
    (cache / "kernels").chmod(0o777)
    refused = run(folder, "-c", load_all, **variables)
    assert refused.returncode == 1
    assert refused.stderr.count("others may write") == 1


CASES: dict[str, Callable[[Path], None]] = {
    "cases-predict/pickle-after-predict": pickle_after_predict,
    "cases-predict/threads-first-call": threads_first_call,
    "cases-predict/threshold-of-each-call": threshold_of_each_call,
    "cases-trust/compiled-cache-damaged": compiled_cache_damaged,
    "cases-trust/int8-file-bomb": int8_file_bomb,
    "cases-trust/kernel-cache": kernel_cache,
    "cases-trust/threads-thresholds-race": threads_thresholds_race,
}
