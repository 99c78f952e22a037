"""What tensor libraries have no operator for, in C, compiled for the processor it runs on.

Each ``.c`` file is one library and is explained at its top; each has a slower form in Python that gives the same result
and runs where there is no compiler.
"""

from __future__ import annotations

from functools import cache


@cache
def prepare() -> None:
    """Load all kernels, so that nothing is compiled later: where that was never done it takes some seconds, once."""
    from concurrent.futures import ThreadPoolExecutor

    from singleshot.kernels import detect, resample, resize, winograd

    with ThreadPoolExecutor() as pool:
        for load in (detect.is_compiled, resample.has_kernel, resize.has_kernel, winograd.kernel):
            pool.submit(load)
