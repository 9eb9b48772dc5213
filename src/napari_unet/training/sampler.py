"""Random training patches: large tiles, with a mirrored border where the image ends.

::

    +---------------------------+   image patch: the network's input; may reach outside the plane,
    |  halo                     |   where the image is mirrored
    |    +-----------------+    |
    |    |  labels: the    |    |   label patch: the network's output; outside the plane it is
    |    |  output         |    |   unlabeled, i.e. ignored
    |    +-----------------+    |
    +---------------------------+

Few large patches are better than many small ones (Ronneberger et al. 2015, sec. 3): the halo costs
as much for a small patch as for a large one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from napari_unet.augment.geometric import (
    GeometricSettings,
    draw_coordinates,
    resample_image,
    resample_labels,
)
from napari_unet.augment.intensity import IntensitySettings, jitter_intensity
from napari_unet.core.settings import Settings
from napari_unet.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy.typing as npt
    from torch import Tensor

    from napari_unet.core.receptive import NetGeometry


class SamplerSettings(Settings):
    """How patches are drawn.

    Parameters
    ----------
    output_edge : int
        Edge of the label patch, in pixels; taken up to the next edge that the network can have.
    batch_size : int
        Patches per step.
    geometric, intensity
        What is changed at random.
    """

    output_edge: Annotated[int, Field(ge=1)] = 196
    batch_size: Annotated[int, Field(ge=1)] = 1
    geometric: GeometricSettings = GeometricSettings()
    intensity: IntensitySettings = IntensitySettings()


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
    """

    image: Tensor
    labels: Tensor
    weights: Tensor | None


class PatchSampler:
    """Draws random, augmented patches; the same generator gives the same patches.

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
        shares = np.array([stack.share for stack in stacks], dtype=np.float64)
        if not len(shares) or (shares < 0).any() or not shares.sum() > 0:
            raise TrainingError(
                f"stacks with the shares {shares.tolist()} cannot be drawn from; "
                "give at least one stack with a positive share and none with a negative one"
            )
        self.stacks = tuple(stacks)
        self.settings = settings
        self._shares = shares / shares.sum()
        wanted = (1, settings.output_edge, settings.output_edge)
        self.input_shape = geometry.input_shape(wanted)[1:]
        self._halo = geometry.halo[1:]
        self._stride = geometry.stride[1:]
        self._weighted = any(stack.weights is not None for stack in stacks)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return the next batch."""
        patches = [self._draw_patch(rng) for _ in range(self.settings.batch_size)]
        images, labels, weights = zip(*patches, strict=True)
        return Batch(
            torch.stack(images),
            torch.stack(labels),
            torch.stack(weights) if self._weighted else None,
        )

    def _draw_patch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        stack = self.stacks[rng.choice(len(self.stacks), p=self._shares)]
        plane = int(rng.integers(stack.labels.shape[0]))
        coordinates = draw_coordinates(
            self.input_shape,
            self._draw_center(stack.labels.shape[1:], rng),
            rng,
            self.settings.geometric,
        )
        image = resample_image(
            torch.tensor(stack.image[:, plane]),
            coordinates,
            self.settings.geometric.interpolation,
        )
        inner = coordinates[(slice(None), *(slice(h, -h or None) for h in self._halo))]
        labels = resample_labels(torch.from_numpy(stack.labels[plane].astype(np.int64)), inner)
        weights = torch.ones(labels.shape)
        if stack.weights is not None:
            weights = resample_labels(torch.tensor(stack.weights[plane]), inner)
        return jitter_intensity(image, rng, self.settings.intensity), labels, weights

    def _draw_center(
        self, plane_shape: Sequence[int], rng: np.random.Generator
    ) -> tuple[float, ...]:
        """Return a patch center, on the pixel grid, that leaves little of the output outside.

        Half a stride of play is always left, so that a plane no larger than the output is seen
        under all pooling grids.
        """
        center = []
        sizes = zip(plane_shape, self.input_shape, self._halo, self._stride, strict=True)
        for size, edge, halo, stride in sizes:
            play = max((size - (edge - 2 * halo)) // 2, 0) + stride // 2
            to_grid = (edge - 1) % 2 / 2
            center.append((size - 1) // 2 + int(rng.integers(-play, play + 1)) + to_grid)
        return tuple(center)
