"""README and guides: the code runs as it stands there, commands and options exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from singleshot.cli import VERBS, app
from singleshot.demo.detect import photo_folder
from singleshot.demo.scenes import make_scenes
from singleshot.images.read import read_image, write_image

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# What the pages do in minutes, the tests do in two steps of two images.
LENGTHS = (("minutes=20", "steps=2, batch=2"), ("--minutes 20", "--steps 2 --batch 2 --workers 0"))


def blocks(page: Path, *languages: str) -> list[str]:
    """Contents of the fenced blocks in these languages."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [body for language, body in fences if language in languages]


def commands(page: Path) -> list[list[str]]:
    """Arguments of each ``singleshot ...`` line in the page's shell blocks, comments and prompts left out."""
    lines = (line.removeprefix("$ ") for body in blocks(page, "bash", "console", "") for line in body.splitlines())
    split = (shlex.split(line, comments=True) for line in lines if line.startswith("singleshot "))
    return [words[1:] for words in split]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README speaks of: a photo, labelled photos, new photos."""
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    image = read_image(photo_folder() / "coffee.png")
    make_scenes("photos", count=10)
    Path("new_photos").mkdir()
    for name in ("street.jpg", "new_photos/one.jpg"):
        write_image(name, image)
    return tmp_path


def shortened(text: str) -> str:
    for long, short in LENGTHS:
        text = text.replace(long, short)
    return text


def test_the_readmes_python_runs(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(README, "python")
    assert "minutes=20" in block
    exec(compile(shortened(block), str(README), "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"^cup 0\.\d\d at \[.*\]$", printed, flags=re.MULTILINE)
    assert Path("street_boxes.jpg").exists()
    assert Path("runs/photos/best.safetensors").exists()


def test_the_readmes_commands_run(desk: Path) -> None:
    chapter = next(body for body in blocks(README, "bash") if body.startswith("singleshot data check"))
    lines = [line for line in shortened(chapter).splitlines() if line]
    assert [line.split()[1] for line in lines] == ["data", "train", "eval", "predict"]
    for line in lines:
        result = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, f"{line}: {result.output}"
    assert Path("runs/photos/eval/report.html").exists()
    assert Path("predictions/images/one.jpg").exists()


def parse(words: list[str]) -> None:
    """Let the command line read a command without running it; an unknown verb or option raises."""
    command = typer.main.get_command(app)
    context = command.make_context("singleshot", list(words))
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, list(words))
        context = command.make_context(name, list(words), parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_options_exist(page: Path) -> None:
    for words in commands(page):
        if not {"--help", "--version"} & set(words):
            parse(words)


def test_the_check_of_commands_sees_mistakes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\nls\nsingleshot train photos --minuts 20  # typo\n```\n```python\nsingleshot\n```\n")
    assert commands(page) == [["train", "photos", "--minuts", "20"]]
    with pytest.raises(Exception, match="No such option: --minuts"):
        parse(commands(page)[0])


def test_the_readme_names_verbs_that_exist() -> None:
    named = set(re.findall(r"`singleshot ([a-z]+)", README.read_text(encoding="utf-8")))
    assert {"data", "train", "eval", "predict", "models", "demo"} <= named <= set(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)\s]*)\)", page.read_text(encoding="utf-8"))
    for link in links:
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: no heading for {link}"
