"""luuuyi/RefineDet.PyTorch: RefineDet 320 and 512 with VGG16."""

from __future__ import annotations

from pathlib import Path

from singleshot.interop.pytorch.vgg_names import flat_extras, head_prefixes, vgg_prefixes
from singleshot.interop.translate import Shapes, Translation, best_per_class, changed, columns_of, renamer, with_classes
from singleshot.models.catalogue import model_spec
from singleshot.models.config import L2NormConfig
from singleshot.models.zoo.box_shapes import refinedet_anchors

LEVELS = 4
BEST_PER_CLASS = 1000


def translate(shapes: Shapes, origin: str) -> Translation:
    """320 and 512 have the same parameters: the file's name decides, 320 if it does not say."""
    columns = columns_of(shapes, "odm_conf.0.weight", "odm_loc.0.weight", origin)
    size = 512 if "512" in Path(origin).name else 320
    spec = model_spec(f"refinedet{size}_vgg16", ())
    norms = tuple(L2NormConfig(init=init, eps="outside") for init in (10.0, 8.0))
    spec = changed(
        spec,
        network={"l2_norms": norms},
        anchors=refinedet_anchors(size, clip="centre"),
        coder={"max_log_ratio": None},
        # The nominal limit of 500 has no effect there.
        postprocess=best_per_class(BEST_PER_CLASS, columns),
    )
    prefixes = vgg_prefixes("vgg.") | flat_extras(1, "extras.") | head_prefixes(LEVELS, "odm_loc.", "odm_conf.")
    prefixes |= {"norms.0.scale": "conv4_3_L2Norm.weight", "norms.1.scale": "conv5_3_L2Norm.weight"}
    arm = head_prefixes(LEVELS, "arm_loc.", "arm_conf.")
    prefixes |= {f"objectness_{ours}": theirs for ours, theirs in arm.items()}
    for level in range(LEVELS):
        block = "neck.deepest" if level == LEVELS - 1 else f"neck.merges.{level}"
        prefixes[f"{block}.before.first.conv"] = f"tcb0.{3 * level}"
        prefixes[f"{block}.before.second.conv"] = f"tcb0.{3 * level + 2}"
        prefixes[f"{block}.deconvolution"] = f"tcb1.{level}"
        prefixes[f"{block}.after.conv.conv"] = f"tcb2.{3 * level + 1}"
    notes = (f"read as {size} x {size}: its parameters do not tell 320 from 512, the file's name does",)
    return Translation(with_classes(spec, columns), renamer(prefixes), notes=notes)
