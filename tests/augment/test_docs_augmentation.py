from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from singleshot.augment.config import PRESETS, parse_augment

TEXT = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_settings_in_the_guide(block):
    value = yaml.safe_load(block)["augment"]
    assert parse_augment(value) != PRESETS[value["preset"]]


def test_every_preset_is_in_the_guide():
    assert set(re.findall(r"^\| `(\w+)`", TEXT, re.MULTILINE)) == set(PRESETS)


def test_code_in_the_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("street.jpg", np.zeros((120, 160, 3), np.uint8))
    names = {"boxes": np.array([[20, 20, 90, 100]], np.float32), "class_ids": np.array([4])}
    (code,) = blocks("python")
    exec(code, names)
    assert names["image"].shape == (300, 300, 3)
    assert len(names["class_ids"]) == len(names["boxes_xyxy"])
