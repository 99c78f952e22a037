"""Which device computes: what the user asked for, or the GPU where there is one."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from singleshot.core.lazy import has_torch, lazy_module
from singleshot.errors import ConfigError

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")


DEVICES = "auto, cpu, cuda, cuda:1, mps"

# What the drivers of NVIDIA (on Linux and in WSL) and AMD make; Windows has the command on its path.
_DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def check_device(name: str) -> str:
    """A device's name as it can be; whether it is there is not asked (and torch not imported).

    Raises:
        ConfigError: there is no such name.
    """
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", name) is None:
        raise ConfigError(f"`device='{name}'`: unknown; choose from {DEVICES}")
    return name


def has_gpu() -> bool:
    """Whether torch sees a CUDA GPU; torch is asked, and imported, only where a driver is installed."""
    if not has_torch() or ("torch" not in sys.modules and not _has_driver()):
        return False
    import torch

    return torch.cuda.is_available()


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    import torch

    if name != "cpu" and torch.cuda._is_in_bad_fork():
        raise ConfigError(
            "a GPU cannot be used in a process that was forked after its parent used one: start processes by 'spawn', "
            "or use `device='cpu'`"
        )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{name}' cannot be used: {_reason(name, error)}") from error
    return device


def _has_driver() -> bool:
    return any(Path(file).exists() for file in _DRIVER_FILES) or shutil.which("nvidia-smi") is not None


def _reason(name: str, error: Exception) -> str:
    import torch

    if name == "mps":
        return "torch sees no Apple GPU here: use 'cpu'"
    if not name.startswith("cuda"):
        return str(error).splitlines()[0]
    if torch.cuda.is_available():
        return f"there are {torch.cuda.device_count()} GPUs, counted from cuda:0 ({str(error).splitlines()[0]})"
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built for CPUs only: install a CUDA build (pytorch.org), or use 'cpu'"
    return "torch sees no GPU here (does nvidia-smi?): mend the driver, or use 'cpu'"
