"""Metrics of detectors in numpy: VOC 11-point and area, COCO, curves, confusion matrix."""

from singleshot.evaluation.metrics.measure import DetectionMetrics, VocConfig, evaluate_detections
from singleshot.evaluation.metrics.tables import DetectionTable, GroundTruth

__all__ = ["DetectionMetrics", "DetectionTable", "GroundTruth", "VocConfig", "evaluate_detections"]
