"""Second stage: the bundled detector learns five classes that it has never seen, from rendered scenes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from singleshot import data
from singleshot.core.lazy import lazy_module
from singleshot.demo.common import DemoContext, StageResult
from singleshot.errors import DataError
from singleshot.evaluation.pages import evaluation_sections
from singleshot.images.read import read_image
from singleshot.report.page import Figure, Figures, Section, Text, Tile, Tiles
from singleshot.report.plots import training_curve
from singleshot.training.logs import log_series
from singleshot.training.progress import clock
from singleshot.training.recipes import read_config

if TYPE_CHECKING:
    import singleshot.evaluation.result as eval_result
    import singleshot.report.page as page
    import singleshot.training.result as train_result
else:
    eval_result = lazy_module("singleshot.evaluation.result")
    page = lazy_module("singleshot.report.page")
    train_result = lazy_module("singleshot.training.result")


SHOWN_SCENES = 3

# A short run on few images: a high rate of AdamW, an average over the last steps only, gentle augmentation.
SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "optimizer.name": "adamw",
        "optimizer.lr": 1e-3,
        "optimizer.weight_decay": 0.01,
        "schedule.warmup_steps": 20,
        "ema.decay": 0.99,
        "augment": "light",
        "evaluation.every": 25,
        "log_every": 2,
    }
)


@dataclass(frozen=True, slots=True)
class Course:
    """What is learnt, and for how long.

    Attributes:
        images: rendered scenes; a fifth of them is held out.
        difficulty: of the scenes, 0 to 1; easy ones leave no mistakes to look at.
        steps: optimiser steps.
        batch_size: images per step.
        settings: of `singleshot.train`, by dotted key.
    """

    images: int = 240
    difficulty: float = 1.0
    steps: int = 150
    batch_size: int = 8
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)


def learn_scenes(context: DemoContext, course: Course | None = None) -> StageResult:
    """Render a data set, fine-tune the bundled detector on it, measure it on held-out scenes.

    Args:
        context: of the demo.
        course: what to learn instead of the standard course.

    Raises:
        DataError: the folder for the scenes holds something else.
        ConfigError: the folder for the run holds another one.
    """
    from singleshot.training.train import train

    course = course or Course()
    scenes = render_scenes(context, course.images, course.difficulty)
    run = context.out / "run"
    remove_former_run(run, scenes)
    context.say(f"\n[bold]Learning[/bold] five classes that it has never seen: {course.steps} steps")
    result = train(
        scenes,
        steps=course.steps,
        batch_size=course.batch_size,
        out=run,
        settings=course.settings,
        console=context.console,
    )
    if result.ending == "interrupted":
        return StageResult(commands=[f"singleshot train --resume --out {run}"])
    evaluation = measure(context, result, scenes)
    return StageResult(
        sections=[_data_section(scenes), _training_section(result, evaluation), *_evaluation_sections(evaluation)],
        files=[scenes, run],
        commands=[
            f"singleshot predict {scenes / 'JPEGImages'} --model {result.last}",
            "singleshot data check YOUR_FOLDER",
            "singleshot train YOUR_FOLDER --minutes 20",
        ],
    )


def render_scenes(context: DemoContext, count: int, difficulty: float = 1.0) -> Path:
    """The data set in VOC layout; one that a former demo rendered is used again.

    Raises:
        DataError: the folder holds something else.
    """
    from singleshot.demo.scenes import make_scenes

    folder = context.out / "scenes"
    # The list of classes is written last.
    if (folder / "classes.txt").is_file() and len(list((folder / "Annotations").glob("*.xml"))) == count:
        return folder
    context.say(f"\n[bold]Rendering[/bold] {count} labelled scenes (PASCAL VOC layout)")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: exists and is not an empty folder: move it away, or name another `out`")
    unfinished = context.out / "scenes.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    with context.console.status("rendering"):
        make_scenes(unfinished, count, difficulty=difficulty)
    return unfinished.rename(folder)


def remove_former_run(run: Path, scenes: Path) -> None:
    """Make room for a new run in place of a former demo's; any other run stays, and training refuses to replace it."""
    settings = run / "config.yaml"
    if not settings.is_file():
        return
    data = read_config(settings).data
    if data is not None and Path(data.path).resolve() == scenes.resolve():
        shutil.rmtree(run)


def measure(context: DemoContext, result: train_result.TrainResult, scenes: Path) -> eval_result.EvalResult:
    """The weights at the end of the run on the held-out scenes: none was chosen by looking at those."""
    from singleshot.evaluation.evaluate import evaluate

    context.say("\n[bold]Measuring[/bold] on scenes that it has not learnt from")
    with _progress(context) as on_progress:
        evaluation = evaluate(result.last, scenes, "test", on_progress=on_progress)
    context.say(f"  AP50 {evaluation.voc_area:.3f} on {len(evaluation.samples)} scenes")
    return evaluation


@contextmanager
def _progress(context: DemoContext) -> Iterator[Callable[[int, int], None]]:
    bar = Progress(console=context.console, transient=True)
    with bar if context.console.is_terminal else nullcontext():
        task = bar.add_task("evaluating")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _data_section(scenes: Path) -> page.Section:
    from singleshot.images.draw import class_colour, draw_box, draw_label

    dataset = data.open(scenes, "trainval")
    names = dataset.class_map.names
    figures = []
    for sample in islice((sample for sample in dataset if len(sample)), SHOWN_SCENES):
        picture = read_image(sample.image_path)
        for box, class_id in zip(sample.boxes_xyxy, sample.class_ids.tolist(), strict=True):
            draw_box(picture, box, class_colour(class_id))
            draw_label(picture, box, names[class_id], class_colour(class_id))
        figures.append(Figure(picture, f"{sample.image_path.name}: {len(sample)} objects"))
    objects = sum(len(sample) for sample in dataset)
    text = Text(
        f"A small data set that is rendered on this machine: {len(dataset)} pictures to learn from, with {objects} "
        f"labelled objects of the classes {', '.join(names)}. Things hide each other, some pictures hold none, and "
        "paper, twigs and letters belong to no class."
    )
    return Section("Learn: the data", [text, Figures(figures)])


def _training_section(result: train_result.TrainResult, evaluation: eval_result.EvalResult) -> page.Section:
    log = result.folder / "metrics.csv"
    losses = {name: log_series(log, f"loss/{name}") for name in ("classification", "localization")}
    curve = Figure(
        training_curve(losses, {"AP50, held out": log_series(log, "voc_area")}), "Losses and AP50 over steps"
    )
    tiles = [
        Tile("AP50", f"{evaluation.voc_area:.3f}", f"on {len(evaluation.samples)} held-out scenes"),
        Tile("steps", f"{result.steps:,}", "from the COCO detector's weights"),
        Tile("time", clock(result.duration_s), "minutes, evaluations included"),
    ]
    text = Text(
        "The bundled detector keeps its backbone and its box predictors; the rows of its class predictors start anew, "
        "since COCO has none of these classes. What is measured here are the weights at the end of the run."
    )
    return Section("Learn: the run", [text, Tiles(tiles), Figures([curve], min_width_px=600)])


def _evaluation_sections(evaluation: eval_result.EvalResult) -> list[page.Section]:
    return [
        replace(section, title=f"Learn: {section.title[0].lower()}{section.title[1:]}")
        for section in evaluation_sections(evaluation, worst=6)
    ]
