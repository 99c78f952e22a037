"""README and docs: every fenced block is run or checked, tables are complete, links and names lead somewhere."""

from __future__ import annotations

import importlib
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import singleshot.data
from docs_desks import DESKS, Desk, Names
from docs_pages import (
    DOCS,
    PAGES,
    README,
    ROOT,
    Block,
    UnknownBlockError,
    check_entry_points,
    commands,
    entry_point_groups,
    extras,
    inline_commands,
    options,
    parse,
    read_blocks,
    run_command,
    script_options,
)
from singleshot.augment.config import PRESETS
from singleshot.cli import VERBS
from singleshot.cli.train import assignments
from singleshot.models.catalogue import model_names
from singleshot.training.config import TrainConfig

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
# Files of other systems, and of readers, that the pages name.
FOREIGN = {"examples/ssd/score_ssd_pascal.py", "my_parts.py", "tools/im2rec.py", "test.py", "deploy.py"}
# Where a problem of data is made: its kind stands before its action, or is the first such word of the call.
KIND = re.compile(r'(?:add_problem|Problem|report|LineError|_leave_out)\([^"]*"([a-z]+(?:-[a-z]+)*)"')


def run_block(block: Block, desk: Desk, names: Names) -> None:
    """Run a block as its language asks.

    Raises:
        UnknownBlockError: nothing says what a block of this language, or a line of it, means.
    """
    body = block.body
    for long, short in desk.shortened:
        body = body.replace(long, short)
    block = block._replace(body=body)
    if block.language in ("bash", "console"):
        for line in commands(block):
            run_command(line, only_parse=any(line.startswith(beginning) for beginning in desk.parsed))
    elif block.language == "python":
        exec(compile(body, f"{block.page}:{block.line}", "exec"), names)
    elif block.language == "yaml" and desk.settings:
        desk.settings(body)
    elif block.language == "toml":
        check_entry_points(body)
    else:
        raise UnknownBlockError(f"{block}: no rule says how to check it")


@every_page
def test_blocks_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = DESKS[page.name]
    blocks = read_blocks(page)
    for module in desk.extras if blocks else ():
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    names, printed = desk.prepare(), StringIO()
    with redirect_stdout(printed):
        for block in blocks:
            run_block(block, desk, names)
    desk.check(names, printed.getvalue())


@every_page
def test_what_is_shortened_or_only_parsed_is_on_the_page(page: Path) -> None:
    desk, text = DESKS[page.name], page.read_text(encoding="utf-8")
    for long, _ in desk.shortened:
        assert long in text
    lines = [line for block in read_blocks(page) if block.language in ("bash", "console") for line in commands(block)]
    for beginning, reason in desk.parsed.items():
        assert any(line.startswith(beginning) for line in lines), f"{beginning} ({reason})"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("```\nsingleshot --version\n```\n", UnknownBlockError),
        ("```yaml\nepochs: 3\n```\n", UnknownBlockError),
        ("```bash\nrm -r photos\n```\n", UnknownBlockError),
        ("```console\n$ singleshot --version\n0.1.0\n```\n", UnknownBlockError),
        ("```bash\npip install '.[reports]'\n```\n", AssertionError),
        ("```bash\nmake cake\n```\n", AssertionError),
        ("```bash\npython benchmarks/run.py --quickly\n```\n", AssertionError),
        ("```bash\nsingleshot predict nothing.jpg\n```\n", AssertionError),
        ("```python\n1 / 0\n```\n", ZeroDivisionError),
        ('```toml\n[project.entry-points."singleshot.cakes"]\n```\n', AssertionError),
    ],
)
def test_mistakes_are_seen(body: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(body)
    (block,) = read_blocks(page)
    with pytest.raises(error):
        run_block(block, Desk(), {})


def test_mistakes_of_parsed_commands_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\nsingleshot train photos --minuts 20  # typo\n```\n`singleshot evel x`\n")
    (block,) = read_blocks(page)
    with pytest.raises(Exception, match="No such option: --minuts"):
        run_block(block, Desk(parsed={"singleshot train": "a typo"}), {})
    assert inline_commands(page) == ["singleshot evel x"]
    with pytest.raises(Exception, match="evel"):
        parse(["evel", "x"])


@every_page
def test_commands_in_sentences_exist(page: Path) -> None:
    for line in inline_commands(page):
        try:
            run_command(line, only_parse=True)
        except Exception as error:
            # a verb in a sentence may lack what it works on
            if type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError"):
                raise


@every_page
def test_options_exist(page: Path) -> None:
    known = options("eval") if page.stem == "evaluate" else options()
    scripts = set(re.findall(r"benchmarks/\w+\.py", page.read_text(encoding="utf-8")))
    known |= {option for script in scripts for option in script_options(ROOT / script)}
    foreign = (
        r"`[^`]*\.py [^`]*`|`(?:pip|opt_in_out|torchrun|PYTHONPATH=tests|python -m torture\S*|--kills) [^`]*`"
        r"|`--(?:shutdown-timeout|signals-to-handle)`"
        r"|(?m:^(?:trtexec|docker|torchrun) .*$)|--index-url|--help"
    )
    text = re.sub(foreign, "", page.read_text(encoding="utf-8"))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - known == set()


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)\s]*)\)", page.read_text(encoding="utf-8"))
    for link in links:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in headings(target), f"{page.name}: no heading for {link}"


