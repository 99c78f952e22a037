"""What a row of the zoo is, and what several families share. No torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from singleshot.core.settings import AnchorConfig, CoderConfig, PostprocessConfig, PreprocessConfig, SizeHW
from singleshot.models.config import ExtraBlock, ModelSpec, NetworkConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NO_CLASSES = 1
"""Columns of the class logits of a template: background alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(ABC):
    """A detector by name: a row of the catalogue.

    Attributes:
        name: what ``train(model=...)`` and ``singleshot models`` call it.
        family: heading that it is listed under.
        description: one line.
    """

    name: str
    family: str
    description: str

    @property
    @abstractmethod
    def size_hw(self) -> SizeHW:
        """Input size that it was designed for."""

    @abstractmethod
    def spec(self, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
        """The detector for these classes at this input size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template(Model):
    """A detector written out in full; classes and another input size are filled in.

    Attributes:
        network: with a head for ``NO_CLASSES``.
        anchors, coder, preprocess, postprocess: see ``ModelSpec``; ``preprocess.size_hw`` is the size by design.
    """

    network: NetworkConfig
    anchors: AnchorConfig
    preprocess: PreprocessConfig
    coder: CoderConfig = CoderConfig()  # noqa: RUF009 - frozen
    postprocess: PostprocessConfig = PostprocessConfig()  # noqa: RUF009 - frozen

    @property
    def size_hw(self) -> SizeHW:
        """Input size that it was designed for."""
        return self.preprocess.size_hw

    def spec(self, class_names: tuple[str, ...], size_hw: SizeHW) -> ModelSpec:
        """The detector for these classes at this input size."""
        head = self.network.head.model_copy(update={"logits": len(class_names) + 1})
        return ModelSpec(
            name=self.name,
            network=self.network.model_copy(update={"head": head}),
            anchors=self.anchors,
            coder=self.coder,
            preprocess=PreprocessConfig(**{**dict(self.preprocess), "size_hw": size_hw}),
            postprocess=self.postprocess,
            class_names=class_names,
        )


def imagenet_preprocess(side: int) -> PreprocessConfig:
    """What torchvision's ResNet weights were trained with, at a square size."""
    return PreprocessConfig(size_hw=(side, side), scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def upsampling(taps: int, extras: Sequence[ExtraBlock]) -> tuple[tuple[int, int], ...]:
    """What undoes the steps between the sources, as ``NeckConfig.upsampling``.

    Stride 2 is undone by 2x2 stride 2 (DSSD figure 3); an unpadded k x k of stride 1 by k x k of stride 1.

    Args:
        taps: sources of the backbone, each half as large as the one before.
        extras: the appended blocks.
    """
    steps = [(2, 2)] * (taps - 1)
    for block in extras:
        lost = block.kernel - 2 * block.padding if isinstance(block.padding, int) else 1
        steps.append((block.stride, block.stride) if block.stride > 1 else (max(lost, 1), 1))
    return tuple(steps)
