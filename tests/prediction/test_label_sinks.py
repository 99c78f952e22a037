"""Labels, tracks and tables that are written, read back by whoever reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from singleshot import Detections
from singleshot.data.check import check
from singleshot.errors import ConfigError
from singleshot.images.read import read_image, write_image
from singleshot.prediction.frames import Frame, Prediction
from singleshot.prediction.output_folder import ResultFolder
from singleshot.prediction.output_names import OutputNames
from singleshot.prediction.sinks import SINKS, Run

NAMES = ("cat", "traffic light")


def write(kind: str, out: Path, predictions: list[Prediction]) -> None:
    sources = [Path(own.frame.name) for own in predictions]
    with ResultFolder(out, sources if predictions[0].frame.is_file else [], False) as folder:
        run = Run(folder, OutputNames(sources), len(predictions), NAMES)
        with SINKS.get(kind)(run) as sink:
            for own in predictions:
                sink.write(own)


def prediction(frame: Frame, boxes: object, class_ids: object = 0, track_ids: object = None) -> Prediction:
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    count = len(corners)
    ids = None if track_ids is None else np.array(track_ids)
    height, width = frame.pixels.shape[:2]
    return Prediction(
        frame,
        Detections(
            corners, np.full(count, 0.5), np.broadcast_to(class_ids, count), NAMES, (height, width), frame.path,
            track_ids=ids,
        ),
    )  # fmt: skip


def photos(folder: Path) -> list[Frame]:
    """Two photos of one name in different folders, and one more."""
    frames = []
    for number, name in enumerate(("a/1.jpg", "b/1.jpg", "b/2.png")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.full((40, 60, 3), 60 * number, dtype=np.uint8))
        frames.append(Frame(read_image(path), str(path), number, is_file=True))
    return frames


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_labels_are_a_data_set(kind: str, tmp_path: Path) -> None:
    frames = photos(tmp_path / "photos")
    found = [
        prediction(frames[0], [(-5, 2.25, 30, 20), (10, 10, 70, 45)], [0, 1]),
        prediction(frames[1], []),
        prediction(frames[2], [(5, 5, 25, 30), (50, 0, 80, 10), (61, 1, 90, 9)], 1),
    ]
    write(kind, tmp_path / "out", found)
    report = check(tmp_path / "out" / kind)
    assert not report.problems
    assert report.dataset.class_map.names == NAMES
    by_name = {sample.image_path.name: sample for sample in report.dataset.samples}
    assert sorted(by_name) == ["a_1.jpg", "b_1.jpg", "b_2.png"]
    np.testing.assert_allclose(by_name["a_1.jpg"].boxes_xyxy, [(0, 2.25, 30, 20), (10, 10, 60, 40)], atol=1e-4)
    assert by_name["a_1.jpg"].class_ids.tolist() == [0, 1]
    np.testing.assert_allclose(by_name["b_2.png"].boxes_xyxy, [(5, 5, 25, 30), (50, 0, 60, 10)], atol=1e-4)
    assert (read_image(by_name["b_2.png"].image_path) == frames[2].pixels).all()


def video(number: int, count: int = 1) -> Frame:
    return Frame(
        np.full((40, 60, 3), 10 * number, dtype=np.uint8), f"clips/c{count}.mp4/{number:06d}", number, number / 10
    )


def test_frames_of_videos_are_labelled_too(tmp_path: Path) -> None:
    write(
        "yolo",
        tmp_path / "out",
        [prediction(video(number, clip), [(1, 1, 20, 20)]) for clip in (1, 2) for number in (0, 5)],
    )
    report = check(tmp_path / "out" / "yolo")
    assert not report.problems
    assert len({sample.image_path.name for sample in report.dataset.samples}) == 4


def test_tracks_in_the_form_of_the_mot_challenge(tmp_path: Path) -> None:
    found = [prediction(video(number), [(1, 2, 21, 32), (5, 5, 9, 9)], track_ids=[7, -1]) for number in range(3)]
    write("mot", tmp_path / "out", [*found, prediction(video(0, 2), [(1, 2, 3, 4)], track_ids=[1])])
    lines = (tmp_path / "out" / "mot" / "c1.txt").read_text().splitlines()
    assert lines == [f"{number},7,1.00,2.00,20.00,30.00,0.5000,-1,-1,-1" for number in (1, 2, 3)]
    assert (tmp_path / "out" / "mot" / "c2.txt").read_text().startswith("1,1,1.00,2.00,2.00,2.00,")
    with pytest.raises(ConfigError, match="track=True"):
        write("mot", tmp_path / "other", [prediction(video(0), [])])


def test_a_parquet_table_reads_back(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(
        "parquet",
        tmp_path / "out",
        [prediction(video(number), [(1, 2, 21, 32)] * number, track_ids=[3] * number) for number in range(4)],
    )
    table = parquet.read_table(tmp_path / "out" / "detections.parquet").to_pylist()
    assert [row["frame"] for row in table] == [0, 1, 2, 2, 3, 3, 3]
    assert table[0]["class_id"] is None  # nothing was found, and that is a row
    assert table[1] == {
        "image": "clips/c1.mp4/000001", "frame": 1, "time_s": 0.1, "class_id": 0, "class_name": "cat", "score": 0.5,
        "x1": 1.0, "y1": 2.0, "x2": 21.0, "y2": 32.0, "track_id": 3,
        "height": 40, "width": 60, "error": None,
    }  # fmt: skip
    assert not list((tmp_path / "out").glob(".*.part"))