def headings(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@every_page
def test_files_and_names_of_the_code_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    files = [path.relative_to(ROOT).as_posix() for top in ("src", "tests", "benchmarks") for path in files_of(top)]
    for named in set(re.findall(r"`([\w./-]+\.(?:py|c))`", text)) - FOREIGN:
        assert any(f"/{file}".endswith(f"/{named}") for file in files), f"{page.name}: {named}"
    for folder in re.findall(r"`((?:src|tests|benchmarks)/[\w/]+)`", text):
        assert (ROOT / folder).is_dir(), f"{page.name}: {folder}"
    for dotted in set(re.findall(r"`(singleshot(?:\.\w+)+)", text)) - entry_point_groups():
        assert exists(dotted), f"{page.name}: {dotted}"


def files_of(top: str) -> list[Path]:
    return [path for pattern in ("*.py", "*.c") for path in (ROOT / top).rglob(pattern)]


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module of ours, or an attribute of one."""
    try:
        importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, attribute = dotted.rpartition(".")
        return hasattr(importlib.import_module(module), attribute)
    return True


def rows(page: Path) -> list[str]:
    """First cells of the tables' rows that begin with a name in backticks."""
    return re.findall(r"^\| (`.*?`) \|", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_readme_names_every_verb() -> None:
    named = set(re.findall(r"`singleshot ([a-z]+)", README.read_text(encoding="utf-8")))
    assert {"data", "train", "eval", "predict", "models", "demo"} <= named <= set(VERBS)


def test_the_readmes_figures_are_measured_ones() -> None:
    table = re.search(r"^## How fast.*?^## ", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert table
    figures = re.findall(r"\d[\d,.]*\d", table[0].split("|\n|---")[1])
    measured = re.findall(r"\d[\d,.]*\d", (DOCS / "benchmarks.md").read_text(encoding="utf-8"))
    assert len(figures) > 5
    assert set(figures) <= set(measured)


def test_every_kind_of_bad_record_is_in_the_table() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(singleshot.data.__file__).parent.rglob("*.py")]
    kinds = {kind for source in sources for kind in KIND.findall(source)} - {"noted", "skipped"}
    assert {"missing-split", "orphan-label", "outside", "unreadable-annotation"} <= kinds
    listed = {kind for row in rows(DOCS / "data.md") for kind in re.findall("`(.*?)`", row)}
    assert sorted(kinds - listed) == []


def test_every_preset_of_augmentation_is_in_the_table() -> None:
    text = (DOCS / "augmentation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == set(PRESETS)


def test_every_extra_is_in_the_table() -> None:
    text = (DOCS / "getting-started.md").read_text(encoding="utf-8")
    listed = {name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert listed >= extras() - {"all", "dev"}


def test_every_recipe_is_in_the_table() -> None:
    recipes = {recipe.stem for recipe in (ROOT / "recipes").glob("*.yaml")} - {"bccd_ssdlite"}
    listed = {row.strip("`") for row in rows(DOCS / "train.md")}
    assert {name for name in listed if re.search(r"_(voc|coco)", name)} == recipes


def test_recipes_that_commands_name_exist() -> None:
    lines = [line for page in DOCS.glob("migrate-from-*.md") for line in inline_commands(page)]
    named = {found[1] for line in lines if (found := re.search(r"--recipe (\w+)", line))}
    assert len(named) >= 3
    assert named <= {recipe.stem for recipe in (ROOT / "recipes").glob("*.yaml")}


@pytest.mark.parametrize("page", sorted(DOCS.glob("migrate-from-*.md")), ids=lambda page: page.stem)
def test_settings_that_a_page_of_migration_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for quoted, plain in re.findall(r'--set (?:"([^"`]+)"|([^\s`"]+))', text):
        (key, value), *_ = assignments([quoted or plain]).items()
        TrainConfig().updated({"epochs": 200, key: value})
    for section, name in re.findall(r"`(optimizer|schedule|loss|match|evaluation)\.(\w+)`", text):
        assert name in type(getattr(TrainConfig(), section)).model_fields, f"{section}.{name}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("migrate-from-*.md")), ids=lambda page: page.stem)
def test_a_page_of_migration_has_commands(page: Path) -> None:
    blocks = [line for block in read_blocks(page) if block.language == "console" for line in commands(block)]
    assert len(blocks + [line for line in inline_commands(page) if " " in line]) >= 4


def test_the_familys_table_is_complete_and_has_nothing_stale() -> None:
    text = (DOCS / "family.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \| \d+x", text, re.MULTILINE))
    assert listed == set(model_names())


def test_every_room_of_the_house_is_in_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "src/singleshot").glob("*/__init__.py")}
    listed = set(re.findall(r"^\| \[`(\w+)/`\]\(\.\./src/singleshot/\1\)", text, re.MULTILINE))
    assert listed == rooms
