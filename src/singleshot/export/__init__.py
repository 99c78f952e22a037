"""Networks as files for other runtimes."""

import sys

# OpenVINO reports that it was imported, and NNCF what it does, to a server of their makers by this package, where it is
# installed; both go on without it. singleshot reports nothing to anybody. A program that had imported it keeps it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
