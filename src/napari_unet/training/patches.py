"""One patch: what the network reads, what it is to answer, and how both are cut from a plane.

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
from typing import TYPE_CHECKING

import torch

from napari_unet.augment.geometric import GeometricSettings, resample_image, resample_labels
from napari_unet.augment.intensity import IntensitySettings, jitter_intensity
from napari_unet.core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from napari_unet.augment.chance import Chance
    from napari_unet.core.boxes import Shape
    from napari_unet.core.receptive import NetGeometry


class AugmentationSettings(Settings):
    """What is changed at random in every patch.

    Parameters
    ----------
    geometric, intensity
        Changes of place and of gray values.
    """

    geometric: GeometricSettings = GeometricSettings()
    intensity: IntensitySettings = IntensitySettings()


@dataclass(frozen=True, slots=True)
class PatchFrame:
    """The sizes of a patch in its plane, (y, x).

    Parameters
    ----------
    input_shape : tuple of int
        Of the image patch, a legal input of the network.
    halo : tuple of int
        What the label patch is smaller by, on each side.
    stride : tuple of int
        Period of the network's pooling grid.
    """

    input_shape: Shape
    halo: Shape
    stride: Shape

    @classmethod
    def fitting(cls, geometry: NetGeometry, output_edge: int) -> PatchFrame:
        """Return the least frame whose label patch has at least `output_edge` pixels per axis."""
        wanted = (1, output_edge, output_edge)
        return cls(geometry.input_shape(wanted)[1:], geometry.halo[1:], geometry.stride[1:])

    @property
    def output_shape(self) -> Shape:
        """Shape of the label patch."""
        return tuple(n - 2 * h for n, h in zip(self.input_shape, self.halo, strict=True))

    def inner(self, coordinates: Tensor) -> Tensor:
        """Return the positions of the label patch, of those of the image patch (2, H, W)."""
        return coordinates[(slice(None), *(slice(h, -h or None) for h in self.halo))]


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """The part of a plane that a patch is cut from; all tensors are on one device.

    Parameters
    ----------
    image : Tensor
        (C, Y, X) float32, standardized.
    labels : Tensor
        (y, x) whole numbers: 0 = unlabeled, k = the k-th class.
    weights : Tensor or None
        (y, x) float32 weights of the pixels in the loss; None = all 1.
    labels_start : tuple of int
        Where in `image` the first pixel of `labels` and `weights` lies.
    """

    image: Tensor
    labels: Tensor
    weights: Tensor | None = None
    labels_start: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What a network learns from at once, on the device of the crop.

    Parameters
    ----------
    image : Tensor
        (C, H, W) float32.
    labels : Tensor
        (h, w) int64; h = H - 2 * halo.
    weights : Tensor
        (h, w) float32.
    """

    image: Tensor
    labels: Tensor
    weights: Tensor


def cut_patch(
    crop: Crop,
    coordinates: Tensor,
    frame: PatchFrame,
    chance: Chance,
    settings: AugmentationSettings,
) -> Patch:
    """Return the patch at the given positions, with its gray values changed at random.

    Parameters
    ----------
    crop : Crop
        Where image, labels and weights are taken from.
    coordinates : Tensor
        (2, H, W) positions (y, x) in ``crop.image``, in pixels.
    frame : PatchFrame
        Sizes.
    chance : Chance
        Source of chance for the gray values.
    settings : AugmentationSettings
        Interpolation, and what may happen to gray values.
    """
    image = resample_image(crop.image, coordinates, settings.geometric.interpolation)
    inner = frame.inner(coordinates)
    inner = inner - inner.new_tensor(crop.labels_start).reshape(2, 1, 1)
    labels = resample_labels(crop.labels, inner).long()
    if crop.weights is None:
        weights = torch.ones_like(labels, dtype=torch.float32)
    else:
        weights = resample_labels(crop.weights, inner)
    return Patch(jitter_intensity(image, chance, settings.intensity), labels, weights)
