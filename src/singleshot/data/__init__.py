"""Data sets: PASCAL VOC, COCO, YOLO and csv read into one checked form. Importing this never imports torch."""

from singleshot.data.dataset import DetectionDataset, Format, open, splits
from singleshot.data.problems import BadData, Problem

__all__ = ["BadData", "DetectionDataset", "Format", "Problem", "open", "splits"]
