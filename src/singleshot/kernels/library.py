"""Compile C files on first use, keep the results in the user's cache, load them.

A compiled file is loaded only from a folder that nobody else may write, and only if it is what was once written: the
digest of its content is part of its name.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import shlex
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from singleshot.core.files import cache_folder, write_atomically

FLAGS = ("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC", "-Wall", "-Werror=vla")
SWITCH = "SINGLESHOT_KERNELS"
"""Set to ``off``, this environment variable leaves all kernels aside."""

COMPILE_LIMIT_S = 180
RETRY_AFTER_S = 24 * 3600
"""A compiler that failed is tried again after this time, or when it, the source or the processor is another."""

MAX_BYTES = 2**24


_log = logging.getLogger(__name__)
_said: dict[str, object] = {}
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_locks.clear)


class KernelError(Exception):
    """Why a kernel cannot be had."""


def load(name: str, *flags: str, functions: tuple[str, ...] = ()) -> ctypes.CDLL | None:
    """The compiled form of ``name.c``, or ``None`` where it cannot be had: no compiler, another system, switched off.

    The first time in a process that something is compiled, a line at level INFO says so before. The first time that
    something cannot be had, a line says why: at level WARNING, or INFO where there is just no compiler.

    Args:
        name: of the C file in this package, without its suffix.
        flags: for the compiler, besides ``FLAGS``.
        functions: what the library must offer.
    """
    with _locks[name]:
        return _load(name, flags, functions)


@cache
def _load(name: str, flags: tuple[str, ...], functions: tuple[str, ...]) -> ctypes.CDLL | None:
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "false", "no") or os.name != "posix":
        return None
    folder = cache_folder() / "kernels"
    try:
        source = files(__package__).joinpath(f"{name}.c").read_bytes()
        wanted = _Kernel(name, source, (*FLAGS, *flags), functions)
        with _safe(folder) as pinned:
            return _find(pinned, wanted) or _compile_once(pinned, wanted)
    except (OSError, KernelError) as error:
        reason = re.sub(r"/proc/self/fd/\d+", lambda _: str(folder), f"{name}: {error}")
        _say(logging.WARNING, "slower code runs in place of compiled kernels", reason)
        return None


def _say(level: int, what: str, why: str = "") -> None:
    """A line, the first time in this process; at level DEBUG from then on."""
    mine = object()
    is_first = _said.setdefault(what, mine) is mine  # in one step: several kernels are compiled at the same time
    _log.log(level if is_first else logging.DEBUG, "%s (%s)" if why else "%s%s", what, why)


class _Kernel(NamedTuple):
    """A kernel as it is wanted here.

    Attributes:
        name, source, flags, functions: as in `load`; all flags.
    """

    name: str
    source: bytes
    flags: tuple[str, ...]
    functions: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Digest of everything that compiled code depends on, but for the compiler."""
        return _digest(self.source, " ".join(self.flags).encode(), _processor().encode())[:32]


class _Compiler(NamedTuple):
    """A C compiler: its command, and a digest that another version has not."""

    command: tuple[str, ...]
    identity: str


@contextmanager
def _safe(folder: Path) -> Iterator[Path]:
    """A folder that only this user and root may write, made if need be; held, so that no other can take its place.

    Raises:
        KernelError: it is a link, or others may write it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KernelError(
            f"{folder} cannot be made ({error.strerror}): set SINGLESHOT_CACHE to a folder that can"
        ) from error
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(f"{folder} is no folder, or a link ({error.strerror}): remove it") from error
    try:
        status = os.fstat(handle)
        if _is_foreign(status):
            raise KernelError(f"others may write {folder}: remove it, or set SINGLESHOT_CACHE to a folder of your own")
        pinned = Path(f"/proc/self/fd/{handle}")
        yield pinned if pinned.exists() else folder
    finally:
        os.close(handle)


def _is_foreign(status: os.stat_result) -> bool:
    """Whether others than this user and root own or may write a file."""
    return status.st_uid not in (os.geteuid(), 0) or bool(status.st_mode & 0o022)


def _find(folder: Path, kernel: _Kernel) -> ctypes.CDLL | None:
    """What was compiled before, by today's compiler if there is one; what is damaged is removed."""
    compiler = _compiler()
    suffix = f"{compiler.identity}-*.so" if compiler else "*.so"
    for path in sorted(folder.glob(f"{kernel.name}-{kernel.identity}-{suffix}")):
        try:
            content = _read(path)
            if _digest(content)[:32] != path.stem.rsplit("-", 1)[1]:
                raise KernelError("is damaged")
            return _opened(path, kernel)
        except (OSError, KernelError) as error:
            _log.warning("the compiled kernel %s is not used: %s", path.name, str(error).replace(str(path), "it"))
        with suppress(OSError):
            path.unlink()
    return None


