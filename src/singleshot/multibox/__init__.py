"""The algorithm of single-shot detectors, as functions on batched tensors. To learn how SSD works, read in this order:

``shapes`` and ``anchors``: the default boxes that every image is covered with.
``coder``: how a box is told relative to an anchor.
``matching``: which anchor learns which object.
``mining``: which of the many other anchors learn background.
``loss``: the comparison that trains a network, and its normalisation.
``decode``, ``scores``, ``nms``, ``soft_nms``: from a network's numbers to detections, by the rules of
``core.postprocess``; ``shortlist``: which candidates are worth an exponential.
``refine``: RefineDet, which does all of it twice.

Column 0 of the logits is background; only here. This package itself imports nothing, so that ``shapes`` needs no torch.
"""
