"""Compile a C file on first use, keep the result in the user's cache, load it."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path

from singleshot.files import cache_folder, write_atomically

FLAGS = ("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC", "-Wall", "-Werror=vla")
SWITCH = "SINGLESHOT_KERNELS"
"""Set to ``off``, this environment variable leaves all kernels aside."""

COMPILE_LIMIT_S = 120

_log = logging.getLogger(__name__)


@cache
def load(name: str, *flags: str) -> ctypes.CDLL | None:
    """The compiled form of ``name.c``, or ``None`` where it cannot be had: no compiler, another system, switched off.

    The file in the cache is named by a hash of the source, the flags and the processor, so that a home folder shared by
    different machines is safe. A file that others may write is not loaded.

    Args:
        name: of the C file in this package, without its suffix.
        flags: for the compiler, besides ``FLAGS``.
    """
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "false", "no") or os.name != "posix":
        return None
    source = files(__package__).joinpath(f"{name}.c").read_bytes()
    try:
        path = _compiled(name, source, (*FLAGS, *flags))
        return None if path is None else ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        _log.info("kernel %s is not used: %s", name, error)
        return None


def _compiled(name: str, source: bytes, flags: tuple[str, ...]) -> Path | None:
    """The library's path in the cache, where it is compiled to if it is not there; ``None`` without a compiler."""
    identity = hashlib.sha256(b"\0".join([source, " ".join(flags).encode(), _processor().encode()])).hexdigest()[:32]
    path = cache_folder() / "kernels" / f"{name}-{identity}.so"
    if not path.exists():
        compiler = shlex.split(os.environ.get("CC", "cc"))
        if not compiler or shutil.which(compiler[0]) is None:
            _log.info("kernel %s is not used: no C compiler", name)
            return None
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / path.name
            command = [*compiler, *flags, "-x", "c", "-", "-o", str(output), "-lm"]
            result = subprocess.run(command, input=source, capture_output=True, timeout=COMPILE_LIMIT_S, check=False)
            if result.returncode:
                reason = result.stderr.decode(errors="replace").strip()[:500]
                _log.info("kernel %s is not used: it does not compile here: %s", name, reason)
                return None
            write_atomically(path, output.read_bytes(), mode=0o600)
    status = path.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        _log.warning("%s is not loaded: others may have written it; remove it", path)
        return None
    return path


@cache
def processor_flags() -> frozenset[str]:
    """What the processor can do, in Linux's words (``avx512f``, ``amx_bf16``, ``asimd``); empty elsewhere."""
    lines = [line.split() for line in _cpuinfo().splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(lines[0]) if lines else frozenset()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processor() -> str:
    """What code compiled for "this processor" depends on."""
    names = sorted({line for line in _cpuinfo().splitlines() if line.startswith("model name")})
    text = f"{platform.system()} {platform.machine()} {platform.processor()}"
    return "\n".join([text, *names, *sorted(processor_flags())])
