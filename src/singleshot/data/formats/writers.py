"""Samples in the formats' own words, and whole folders of them; the images are put there by others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import yaml

from singleshot.core.files import write_atomically
from singleshot.core.structures import Sample
from singleshot.data.convert_names import describe_keys, refuse_background, yolo_keys
from singleshot.data.formats.registry import Content, Writer

CocoRecord = dict[str, object]


def voc_xml(sample: Sample, file_name: str, class_names: Sequence[str]) -> str:
    """A VOC annotation: one-based inclusive pixels; ``difficult`` is kept, and set for crowds, which VOC cannot say."""
    height, width = sample.image_size_hw
    lines = [
        "<annotation>",
        f"  <filename>{escape(file_name)}</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
    ]
    flags = (sample.difficult | sample.iscrowd).tolist()
    for box, index, difficult in zip(sample.boxes_xyxy.tolist(), sample.class_ids.tolist(), flags, strict=True):
        corners = (box[0] + 1, box[1] + 1, box[2], box[3])
        keys = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        lines += [
            "  <object>",
            f"    <name>{escape(class_names[index])}</name>",
            f"    <difficult>{int(difficult)}</difficult>",
            f"    <bndbox>{''.join(f'<{key}>{value:.9g}</{key}>' for key, value in keys)}</bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def yolo_text(sample: Sample) -> str:
    """YOLO lines ``class cx cy w h`` in fractions of the image; crowds are left out, as they are no single objects."""
    height, width = sample.image_size_hw
    lines = []
    for box, index, crowd in zip(
        sample.boxes_xyxy.tolist(), sample.class_ids.tolist(), sample.iscrowd.tolist(), strict=True
    ):
        if not crowd:
            cx, cy = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
            w, h = (box[2] - box[0]) / width, (box[3] - box[1]) / height
            lines.append(f"{index} {cx:.9g} {cy:.9g} {w:.9g} {h:.9g}\n")
    return "".join(lines)


def coco_records(
    sample: Sample, file_name: str, image_id: int, first_id: int, category_ids: Sequence[int]
) -> tuple[CocoRecord, list[CocoRecord]]:
    """COCO's image and annotation records; ``difficult`` is added where set, which other readers pass over."""
    height, width = sample.image_size_hw
    image: CocoRecord = {"id": image_id, "file_name": file_name, "height": height, "width": width}
    columns = (sample.boxes_xyxy, sample.class_ids, sample.areas, sample.iscrowd, sample.difficult)
    annotations: list[CocoRecord] = []
    for box, index, area, crowd, difficult in zip(*(column.tolist() for column in columns), strict=True):
        x0, y0, x1, y1 = (float(f"{value:.9g}") for value in box)
        record: CocoRecord = {
            "id": first_id + len(annotations),
            "image_id": image_id,
            "category_id": category_ids[index],
            "bbox": [x0, y0, float(f"{x1 - x0:.9g}"), float(f"{y1 - y0:.9g}")],
            "area": area,
            "iscrowd": int(crowd),
        }
        annotations.append({**record, "difficult": 1} if difficult else record)
    return image, annotations


def write_voc(folder: Path, content: Content) -> None:
    """Write ``Annotations/``, ``ImageSets/Main/`` and ``classes.txt``; the images belong in ``JPEGImages/``."""
    for sample in content.samples:
        name = content.names[sample.image_path]
        xml = voc_xml(sample, name, content.class_map.names)
        write_atomically(folder / "Annotations" / f"{Path(name).stem}.xml", xml)
    for split, samples in content.splits.items():
        if split is not None:
            lines = "".join(f"{Path(content.names[sample.image_path]).stem}\n" for sample in samples)
            write_atomically(folder / "ImageSets" / "Main" / f"{split}.txt", lines)
    write_atomically(folder / "classes.txt", "".join(f"{name}\n" for name in content.class_map.names))


def write_yolo(folder: Path, content: Content) -> None:
    """Write ``labels/``, a list of images for each split, and ``data.yaml``.

    There is no ``path`` in it: other tools take a relative one from their own settings, and its absence for the folder
    of the file.
    """
    for sample in content.samples:
        write_atomically(folder / "labels" / f"{Path(content.names[sample.image_path]).stem}.txt", yolo_text(sample))
    settings: dict[str, object] = {}
    keys = yolo_keys([split for split in content.splits if split is not None])
    for split, samples in content.splits.items():
        if split is None:
            settings["train"] = "images"
            continue
        # Lists, because an image may be in several splits (trainval and train).
        lines = "".join(f"./images/{content.names[sample.image_path]}\n" for sample in samples)
        write_atomically(folder / f"{split}.txt", lines)
        settings[keys[split]] = f"{split}.txt"
    settings["names"] = dict(enumerate(content.class_map.names))
    write_atomically(folder / "data.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def write_coco(folder: Path, content: Content) -> None:
    """Write ``annotations/instances_SPLIT.json``; category and image ids of a COCO source are kept."""
    classes = content.class_map
    ids = classes.ids if content.source_format == "coco" else tuple(range(1, len(classes) + 1))
    categories = [{"id": key, "name": name} for key, name in zip(ids, classes.names, strict=True)]
    numbers = {sample.image_path: number for number, sample in enumerate(content.samples, 1)}
    if all(isinstance(sample.image_id, int) for sample in content.samples):
        numbers = {sample.image_path: int(sample.image_id) for sample in content.samples}
    for split, samples in content.splits.items():
        images: list[CocoRecord] = []
        annotations: list[CocoRecord] = []
        for sample in samples:
            path = sample.image_path
            image, objects = coco_records(sample, content.names[path], numbers[path], len(annotations) + 1, ids)
            images.append(image)
            annotations += objects
        whole = {"images": images, "annotations": annotations, "categories": categories}
        name = "instances.json" if split is None else f"instances_{split}.json"
        write_atomically(folder / "annotations" / name, json.dumps(whole))


def _voc_losses(crowds: int, difficult: int) -> Iterable[str]:
    if crowds:
        yield f"{crowds} crowds became difficult objects: VOC has no crowds"


def _yolo_losses(crowds: int, difficult: int) -> Iterable[str]:
    if crowds:
        yield f"{crowds} crowds were left out: YOLO has no crowds"
    if difficult:
        yield f"{difficult} difficult objects became ordinary ones: YOLO has no such flag"


VOC = Writer(
    write_voc,
    "JPEGImages",
    frozenset({"Annotations", "JPEGImages", "ImageSets", "classes.txt"}),
    needs_splits=False,
    check_names=refuse_background,
    losses=_voc_losses,
)
COCO = Writer(write_coco, "images", frozenset({"annotations", "images"}), any_class_name=True)
YOLO = Writer(
    write_yolo,
    "images",
    frozenset({"images", "labels", "data.yaml"}),
    losses=_yolo_losses,
    notes=lambda splits: describe_keys(yolo_keys(splits)),
)
