"""Random training patches of planes that are held in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from napari_unet.augment.chance import Chance
from napari_unet.augment.geometric import draw_coordinates
from napari_unet.errors import TrainingError
from napari_unet.training.patches import AugmentationSettings, Crop, Patch, PatchFrame, cut_patch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy.typing as npt
    from torch import Tensor

    from napari_unet.core.boxes import Shape
    from napari_unet.core.receptive import NetGeometry
    from napari_unet.training.loss import Rehearsed


class SamplerSettings(AugmentationSettings):
    """How patches are drawn.

    Parameters
    ----------
    output_edge : int
        Edge of the label patch, in pixels; taken up to the next edge that the network can have.
    batch_size : int
        Patches per step.
    geometric, intensity
        What is changed at random; see `AugmentationSettings`.
    """

    output_edge: Annotated[int, Field(ge=1)] = 196
    batch_size: Annotated[int, Field(ge=1)] = 1


@dataclass(frozen=True, slots=True, eq=False)
class LabeledPlanes:
    """A stack of planes to learn from.

    Parameters
    ----------
    image : numpy.ndarray
        (C, N, Y, X) float32, standardized.
    labels : numpy.ndarray
        (N, Y, X) whole numbers: 0 = unlabeled, k = the k-th class.
    share : float
        How often a patch comes from this stack, relative to the others.
    weights : numpy.ndarray, optional
        (N, Y, X) weights of the pixels in the loss.

    Raises
    ------
    TrainingError
        If shapes differ or nothing is labeled.
    """

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.integer[Any]]
    share: float = 1.0
    weights: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        shapes = {self.labels.shape, self.image.shape[1:]}
        if self.weights is not None:
            shapes.add(self.weights.shape)
        if len(shapes) != 1 or self.labels.ndim != 3:
            raise TrainingError(
                f"image of shape {self.image.shape} and labels of shape {self.labels.shape} do not "
                "fit; give an image (c, n, y, x) and labels and weights (n, y, x)"
            )
        if not self.labels.any():
            raise TrainingError(
                f"no pixel of the labels (shape {self.labels.shape}) is annotated; "
                "paint some pixels first"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one step learns from.

    Parameters
    ----------
    image : Tensor
        (N, C, H, W) float32.
    labels : Tensor
        (N, h, w) int64; h = H - 2 * halo.
    weights : Tensor or None
        (N, h, w) float32.
    rehearsed : Rehearsed or None
        Which patches are rehearsed; None = none.
    """

    image: Tensor
    labels: Tensor
    weights: Tensor | None
    rehearsed: Rehearsed | None = None


def stack_patches(patches: Sequence[Patch], *, weighted: bool) -> Batch:
    """Return the batch of patches of one size; without weights if they are all 1 anyway."""
    return Batch(
        torch.stack([patch.image for patch in patches]),
        torch.stack([patch.labels for patch in patches]),
        torch.stack([patch.weights for patch in patches]) if weighted else None,
    )


def normalize_shares(shares: Sequence[float], what: str) -> npt.NDArray[np.float64]:
    """Return shares as probabilities.

    Parameters
    ----------
    shares : sequence of float
        How often to draw from each thing, relative to the others.
    what : str
        What is drawn from, in the plural, for the message.

    Raises
    ------
    TrainingError
        If there is none with a positive share, or one with a negative share.
    """
    values = np.array(shares, dtype=np.float64)
    if not len(values) or (values < 0).any() or not 0 < values.sum() < np.inf:
        raise TrainingError(
            f"{what} with the shares {values.tolist()} cannot be drawn from; "
            f"give at least one of the {what} a positive share and none a negative one"
        )
    return np.asarray(values / values.sum())


class PatchSampler:
    """Draws random, augmented patches; the same generator gives the same patches.

    One generator is drawn from in a fixed order, which bundled models depend on: their recipes
    repeat bit for bit.

    Parameters
    ----------
    stacks : sequence of LabeledPlanes
        Where patches come from.
    geometry : NetGeometry
        Of the network, (z, y, x).
    settings : SamplerSettings
        Sizes and augmentation.

    Raises
    ------
    TrainingError
        If there is no stack with a positive share.
    """

    def __init__(
        self, stacks: Sequence[LabeledPlanes], geometry: NetGeometry, settings: SamplerSettings
    ) -> None:
        self._shares = normalize_shares([stack.share for stack in stacks], "stacks")
        self.stacks = tuple(stacks)
        self.settings = settings
        self.frame = PatchFrame.fitting(geometry, settings.output_edge)
        self._weighted = any(stack.weights is not None for stack in stacks)

    @property
    def input_shape(self) -> Shape:
        """Shape (y, x) of the image patch."""
        return self.frame.input_shape

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return the next batch."""
        patches = [self._draw_patch(rng) for _ in range(self.settings.batch_size)]
        return stack_patches(patches, weighted=self._weighted)

    def _draw_patch(self, rng: np.random.Generator) -> Patch:
        stack = self.stacks[rng.choice(len(self.stacks), p=self._shares)]
        plane = int(rng.integers(stack.labels.shape[0]))
        center = self._draw_center(stack.labels.shape[1:], rng)
        chance = Chance.shared(rng)
        coordinates = draw_coordinates(self.input_shape, center, chance, self.settings.geometric)
        crop = Crop(
            torch.tensor(stack.image[:, plane]),
            torch.from_numpy(stack.labels[plane].astype(np.int64)),
            None if stack.weights is None else torch.tensor(stack.weights[plane]),
        )
        return cut_patch(crop, coordinates, self.frame, chance, self.settings)

    def _draw_center(
        self, plane_shape: Sequence[int], rng: np.random.Generator
    ) -> tuple[float, ...]:
        """Return a patch center, on the pixel grid, that leaves little of the output outside.

        Half a stride of play is always left, so that a plane no larger than the output is seen
        under all pooling grids.
        """
        center = []
        sizes = zip(plane_shape, self.input_shape, self.frame.halo, self.frame.stride, strict=True)
        for size, edge, halo, stride in sizes:
            play = max((size - (edge - 2 * halo)) // 2, 0) + stride // 2
            to_grid = (edge - 1) % 2 / 2
            center.append((size - 1) // 2 + int(rng.integers(-play, play + 1)) + to_grid)
        return tuple(center)
