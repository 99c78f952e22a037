"""What to try next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from singleshot.errors import MissingExtraError
from singleshot.tuning.space import Choice, Range
from singleshot.tuning.study import Trial

# So many are drawn at random before the others are looked at.
RANDOM_TRIALS = 4


class Propose(Protocol):
    """Choices for the next trial."""

    def __call__(
        self, ranges: Mapping[str, Range | tuple[Choice, ...]], trials: Sequence[Trial], seed: int
    ) -> dict[str, Choice]:
        """Choose.

        Args:
            ranges: what may be chosen of each setting.
            trials: those that have ended.
            seed: of what is random.
        """


def propose_by_optuna(
    ranges: Mapping[str, Range | tuple[Choice, ...]], trials: Sequence[Trial], seed: int
) -> dict[str, Choice]:
    """Choose by Optuna's tree-structured Parzen estimator, from what the former trials reached."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(allowed.low, allowed.high, log=True)
        if isinstance(allowed, Range)
        else optuna.distributions.CategoricalDistribution(allowed)
        for name, allowed in ranges.items()
    }
    sampler = optuna.samplers.TPESampler(seed=seed + len(trials), n_startup_trials=RANDOM_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    states = {
        "finished": optuna.trial.TrialState.COMPLETE,
        "stopped": optuna.trial.TrialState.PRUNED,
        "failed": optuna.trial.TrialState.FAIL,
    }
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                state=states[trial.state],
                value=trial.value,
                params=dict(trial.choices),
                distributions=distributions,
                intermediate_values=dict(enumerate(trial.rungs)),
            )
        )
    return dict(study.ask(distributions).params)


def require_optuna() -> None:
    """Refuse to begin where Optuna is not installed.

    Raises:
        MissingExtraError: it is not.
    """
    if find_spec("optuna") is None:
        raise MissingExtraError("optuna", "tune", "tuning")
