"""The commands of docs/migrate-from-*.md: every one is accepted, and a whole page runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

import singleshot
from singleshot.cli import app
from singleshot.images.read import write_image
from singleshot.interop.pytorch.torchvision import translate
from singleshot.models.build import build_network
from singleshot.models.catalogue import model_spec

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(DOCS.glob("migrate-from-*.md"))


def commands(page: Path) -> list[list[str]]:
    """Arguments of every ``singleshot`` command of a page."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^\$ (singleshot .+)$", text, flags=re.MULTILINE) + re.findall(
        r"`(singleshot \w+ [^`]+)`", text
    )
    return [shlex.split(command)[1:] for command in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_accepted(page: Path) -> None:
    group = typer.main.get_command(app)
    found = commands(page)
    assert len(found) >= 4
    with group.make_context("singleshot", ["--version"], resilient_parsing=True) as context:
        for verb, *arguments in found:
            # Raises for an option or argument that is not there; runs nothing.
            group.get_command(context, verb).make_context(verb, arguments, parent=context)


def test_recipes_that_are_named_exist() -> None:
    named = {args[args.index("--recipe") + 1] for page in PAGES for args in commands(page) if "--recipe" in args}
    assert len(named) >= 3
    assert named <= {recipe.stem for recipe in (DOCS.parent / "recipes").glob("*.yaml")}


def test_the_torchvision_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = DOCS / "migrate-from-torchvision.md"
    checkpoint = next(args for args in commands(page) if args[0] == "import")[1]
    shapes = {
        "head.regression_head.module_list.0.1.weight": (24,),
        "head.classification_head.module_list.0.1.weight": (126,),
    }
    own = build_network(model_spec("ssdlite320_mobilenet_v3_large", [f"c{k}" for k in range(20)]).network).state_dict()
    names = translate(shapes, "x").rename
    torch.save({names(name): value for name, value in own.items()}, checkpoint)
    Path("photos").mkdir()
    image = torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    for name in ("photos/a.jpg", "street.jpg"):
        write_image(name, image)
    for args in commands(page):
        if args[0] in ("import", "predict"):
            result = CliRunner().invoke(app, args)
            assert result.exit_code == 0, result.output
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(compile(block, str(page), "exec"), {})
    assert singleshot.load("ssdlite.safetensors").class_names[0] == "aeroplane"
