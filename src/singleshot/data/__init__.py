"""Data sets: PASCAL VOC, COCO, YOLO and csv read into one checked form. Importing this never imports torch."""

from singleshot.data.dataset import DetectionDataset, Format, open, splits
from singleshot.data.problems import BadData, Problem
from singleshot.data.splitting import SplitNames, usual_splits

__all__ = ["BadData", "DetectionDataset", "Format", "Problem", "SplitNames", "open", "splits", "usual_splits"]
