"""The tests' own writers of files, which lie beside the tests that they were made for."""

from __future__ import annotations

import sys
from pathlib import Path

for _room in ("interop", "data", "images"):
    _folder = str(Path(__file__).parents[1] / _room)
    if _folder not in sys.path:
        sys.path.append(_folder)

# ruff: noqa: E402, I001
from data_makers import (
    coco_box,
    coco_image,
    make_coco,
    make_image,
    make_list,
    make_voc_image,
    make_yolo_image,
    voc_object,
)
from mxnet_writer import params_bytes, symbol_json
from picture_writers import Page, png, tiff
from rec_makers import make_rec
from test_caffe import BODY, SHAPES, random_blobs, small_net
from tflite_writer import CONV, Writer
from wire_writer import caffemodel, field, graphdef, varint

__all__ = [
    "BODY",
    "CONV",
    "SHAPES",
    "Page",
    "Writer",
    "caffemodel",
    "coco_box",
    "coco_image",
    "field",
    "graphdef",
    "make_coco",
    "make_image",
    "make_list",
    "make_rec",
    "make_voc_image",
    "make_yolo_image",
    "params_bytes",
    "png",
    "random_blobs",
    "small_net",
    "symbol_json",
    "tiff",
    "varint",
    "voc_object",
]
