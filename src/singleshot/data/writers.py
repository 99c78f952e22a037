"""How each format writes down one image; `convert` puts the pieces into folders."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from singleshot.structures import Sample

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
