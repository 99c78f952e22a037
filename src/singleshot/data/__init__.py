"""Data sets: PASCAL VOC, COCO, YOLO, LabelMe and csv read into one checked form. Importing this never imports torch."""

from singleshot.data.dataset import DetectionDataset, open, splits
from singleshot.data.parts import open_training
from singleshot.data.problems import BadData, Problem
from singleshot.data.recognise import Format

__all__ = ["BadData", "DetectionDataset", "Format", "Problem", "open", "open_training", "splits"]
