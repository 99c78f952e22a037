"""What a study tells a person."""

from __future__ import annotations

from collections.abc import Mapping

from singleshot.core.wording import counted
from singleshot.training.progress import clock
from singleshot.tuning.space import Choice, Defaults
from singleshot.tuning.study import Study, Trial, Verdict

ROLES = {"default": "defaults", "repeat": "defaults, other seed", "search": "", "confirm": "best, other seed"}


def introduce(study: Study) -> list[str]:
    """What will be done."""
    return [
        f"tunes {', '.join(study.vary)} in {study.minutes:g} minutes, by {study.metric} on the held-out images; "
        "the defaults first, all runs equally long"
    ]


def trial_line(number: int, trial: Trial, defaults: Defaults) -> str:
    """One row of the table."""
    reached = f"{trial.value:.4f}" if trial.value is not None else trial.state
    if trial.state == "stopped" and trial.rungs:
        reached = f"{trial.rungs[-1]:.4f} stopped"
    said = shown(trial.choices, defaults)
    notes = "  ".join(part for part in (ROLES[trial.role], trial.note) if part)
    return f"trial {number:2d}  {reached:<15}  {clock(trial.duration_s):>7}  {said}  {notes}".rstrip()


def shown(choices: Mapping[str, Choice], defaults: Defaults) -> str:
    """``lr 0.0005  augment ssd``."""
    words = []
    for name, choice in choices.items():
        value = f"{defaults.lr * float(choice):.3g}" if name == "lr" else str(choice)
        words.append(f"{name} {value}")
    return "  ".join(words)


def result_lines(study: Study, verdict: Verdict) -> list[str]:
    """Whether the defaults stay, and by what numbers."""
    best, defaults = study.best, study.defaults
    if defaults is None or verdict.default is None:
        return ["nothing was measured"]
    tried = counted(len(study.of("search")), "trial")
    usual = f"{study.metric} {verdict.default:.4f} with the defaults"
    spread = "" if verdict.spread is None else f"; two seeds of the same settings are {verdict.spread:.4f} apart"
    if not study.of("search"):
        return [f"keep the defaults: {study.minutes:g} minutes left no time to try anything ({usual}{spread})"]
    if best is None or verdict.best is None:
        return [f"keep the defaults: none of {tried} came to its end ({usual}{spread})"]
    found = f"{verdict.best:.4f} with {shown(best.choices, defaults)}"
    if verdict.is_better:
        return [
            f"better than the defaults: {found} ({usual}{spread}; {tried})",
            "the held-out images have chosen these settings: measure on others what the detector is worth",
        ]
    return [f"keep the defaults: the gain is within chance ({usual}, {found}{spread}; {tried})"]
