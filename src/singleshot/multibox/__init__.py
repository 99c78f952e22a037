"""The algorithm of single-shot detectors. To learn how SSD works, read in this order:

1. ``plain``: all of it in one page, in loops over images, anchors and objects: matching, mining, loss, decoding, NMS.
   The rest computes the same for whole batches; tests compare every form with this one.
2. ``anchors``: the default boxes that every image is covered with. ``coder``: boxes as offsets from an anchor.
3. ``matching``: which anchor learns which object. ``mining``: which of the many others learn background.
4. ``loss``: the comparison that trains a network, with ``class_losses`` and ``box_losses`` to choose from.
   ``rows``: how images with different numbers of objects are computed at once.
5. ``decode``, ``scores``, ``nms``, ``soft_nms``: from a network's numbers to detections, by the rules of
   ``core.postprocess``. ``shortlist``: which candidates are worth an exponential.
6. ``refine``: RefineDet, which does all of it twice.

``singleshot explain PHOTO_OR_DATA`` draws steps 2, 3 and 5 on an image of yours. Column 0 of the logits is background;
only here. This package itself imports nothing.
"""
