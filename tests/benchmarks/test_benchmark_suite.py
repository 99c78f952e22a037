"""The benchmarks run, at sizes that mean nothing."""

from __future__ import annotations

import json

import pytest
import torch

import blocks
import common
import gpu_h200
import run
import train_step

TINY = common.Settings("tiny", threads=1)


def test_ratio_is_against_the_best_peer_and_the_median_of_rounds():
    values = {"singleshot": [1.0, 2.0, 1.0], "slow": [9.0, 9.0, 9.0], "quick": [4.0, 4.0, 5.0]}
    ours, slow, quick = common.compare("row", values, goals={"singleshot": 2.0})
    assert (ours.median, ours.unit, ours.ratio, ours.goal) == (1000.0, "ms", 4.0, 2.0)
    assert (slow.ratio, quick.ratio) == (None, None)


def test_ratio_of_rates():
    values = {"singleshot": [30.0, 30.0], "a": [10.0, 10.0], "b": [15.0, 15.0]}
    assert common.compare("row", values, larger_is_better=True, unit="img/s", scale=1)[0].ratio == 2.0


def test_no_peer_no_ratio():
    assert common.compare("row", {"singleshot": [1.0]})[0].ratio is None


@pytest.mark.parametrize(("values", "spread"), [([0.0], 0.0), ([2.0, 2.0], 0.0), ([1.0, 2.0, 3.0, 4.0, 5.0], 1 / 3)])
def test_spread(values, spread):
    assert common.spread_of(values) == pytest.approx(spread)


def test_contenders_take_turns_and_the_first_round_does_not_count():
    calls = []
    seconds = common.take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_each_has_its_own_memory_settings_and_an_untimed_run(monkeypatch):
    calls = []
    monkeypatch.setattr(common, "set_allocator", lambda keep: calls.append(keep))
    contenders = {"singleshot": lambda: calls.append("ours"), "other": lambda: calls.append("other")}
    seconds = common.take_turns(contenders, 1, own_memory=True)
    assert calls == [True, "ours", "ours", False, "other", "other"] * 2
    assert [len(values) for values in seconds.values()] == [1, 1]


def test_rows_that_cannot_be_measured_say_why(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ROWS", ("no_such_row", "augment", "golden_mxnet", "loads"))
    measured, missing = run.measure_all(list(run.ROWS), TINY)
    assert measured == {}
    assert missing["no_such_row"] == "there is no benchmarks/no_such_row.py"
    assert "--data" in missing["augment"]
    assert "--reference" in missing["golden_mxnet"]
    assert "measure_row" in missing["loads"]


def test_data_that_cannot_be_read_spoils_its_row_only(tmp_path):
    measured, missing = run.measure_all(["augment", "golden_mxnet"], TINY._replace(data=tmp_path))
    assert measured == {}
    assert str(tmp_path) in missing["augment"]
    assert "--reference" in missing["golden_mxnet"]


def test_an_unknown_row_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["--rows", "speed"])
    assert "no 'speed'" in capsys.readouterr().err


def test_table_and_json(tmp_path, capsys):
    target = tmp_path / "benchmarks.json"
    run.main(["--tiny", "--threads", "1", "--rows", "loss,metrics_scale", "--json", str(target)])
    shown = capsys.readouterr().out
    assert "reference form, torchvision" in shown
    content = json.loads(target.read_text())
    assert content["machine"]["versions"]["torch"] == torch.__version__
    assert content["settings"]["size"] == "tiny"
    assert {row["contender"] for row in content["rows"]} >= {"singleshot", "reference form, ssd.pytorch"}
    ours = content["rows"][0]
    assert ours["contender"] == "singleshot"
    assert ours["ratio"] > 0
    assert len(ours["values"]) == 1


def test_a_run_replaces_the_blocks_that_it_measured(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    blocks_before = ("<!-- machine -->x<!-- /machine -->", "<!-- loss -->old<!-- /loss -->", "b")
    page.write_text("\n".join(("a", *blocks_before, "<!-- memory -->kept<!-- /memory -->")))
    line = common.Measured("loss, batch 2", "singleshot", 1234.5, "ms", 0.01, 2.0, 1.5, 0.8, "a note")
    monkeypatch.setattr(run, "measure", lambda name, settings: [line])
    run.main(["--tiny", "--rows", "loss", "--write", str(page)])
    text = page.read_text()
    assert "| singleshot | 1,234 ms | 1% | **2.00x** | 1.5x | 80% |" in text
    assert "- singleshot: a note" in text
    assert "old" not in text
    assert text.startswith("a\n")
    assert text.endswith("<!-- /loss -->\nb\n<!-- memory -->kept<!-- /memory -->")


def test_a_page_without_marks_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="no <!-- loss -->"):
        blocks.replace_blocks(page, {"loss": "new"})
    assert page.read_text() == "nothing here"


def test_a_training_step_is_three_forward_passes():
    assert train_step.step_flops(8) == 8 * train_step.step_flops(1)
    # Two operations for each of the 31.4 billion multiplications that SSD300-VGG16 is known for.
    assert train_step.step_flops(1) / 3 == pytest.approx(2 * 31.4e9, rel=0.02)


@pytest.mark.heavy
def test_training_step_row():
    ours, *others = train_step.measure_row(TINY)
    assert ours.ratio > 0
    assert ours.share_of_peak > 0
    assert others[-1].contender.startswith("reference form")


def test_gpu_script_without_a_gpu_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_h200.main([]) == 2
    assert "--device cpu --tiny" in capsys.readouterr().err


def test_gpu_script_runs_without_a_gpu(tmp_path):
    target = tmp_path / "gpu.json"
    assert gpu_h200.main(["--device", "cpu", "--tiny", "--json", str(target)]) == 0
    content = json.loads(target.read_text())
    assert {row["row"].split()[0].strip(",") for row in content["rows"]} == {"training", "inference", "postprocess"}
    assert all(row["median"] > 0 and "roofline" in row["note"] for row in content["rows"])


def test_roofline_is_the_longer_of_both():
    peaks = gpu_h200.Peaks(flops=10.0, bytes=5.0)
    assert gpu_h200.Work(100.0, 10.0).seconds(peaks) == 10.0
    assert gpu_h200.Work(100.0, 100.0).seconds(peaks) == 20.0
