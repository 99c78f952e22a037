from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from singleshot.errors import WeightsError
from singleshot.training.checkpoint import SEAL_BYTES, Best, Learner, RunState, load_checkpoint, save_checkpoint
from singleshot.training.ema import Ema


def learner(width: int = 2) -> Learner:
    network = nn.Linear(width, 1)
    return Learner(network, torch.optim.SGD(network.parameters(), 0.1, momentum=0.9), Ema(network, 0.9))


def learn(it: Learner) -> None:
    it.network(torch.rand(3, it.network.in_features)).sum().backward()
    it.optimizer.step()
    it.optimizer.zero_grad()
    it.ema.update()


def test_everything_comes_back(tmp_path: Path) -> None:
    first = learner()
    learn(first)
    run = RunState(step=7, elapsed_s=1.5, next_evaluation=2.0, best=Best(0.4, 5, {"AP50": 0.4}), stale=1)
    save_checkpoint(tmp_path / "state.pt", first, run)
    drawn = torch.rand(3)
    second = learner()
    assert load_checkpoint(tmp_path / "state.pt", second) == run
    assert torch.equal(torch.rand(3), drawn)
    assert second.ema.updates == 1
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)
        momenta = first.optimizer.state[a]["momentum_buffer"], second.optimizer.state[b]["momentum_buffer"]
        assert torch.equal(*momenta)


def test_a_state_of_before_the_numbers_were_kept_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(path, learner(), RunState(step=7, best=Best(0.4, 5)))
    saved = torch.load(path, weights_only=True)
    saved["run"] |= {"best": 0.4, "best_step": 5}
    torch.save(saved, path)
    assert load_checkpoint(path, learner()) == RunState(step=7, best=Best(0.4, 5))


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "state.pt", learner(2), RunState())
    with pytest.raises(WeightsError, match="other settings"):
        load_checkpoint(tmp_path / "state.pt", learner(3))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("owned",)


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps({"format": 1, "x": 2})])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"state\.pt"):
        load_checkpoint(tmp_path / "state.pt", learner())


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"state\.pt"):
        load_checkpoint(tmp_path / "state.pt", learner())


def test_foreign_code_in_a_state_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"format": 1, "run": Evil()}, tmp_path / "state.pt")
    with pytest.raises(WeightsError, match="cannot read"):
        load_checkpoint(tmp_path / "state.pt", learner())
    assert "owned" not in capsys.readouterr().out


def test_a_failed_save_keeps_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(path, learner(), RunState(step=1))
    before = path.read_bytes()

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, learner(), RunState(step=2))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(path, learner(), RunState(step=3))
    content = path.read_bytes()
    assert torch.load(path, weights_only=True)["run"]["step"] == 3  # others can read it, too
    places = np.random.default_rng(0).integers(0, len(content), 100)
    for place in [0, *places.tolist(), len(content) - 1]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"state\.pt.*`weights=.*last\.safetensors"):
            load_checkpoint(path, learner())


def test_a_state_of_before_there_was_a_digest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(path, learner(), RunState(step=3))
    path.write_bytes(path.read_bytes()[:-SEAL_BYTES])
    assert load_checkpoint(path, learner()).step == 3
