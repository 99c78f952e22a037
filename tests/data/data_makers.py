"""Small data sets written word by word into a folder."""

from __future__ import annotations

import json
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np

Box = tuple[object, object, object, object]


def make_image(
    path: Path,
    size_hw: tuple[int, int] = (40, 60),
    orientation: int = 1,
    pixels: np.ndarray | None = None,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.linspace(0, 255, size_hw[0] * size_hw[1] * 3).reshape(*size_hw, 3).astype(np.uint8)
    data = cv2.imencode(path.suffix, pixels)[1].tobytes()
    if orientation != 1:
        exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + b"\0\0\0\0"
        data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    path.write_bytes(data)
    return path


def voc_object(name: str, box: Box, difficult: int = 0) -> str:
    x0, y0, x1, y1 = box
    return (
        f"<object><name>{escape(name)}</name><difficult>{difficult}</difficult>"
        f"<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>\n"
    )


def make_voc_image(
    root: Path,
    stem: str,
    *objects: str,
    size_hw: tuple[int, int] = (40, 60),
    declared_hw: tuple[int, int] | None = (40, 60),
    orientation: int = 1,
    flat: bool = False,
) -> None:
    """``<annotation>`` is line 1, ``<size>`` line 2, the objects begin at line 3."""
    make_image(root / ("" if flat else "JPEGImages") / f"{stem}.jpg", size_hw, orientation)
    size = ""
    if declared_hw is not None:
        size = f"<size><width>{declared_hw[1]}</width><height>{declared_hw[0]}</height><depth>3</depth></size>"
    file = root / ("" if flat else "Annotations") / f"{stem}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation>\n{size}\n{''.join(objects)}</annotation>\n")


def make_list(root: Path, split: str, *stems: str) -> None:
    file = root / "ImageSets" / "Main" / f"{split}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{stem}\n" for stem in stems))


def make_coco(
    file: Path,
    images: list[dict[str, object]],
    annotations: list[dict[str, object]],
    categories: list[dict[str, object]],
    image_folder: Path | None = None,
) -> Path:
    """One record to a line: images begin at line 2, annotations after them."""
    for record in images:
        if image_folder is not None and isinstance(record.get("file_name"), str):
            make_image(image_folder / str(record["file_name"]))
    parts = []
    for key, records in (("images", images), ("annotations", annotations), ("categories", categories)):
        parts.append(f'"{key}": [\n' + ",\n".join(json.dumps(record) for record in records) + "]")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{" + ",\n".join(parts) + "}")
    return file


def coco_image(key: object, name: str, size_hw: tuple[int, int] = (40, 60)) -> dict[str, object]:
    return {"id": key, "file_name": name, "height": size_hw[0], "width": size_hw[1]}


def coco_box(key: int, image: object, category: object, bbox: object, **more: object) -> dict[str, object]:
    return {"id": key, "image_id": image, "category_id": category, "bbox": bbox, **more}


def make_yolo_image(root: Path, name: str, *lines: str, images: str = "images", labels: str = "labels") -> None:
    make_image(root / images / f"{name}.jpg")
    file = root / labels / f"{name}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))
