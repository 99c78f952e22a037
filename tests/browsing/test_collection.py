"""Filters, the file of decisions beside a collection, and a model beside the labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsed import make_set, written

from perfect import Perfect
from singleshot.browsing.collection import Collection, ImageFilter, chosen, open_collection
from singleshot.browsing.decision_book import DecisionBook, default_file
from singleshot.browsing.replies import Replies
from singleshot.browsing.second_opinion import SecondOpinion
from singleshot.data.decisions import write_decisions
from singleshot.doctor.opinions import DetectionJudge
from singleshot.errors import ConfigError, DataError, ImageError, OutputError
from singleshot.prediction.frames import Failure, Prediction

IMAGES: Any = [
    ("train/a.jpg", [(0, (10, 10, 20, 20)), (1, (30, 10, 100, 75))]),
    ("train/b.jpg", [(1, (5, 5, 45, 45)), (1, (5, 5, 300, 45))]),
    ("val/c.jpg", [(0, (0, 0, 119, 79))]),
    ("val/empty.jpg", []),
]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return open_collection(make_set(tmp_path_factory.mktemp("browse") / "set", IMAGES, ("cat", "dog")))


@pytest.fixture
def book(collection: Collection, tmp_path: Path) -> DecisionBook:
    return DecisionBook(tmp_path / "d.json", collection)


@pytest.mark.parametrize(
    ("wanted", "images"),
    [
        (ImageFilter(), [0, 1, 2, 3]),
        (ImageFilter(text="nowhere"), []),
        (ImageFilter(class_id=-1), [3]),
        (ImageFilter(class_id=0), [0, 2]),
        (ImageFilter(class_id=1, size=0), []),
        (ImageFilter(class_id=1, size=1), [0, 1]),
        (ImageFilter(size=0), [0]),
        (ImageFilter(size=2), [2]),
        (ImageFilter(split=0), [0, 1]),
        (ImageFilter(split=1, class_id=0), [2]),
        (ImageFilter(kind=-1), [1]),
        (ImageFilter(kind=0), [1]),
        (ImageFilter(text="VAL/"), [2, 3]),
        (ImageFilter(state="undecided"), [1, 3]),
        (ImageFilter(state="decided"), [0, 2]),
        (ImageFilter(state="relabel"), [0]),
        (ImageFilter(state="drop"), [2]),
        (ImageFilter(state="keep"), []),
    ],
)
def test_filters(collection: Collection, book: DecisionBook, wanted: ImageFilter, images: list[int]) -> None:
    book.decide(0, 1, "relabel", 0)
    book.decide(2, None, "drop")
    assert np.flatnonzero(chosen(collection, wanted, book.images, book.objects)).tolist() == images


def test_what_a_collection_holds(collection: Collection) -> None:
    assert collection.splits == ("train", "val")
    assert collection.kinds == ("clipped",)
    assert [problem.kind for problem in collection.problems[1]] == ["clipped"]
    assert collection.names == tuple(f"photos/{name}" for name, _ in IMAGES)


def test_decisions_are_written_at_once_and_read_again(collection: Collection, book: DecisionBook) -> None:
    assert not book.file.exists()
    book.decide(0, 1, "relabel", 0)
    book.decide(1, 0, "keep")
    book.decide(3, None, "drop")
    assert written(book.file) == [
        ("photos/train/a.jpg", "relabel", "cat"),
        ("photos/train/b.jpg", "keep", None),
        ("photos/val/empty.jpg", "drop", None),
    ]
    again = DecisionBook(book.file, collection)
    assert again.counts() == book.counts() == {"drop": 1, "keep": 1, "relabel": 1}
    assert (again.objects.tolist(), again.to.tolist()) == (book.objects.tolist(), book.to.tolist())
    again.decide(0, 1, None)
    assert [action for _, action, _ in written(book.file)] == ["keep", "drop"]
    with pytest.raises(OutputError, match="changed by another program"):
        book.decide(1, 1, "drop")
    assert len(book) == 3
    assert book.objects[3] == 0


def test_decisions_about_what_is_not_there_stay_in_the_file(collection: Collection, book: DecisionBook) -> None:
    book.decide(0, 0, "drop")
    entry = next(iter(book._entries.values()))
    moved = entry.model_copy(update={"image": "gone.jpg"})
    other = entry.model_copy(update={"class_name": "dog"})
    write_decisions(book.file, [moved, other, entry])
    again = DecisionBook(book.file, collection)
    assert (len(again), set(again.strangers)) == (1, {moved, other})
    again.decide(0, 0, "keep")
    assert {(image, action) for image, action, _ in written(book.file)} == {
        ("gone.jpg", "drop"), ("photos/train/a.jpg", "drop"), ("photos/train/a.jpg", "keep")
    }  # fmt: skip


def test_a_decision_about_a_class_that_is_not_shown_is_replaced_by_the_next(
    collection: Collection, book: DecisionBook
) -> None:
    book.decide(0, 1, "relabel", 0)
    dogs = open_collection(collection.dataset.path, classes=("dog",))
    again = DecisionBook(book.file, dogs)
    assert (again.counts()["relabel"], again.to.max(), again.strangers) == (1, -1, [])
    again.decide(0, 0, "drop")
    assert written(book.file) == [("photos/train/a.jpg", "drop", None)]


def test_crowds_that_are_labelled_twice_alike_are_decided_once(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", [("a.jpg", [(0, (1, 1, 30, 30))] * 2)], ("cat",))
    labels = root / "instances.json"
    labels.write_text(labels.read_text().replace('"bbox"', '"iscrowd": 1, "bbox"'))
    crowds = open_collection(root)
    assert len(crowds.truth) == 2
    book = DecisionBook(tmp_path / "d.json", crowds)
    book.decide(0, 0, "drop")
    with pytest.raises(ConfigError, match="object 0 of this image has the same box"):
        book.decide(0, 1, "keep")
    assert len(DecisionBook(book.file, crowds)) == 1


def test_the_data_and_foreign_files_stay_as_they_are(collection: Collection, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="lies in the data set"):
        DecisionBook(collection.dataset.path / "photos" / "d.json", collection)
    for name, text in (("list.json", '{"images": []}'), ("label.txt", "0 1 2 3")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=name):
            DecisionBook(tmp_path / name, collection)
        assert (tmp_path / name).read_text() == text
    assert default_file(tmp_path / "photos") == Path("photos-decisions.json")


@pytest.mark.parametrize(
    "wrong", [(9, 0, "keep"), (-1, None, "keep"), (0, 2, "keep"), (0, -1, "keep"), (0, 0, "burn"), (0, 0, "relabel"),
              (0, 0, "keep", 1), (0, 0, "relabel", 2), (0, None, "relabel", 1)]
)  # fmt: skip
def test_wrong_decisions_are_none(book: DecisionBook, wrong: Any) -> None:
    with pytest.raises(ConfigError):
        book.decide(*wrong)
    assert not book.file.exists()


class Doubter(Perfect):
    """Calls the dog of one image a cat, and cannot read another."""

    def stream(self, paths: Iterable[Path], batch_size: int) -> Iterator[Any]:
        for result in super().stream(paths, batch_size):
            name, found = Path(result.frame.name).name, result.detections
            if name == "c.jpg":
                yield Failure(result.frame.name, ImageError("gone"))
            elif name == "a.jpg":
                cats = np.full(len(found), self.class_names.index("cat"))
                yield Prediction(result.frame, dataclasses.replace(found, class_ids=cats))
            else:
                yield result


def test_a_model_beside_the_labels(collection: Collection, book: DecisionBook) -> None:
    opinion = SecondOpinion(DetectionJudge(Doubter(collection.dataset)), collection, "doubter")
    answers = Replies(collection, book, opinion)
    assert answers.suspects({})["suspects"] == []
    assert answers.image({"id": "0"})["found"] is None
    opinion.start()
    opinion.wait(30)
    assert (opinion.done, opinion.unreadable, opinion.error) == (4, 1, "")
    assert all(entry["image"] != 2 for entry in answers.suspects({})["suspects"])  # it could not be read
    only = [entry for entry in answers.suspects({})["suspects"] if entry["kind"] == "wrong-class"]
    assert [(entry["image"], entry["row"], entry["seen"][4:], entry["likely"]) for entry in only] == [
        (0, 1, [0, 0.9], 0)
    ]
    assert answers.ids({"order": "doubt"})["ids"][0] == 0
    assert answers.image({"id": "2"})["found"] == []
    assert answers.image({"id": "1"})["found"][0] == [5, 5, 45, 45, 1, 0.9]
    answers.decide({"image": 0, "row": 1, "action": "relabel", "to": 0})
    assert not any(entry["kind"] == "wrong-class" for entry in answers.suspects({})["suspects"])


def test_a_model_that_fails_says_why_and_one_that_knows_nothing_is_refused(collection: Collection) -> None:
    class Broken(Perfect):
        def stream(self, paths: Iterable[Path], batch_size: int) -> Iterator[Any]:
            raise RuntimeError("out of luck")

    opinion = SecondOpinion(DetectionJudge(Broken(collection.dataset)), collection, "broken")
    opinion.start()
    opinion.wait(30)
    assert opinion.error == "RuntimeError: out of luck"
    with pytest.raises(DataError, match="share no class"):
        SecondOpinion(DetectionJudge(Perfect(collection.dataset, ("zebra",))), collection, "other")
