"""MLflow: a run of the experiment ``singleshot``."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from singleshot.training.logs import EvaluationRecord, LoggedRun, StepRecord, evaluation_numbers, flat, step_numbers
from singleshot.training.registry import LOGGERS, LoggerKind

EXPERIMENT = "singleshot"
# What MLflow's stores take at most: parameters of a call, and characters of one.
PARAMETERS_AT_ONCE = 100
LONGEST_VALUE = 500


class MlflowLog:
    """Numbers and settings in MLflow: where ``MLFLOW_TRACKING_URI`` says, else in the run's ``mlflow.db``.

    Numbers are sent by threads of MLflow. A resumed run is a further run there, of the same name.
    """

    def __init__(self, run: LoggedRun) -> None:
        from mlflow.tracking import MlflowClient

        own = run.folder.resolve()
        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{own / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=where)
        self._run = self._client.create_run(self._experiment(own.as_uri()), run_name=run.folder.name).info.run_id
        self._last: Any = None
        self._keep_settings(run.settings)
        run.say(f"mlflow: experiment '{EXPERIMENT}', run '{run.folder.name}' in {where}")

    def _experiment(self, own: str) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        known = self._client.get_experiment_by_name(name)
        if known:
            return str(known.experiment_id)
        is_local = not os.environ.get("MLFLOW_TRACKING_URI")
        return str(self._client.create_experiment(name, artifact_location=f"{own}/mlflow" if is_local else None))

    def _keep_settings(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        parameters = [Param(key, str(value)[:LONGEST_VALUE]) for key, value in flat(settings).items()]
        for first in range(0, len(parameters), PARAMETERS_AT_ONCE):
            self._client.log_batch(self._run, params=parameters[first : first + PARAMETERS_AT_ONCE])

    def on_step(self, record: StepRecord) -> None:
        """Losses, learning rate and speed."""
        self._send(step_numbers(record), record.step)

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Metrics."""
        self._send(evaluation_numbers(record), record.step)

    def _send(self, numbers: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in numbers.items()]
        self._last = self._client.log_batch(self._run, metrics=metrics, synchronous=False)

    def close(self) -> None:
        """Send what is left."""
        if self._last is not None:
            self._last.wait()
        self._client.set_terminated(self._run)


LOGGERS.register("mlflow")(LoggerKind(MlflowLog, "mlflow"))
