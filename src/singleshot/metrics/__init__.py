"""Metrics of detectors in numpy: VOC 11-point and area, COCO, curves, confusion matrix."""

from singleshot.metrics.evaluate import DetectionMetrics, VocConfig, evaluate_detections
from singleshot.metrics.tables import DetectionTable, GroundTruth

__all__ = ["DetectionMetrics", "DetectionTable", "GroundTruth", "VocConfig", "evaluate_detections"]