def _read(path: Path) -> bytes:
    """A file that only this user may have written; no link is followed."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise KernelError("is no compiled kernel")
        if _is_foreign(status):
            raise KernelError("others may have written it")
        return file.read()


def _opened(path: Path, kernel: _Kernel) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for function in kernel.functions:
        if not hasattr(library, function):
            raise KernelError(f"it has no function '{function}'")
    return library


def _compile_once(folder: Path, kernel: _Kernel) -> ctypes.CDLL | None:
    """Compile, keep and load a kernel; a failure is noted, so that later processes do not try again for a day."""
    compiler = _compiler()
    if compiler is None:
        _say(logging.INFO, "no C compiler: slower code runs in place of compiled kernels", "see docs/backends.md")
        return None
    note = folder / f"{kernel.name}-{kernel.identity}-{compiler.identity}.failed"
    failure = _noted(note)
    if failure is not None:
        raise KernelError(f"{failure}; once the compiler is mended, remove {note}")
    if not os.access(folder, os.W_OK):
        raise KernelError(f"{folder} cannot be written: set SINGLESHOT_CACHE to a folder that can")
    _say(logging.INFO, "Compiling kernels for this processor (once, some seconds) ...")
    try:
        return _compile(folder, kernel, compiler)
    except (OSError, KernelError) as error:
        with suppress(OSError):
            write_atomically(note, str(error), mode=0o600)
        raise


def _noted(note: Path) -> str | None:
    """Why it could not be compiled a short while ago."""
    try:
        age_s = time.time() - note.lstat().st_mtime
        return _read(note).decode(errors="replace")[:500] if 0 <= age_s < RETRY_AFTER_S else None
    except (OSError, KernelError):
        return None


def _compile(folder: Path, kernel: _Kernel, compiler: _Compiler) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "kernel.so"
        _run([*compiler.command, *kernel.flags, "-x", "c", "-", "-o", str(output), "-lm"], kernel.source)
        try:
            content = _read(output)
        except FileNotFoundError:
            content = b""
    if not _is_whole(content):
        raise KernelError(f"{compiler.command[0]} wrote no library")
    path = folder / f"{kernel.name}-{kernel.identity}-{compiler.identity}-{_digest(content)[:32]}.so"
    write_atomically(path, content, mode=0o600)
    try:
        return _opened(path, kernel)
    except (OSError, KernelError) as error:
        path.unlink(missing_ok=True)
        raise KernelError(f"what {compiler.command[0]} wrote cannot be loaded") from error


def _run(command: list[str], source: bytes) -> None:
    """Run a compiler; it and what it started are ended when it takes too long.

    Raises:
        KernelError: it fails.
    """
    with tempfile.TemporaryFile() as code, tempfile.TemporaryFile() as messages:
        code.write(source)
        code.seek(0)
        process = subprocess.Popen(
            command, stdin=code, stdout=subprocess.DEVNULL, stderr=messages, start_new_session=True
        )
        try:
            status = process.wait(COMPILE_LIMIT_S)
        except BaseException as error:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise KernelError(f"{command[0]} took more than {COMPILE_LIMIT_S} s") from None
            raise
        messages.seek(0)
        text = messages.read(20_000).decode(errors="replace").strip()
    if status:
        lines = [line for line in text.splitlines() if "error" in line] or text.splitlines() or [f"status {status}"]
        raise KernelError(f"{command[0]}: {lines[0][:300]}")


def _is_whole(content: bytes) -> bool:
    """Whether a library is as long as its header says: to touch a page beyond its end would end the process."""
    if platform.system() != "Linux" or content[:6] in (b"\x7fELF\1\1", b"\x7fELF\1\2", b"\x7fELF\2\2"):
        return len(content) > 64  # the header of these is not known here
    if content[:6] != b"\x7fELF\2\1" or len(content) < 64:
        return False
    (start,), (size, count) = struct.unpack_from("<Q", content, 32), struct.unpack_from("<HH", content, 54)
    if size < 56 or start + size * count > len(content):
        return False
    segments = [struct.unpack_from("<8xQ16xQ", content, start + size * index) for index in range(count)]
    return all(offset + length <= len(content) for offset, length in segments)


def _compiler() -> _Compiler | None:
    """What ``CC`` names, else ``cc``; ``None`` where it is not there. Known by its files: asking it would take time."""
    command = shlex.split(os.environ.get("CC", "cc"))
    if not command or shutil.which(command[0]) is None:
        return None
    programs = [os.path.realpath(program) for word in command if (program := shutil.which(word)) is not None]
    versions = [f"{path} {os.stat(path).st_size} {os.stat(path).st_mtime_ns}" for path in programs]
    return _Compiler(tuple(command), _digest(" ".join(command).encode(), *map(str.encode, versions))[:12])


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


@cache
def processor_flags() -> frozenset[str]:
    """What the processor can do, in Linux's words (``avx512f``, ``amx_bf16``, ``asimd``); empty elsewhere."""
    lines = [line.split() for line in _cpuinfo().splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(lines[0]) if lines else frozenset()


@cache
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processor() -> str:
    """What code compiled for "this processor" depends on; where that is not known, which machine this is."""
    names = ("model name", "CPU implementer", "CPU architecture", "CPU variant", "CPU part")
    lines = sorted({line for line in _cpuinfo().splitlines() if line.startswith(names)})
    text = f"{platform.system()} {platform.machine()} {platform.processor()}"
    return "\n".join([text, *(lines or [platform.node()]), *sorted(processor_flags())])
