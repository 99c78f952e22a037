from __future__ import annotations

import json
from pathlib import Path

import pytest

import small_data
from small_data import Run

FROZEN = {"optimizer.lr": 0.002, "freeze": ["backbone.stem", "extras"]}
AVERAGED = {"batch_norm": "eval", "ema": {"decay": 0.99}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default", ("default", "", {})),
        ("a:optimizer.lr=0.002,freeze=[backbone.stem,extras]", ("a", "", FROZEN)),
        ("b:@mine.yaml,batch_norm=eval,ema={decay: 0.99}", ("b", "mine.yaml", AVERAGED)),
    ],
)
def test_recipes_as_they_are_typed(text: str, expected: tuple[str, str, dict[str, object]]):
    assert small_data.parse_recipe(text) == expected


def test_a_cut_off_line_is_run_again(tmp_path: Path):
    run = Run("a", "", {"x": 1}, "/data/chess", 0, 4, 100)
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({"key": run.key, "best_AP": 0.5}) + '\n{"key": "cut o')
    assert list(small_data.read_results(path)) == [run.key]
    assert run.key != run._replace(seed=1).key
    assert run.key == run._replace(data="/elsewhere/chess").key
    assert small_data.read_results(tmp_path / "none.jsonl") == {}


def test_the_mean_is_of_sets_that_all_recipes_have(capsys: pytest.CaptureFixture[str]):
    runs = [Run(name, "", {}, f"/d/{data}", 0, 1, 0) for data in ("one", "two") for name in ("a", "b")]
    numbers = {f"{w}_{m}": 0.4 for w in ("best", "last") for m in small_data.METRICS} | {"steps": 7}
    better = numbers | {"best_AP": 0.45}
    results = {runs[0].key: numbers, runs[1].key: better, runs[2].key: numbers}
    small_data.show(runs, results, "best")
    lines = capsys.readouterr().out.splitlines()
    assert any("mean of 1" in line and "45.0 (+5.0)" in line for line in lines)
    assert sum("two" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no/such"], "no such folder: no/such"),
        (["a/photos", "b/photos"], "two sets are called photos"),
        (["a/photos", "fast:optimizer.lr=1e-3", "fast:optimizer.lr=2e-3"], "two recipes are called fast"),
    ],
)
def test_folders_that_are_missing_and_names_given_twice_are_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(small_data, "find_sets", lambda folders: folders)
    monkeypatch.setattr("sys.argv", ["small_data.py", *words])
    for name in ("a", "b"):
        Path(name, "photos").mkdir(parents=True)
    with pytest.raises(SystemExit):
        small_data.main()
    assert message in capsys.readouterr().err
