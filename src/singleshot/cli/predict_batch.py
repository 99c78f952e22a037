"""``singleshot predict --engine``: what it does not go with, and the two ways in which results are written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from singleshot.cli.predict_output import note, print_notes, progress_in_counts, status
from singleshot.cli.predict_settings import Look
from singleshot.core.lazy import lazy_module

if TYPE_CHECKING:
    import singleshot.prediction.batch.batch_job as batch_jobs
    import singleshot.prediction.job as jobs
    import singleshot.prediction.refinement as refinements
else:
    batch_jobs, jobs = lazy_module("singleshot.prediction.batch.batch_job"), lazy_module("singleshot.prediction.job")
    refinements = lazy_module("singleshot.prediction.refinement")


class Done(NamedTuple):
    """What a run came to.

    Attributes:
        summary: what it did.
        computed_by: what computed it.
        total: images that there were; ``None`` where that is not known.
        missed: what could not be looked at.
        notes: what is to be said afterwards.
    """

    summary: jobs.JobSummary
    computed_by: str
    total: int | None
    missed: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Options of the verb that divide a run, by their names."""

    engine: str
    workers: int | None
    address: str | None
    part_size: int
    column: str | None

    @classmethod
    def of(
        cls, engine: str | None, workers: int | None, address: str | None, part_size: int | None, column: str | None
    ) -> Division | None:
        """What was asked for; ``None`` where no engine was.

        Raises:
            ConfigError: there is no such engine, or it cannot work so; or its options without it.
        """
        from singleshot.errors import ConfigError
        from singleshot.prediction.batch.registry import BATCH_ENGINES
        from singleshot.prediction.batch.slices import PART_SIZE
        from singleshot.prediction.settings import check_whole

        if engine is None:
            given = {"workers": workers, "address": address, "part_size": part_size, "column": column}
            for name, value in given.items():
                if value is not None:
                    raise ConfigError(f"`{name}` is of an `engine`: name one, {' or '.join(BATCH_ENGINES)}")
            return None
        own = BATCH_ENGINES.get(engine, "`engine`")
        size = PART_SIZE if part_size is None else check_whole(part_size, "part_size", most=1_000_000)
        division = cls(engine=engine, workers=workers, address=address, part_size=size, column=column)
        own.check(division.crew("auto"))
        return division

    def crew(self, device: str) -> Any:
        """Who works."""
        from singleshot.prediction.batch.registry import Crew

        return Crew(workers=self.workers, address=self.address, device=device, note=note)

    def ready(self, device: str) -> AbstractContextManager[object]:
        """Held while the job is on, from before it replaces anything.

        Raises:
            ConfigError: there is no cluster.
        """
        from singleshot.prediction.batch.registry import BATCH_ENGINES

        return BATCH_ENGINES.get(self.engine).ready(self.crew(device))

    @property
    def save(self) -> str:
        """What it writes where nothing is asked for; empty does as without an engine."""
        from singleshot.prediction.batch.registry import BATCH_ENGINES

        return BATCH_ENGINES.get(self.engine).save

    def check(self, kinds: Sequence[str], others: dict[str, object]) -> None:
        """Refuse what does not go together.

        Args:
            kinds: what to write.
            others: settings that an engine has no place for, by name.

        Raises:
            ConfigError: there is one.
        """
        from singleshot.errors import ConfigError

        for name, value in others.items():
            if value:
                raise ConfigError(f"`{name}` does not go with an `engine`, which divides images: leave one of them out")
        if "parquet" in kinds and len(kinds) > 1:
            raise ConfigError(
                f"`save='{','.join(kinds)}'`: on an `engine` the workers write the table in parts, and only that: "
                "save the rest in a run of its own"
            )


def engine_predictor(
    look: Look, division: Division, detect_from: float, images: int, kinds: Sequence[str], show: bool
) -> tuple[batch_jobs.EnginePredictor, str]:
    """What has the workers detect and gets the results back; and what computes."""
    from singleshot.prediction.batch.registry import BATCH_ENGINES
    from singleshot.prediction.batch.work import Work
    from singleshot.prediction.sinks import SINKS

    with status("Getting the network ready (a conversion is made once, and kept) ..."):
        recipe = look.recipe(detect_from, images)
        made = recipe()
    with_pixels = show or any(getattr(SINKS.get(kind), "needs_pixels", True) for kind in kinds)
    work = Work(build=recipe, batch_size=look.batch_size, with_pixels=with_pixels)
    engine, crew = BATCH_ENGINES.get(division.engine), division.crew(look.device)
    predictor = batch_jobs.EnginePredictor(engine, work, crew, made.class_names, made.category_ids, made.views)
    return predictor, f"{made.backend.name} by {division.engine}"


def detect_in_parts(
    look: Look,
    division: Division,
    output: jobs.Output,
    out: str | None,
    sources: Sequence[str],
    refinement: refinements.Refinement,
    *,
    recursive: bool,
    split: str | None,
) -> Done:
    """Have the workers write the table in parts."""
    from singleshot.images.parquet_images import check_pyarrow
    from singleshot.prediction.batch.parts_folder import PartsFolder
    from singleshot.prediction.batch.registry import BATCH_ENGINES
    from singleshot.prediction.batch.work import Work
    from singleshot.prediction.output_folder import new_folder

    check_pyarrow("`save='parquet'`")
    found = batch_jobs.find_slices(
        sources, output, division.part_size, look.batch_size, division.column, recursive=recursive, split=split
    )
    with status("Getting the network ready (a conversion is made once, and kept) ..."):
        recipe = look.recipe(refinement.detect_from, found.count)
        computed_by = f"{recipe().backend.name} by {division.engine}"
    print_notes((*found.missed, *found.notes))
    folder = PartsFolder.at(str(new_folder(jobs.OUT)) if out is None else out)
    how = dict(output.how) | {"weights": look.weights_digest(), "part_size": division.part_size}
    work = Work(build=recipe, batch_size=look.batch_size, parts=folder, refinement=refinement)
    job = batch_jobs.PartsJob(
        slices=found.slices, sources=found.files, how=how, overwrite=output.overwrite, resume=output.resume
    )
    engine, crew = BATCH_ENGINES.get(division.engine), division.crew(look.device)
    with progress_in_counts(found.count) as on_report:
        summary = batch_jobs.detect_to_parts(engine, work, crew, job, on_report, note)
    return Done(summary, computed_by, found.count, found.missed)
