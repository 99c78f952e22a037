"""What a run's page says about its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from singleshot.core.structures import Batch, ClassMap, Sample
from singleshot.data import DetectionDataset
from singleshot.report.page import Figures, Section, Table, Text, render_page
from singleshot.training.pages import batch_section, curve_section, data_digest, data_section, held_out_rule

BOX = np.array([[1.0, 2, 20, 30]], np.float32)


TWO = ("cat", "<b>dog</b>")


def dataset(names: list[str], classes: tuple[str, ...] = TWO, split: str = "train") -> DetectionDataset:
    samples = tuple(Sample(Path(f"{name}.jpg"), (40, 60), BOX, np.array([1])) for name in names)
    return DetectionDataset(Path("set"), samples, ClassMap(classes), split, ("train", "val"), "voc")


def table(section: Section, place: int) -> Table:
    found = [block for block in section.blocks if isinstance(block, Table)][place]
    return found


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b"]])
def test_data_is_counted(names: list[str]) -> None:
    section = data_section(dataset(names), dataset(["v"], split="val"), "So it is.")
    learnt, measured = table(section, 0).rows
    assert learnt[:5] == ["learnt from", "train", len(names), 0, len(names)]
    assert measured[:5] == ["measured on", "val", 1, 0, 1]
    assert table(section, 1).rows == [["cat", 0, 0], ["<b>dog</b>", len(names), 1]]
    page = render_page("t", [section])
    assert "So it is." in page
    assert "<b>dog" not in page


def test_without_held_out_images_it_says_so() -> None:
    train_set = dataset(["a"])
    assert len(table(data_section(train_set, None, ""), 0).rows) == 1
    assert "Nothing was held out" in held_out_rule(train_set, None, ())
    val_set = dataset(["v"], split="val")
    assert held_out_rule(train_set, val_set, ["train", "val"]) == "The splits are the data set's own: train, val."
    assert "1 image of 2 were held out by a hash" in held_out_rule(train_set, val_set, [])


def test_the_digest_knows_content_not_order() -> None:
    both = data_digest(dataset(["a", "b"]))
    assert both == data_digest(dataset(["b", "a"]))
    moved = Sample(Path("elsewhere/a.jpg"), (40, 60), BOX + 1, np.array([1]))
    others = [dataset([]), dataset(["a"]), dataset(["a", "c"]), dataset(["a", "b"], ("cat", "dog"))]
    others.append(DetectionDataset(Path("set"), (moved, dataset(["b"])[0]), ClassMap(("cat", "x")), None, (), "voc"))
    assert len({both, *map(data_digest, others)}) == len(others) + 1
    assert data_digest(dataset(["caf\udce9"])) != data_digest(dataset(["café"]))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_training_images_show_their_objects(count: int) -> None:
    images = torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 20, 40, 50]]).repeat(2, count, 1)
    ids = torch.zeros((2, count), dtype=torch.int64)
    ids[1] = -1  # only padding
    section = batch_section(Batch(images, boxes, ids, ids >= 0, torch.tensor([4, 0])), ["cat"], list("vwxyz"))
    text, figures = section.blocks
    assert isinstance(text, Text)
    assert isinstance(figures, Figures)
    assert [figure.caption.split(":")[0] for figure in figures.figures] == ["z", "v"]
    drawn, plain = (figure.image for figure in figures.figures)
    assert isinstance(drawn, np.ndarray)
    assert (drawn != 128).any() == (count > 0)
    assert np.all(plain == 128)


def test_training_images_may_lie_outside_the_range_of_bytes() -> None:
    images = torch.tensor([-90.0, 30.6, 400.0]).repeat_interleave(64 * 64).view(1, 3, 64, 64)
    boxes, ids = torch.zeros(1, 0, 4), torch.zeros((1, 0), dtype=torch.int64)
    _, figures = batch_section(Batch(images, boxes, ids, ids >= 0, torch.tensor([0])), ["cat"], ["x"]).blocks
    assert isinstance(figures, Figures)
    picture = figures.figures[0].image
    assert isinstance(picture, np.ndarray)
    assert (picture == [0, 31, 255]).all()


def test_curves_are_as_wide_as_the_page() -> None:
    pytest.importorskip("matplotlib")
    section = curve_section({"total": ([1, 2], [3.0, 2.0])}, {}, {"learning rate": ([1, 2], [0.1, 0.01])})
    (figures,) = section.blocks
    assert isinstance(figures, Figures)
    assert figures.min_width_px > 1070 / 2  # one a row
    rate = figures.figures[1].svg()
    drawn = rate.partition('<g class="probe"')[0]  # without what the pointer tells
    assert drawn.count("learning rate") == 2  # axis and legend
    assert "loss" not in rate
