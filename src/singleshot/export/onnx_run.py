"""An ONNX file, run by ONNX Runtime as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.core.once import needs_threads
from singleshot.errors import MissingExtraError
from singleshot.export.memory_limit import limit_onnx_runtime

FATAL_ONLY = 4
"""ONNX Runtime's level of its log: what it says of errors, it raises too."""


class OnnxRun:
    """An open ONNX file.

    Args:
        path: the file.
        outputs: names of what is wanted of it.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path, outputs: Sequence[str]) -> None:
        if find_spec("onnxruntime") is None:
            raise MissingExtraError("onnxruntime", "runtime", "an ONNX file")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        for key, value in limit_onnx_runtime().items():
            options.add_session_config_entry(key, value)
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        needs_threads(self)
        self._outputs = list(outputs)
        self._input = self._session.get_inputs()[0].name
        self._kinds = {port.name: port.type for port in self._session.get_overridable_initializers()}

    def __call__(self, batch: NDArray[Any], thresholds: Mapping[str, float]) -> Sequence[NDArray[Any]]:
        """Outputs of a batch; thresholds replace constants of one number."""
        feeds: dict[str, Any] = {self._input: np.ascontiguousarray(batch)}
        for name, value in thresholds.items():
            feeds[name] = np.array([value], dtype=np.int64 if "int64" in self._kinds[name] else np.float32)
        found: list[NDArray[Any]] = self._session.run(self._outputs, feeds)
        return found
