"""Random training patches of partly annotated volumes of any size.

::

    annotated pixel (drawn)      z-k ... z ... z+k     slices that the network sees
            |                  +---------------------+
            v                  | crop that is read   |   image: what the moved patch needs, mirrored
       + . . . . . +           |   +-------------+   |   outside the volume
       .   o       .   moved   |   | labels      |   |   labels: 0 outside the volume
       .  patch    .  =======> |   |    o        |   |
       + . . . . . +           |   +-------------+   |
                               +---------------------+

An annotated pixel is drawn, a random place for it in the label patch, and a random motion; the
patch is put where the motion brings that place onto that pixel. So every patch holds a label,
however few there are, and no more of the volume is read than this patch needs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
import torch
from pydantic import Field

from napari_unet.augment.chance import Chance
from napari_unet.augment.geometric import GeometricSettings, draw_coordinates
from napari_unet.core.arrays import read_mirrored
from napari_unet.core.boxes import Box
from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.core.normalization import normalize
from napari_unet.errors import TrainingError
from napari_unet.training.annotated_pixels import AnnotatedPixels
from napari_unet.training.loss import Rehearsed
from napari_unet.training.patches import Crop, Patch, PatchFrame, cut_patch
from napari_unet.training.sampler import Batch, SamplerSettings, normalize_shares, stack_patches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from torch import Tensor

    from napari_unet.core.annotation import Annotation
    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Shape
    from napari_unet.core.normalization import Normalization
    from napari_unet.core.receptive import NetGeometry

    Pixel = tuple[int, int, int]
    PixelWeights = Callable[[Box], npt.NDArray[np.float32]]

T = TypeVar("T", np.uint8, np.float32)

MAX_TRIES = 16
"""Annotated pixels that are tried for one patch before it is taken without a label."""

CANDIDATES = 64
"""Places in the label patch that are tried for an annotated pixel near the edge of the image.

So few leave chance: an image as large as the patch is still seen under all pooling grids.
"""

CUBIC_REACH = 2
"""Pixels on each side that the interpolation at a position needs."""


class VolumeSamplerSettings(SamplerSettings):
    """How patches are drawn from annotated volumes.

    Parameters
    ----------
    output_edge, batch_size, intensity
        As in `SamplerSettings`.
    geometric : GeometricSettings
        Here with a little scale: objects of one kind differ in size.
    rare_power : float
        How much rare classes are favored: a class with n annotated pixels is drawn in proportion
        to ``n ** (1 - rare_power)``, and a volume likewise. 0 = every pixel is as likely as any
        other, 1 = every class is.
    rehearsal_share : float
        Probability that a patch comes from a rehearsed volume, where there are some, however much
        is annotated there and elsewhere.
    """

    geometric: GeometricSettings = GeometricSettings(scale_sigma=0.1)
    rare_power: Annotated[float, Field(ge=0, le=1)] = 0.5
    rehearsal_share: Annotated[float, Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedVolume:
    """An image of any size and what is annotated in it.

    Parameters
    ----------
    source : ImageSource
        The image; only what patches need is read.
    annotation : Annotation
        0 = not annotated, k = the k-th class.
    normalization : Normalization
        Of the whole volume, as at inference.
    share : float
        How often a patch comes from this volume, relative to others with as much annotated.
    pixel_weights : callable, optional
        Returns the weights in the loss, (1, y, x) float32, of a box of one slice inside the
        volume. None = all 1.
    unknown : tuple of int, optional
        None = what is to be learnt. Else the volume is rehearsed: it is of what a parent learned
        from, and these are the classes, from 1, that its labels do not know; they say nothing
        about them.

    Raises
    ------
    TrainingError
        If image, annotation and normalization do not fit.
    AnnotationError
        If nothing is annotated.
    """

    source: ImageSource
    annotation: Annotation
    normalization: Normalization
    share: float = 1.0
    pixel_weights: PixelWeights | None = None
    unknown: tuple[int, ...] | None = None

    @property
    def is_rehearsed(self) -> bool:
        """Whether it is of what a parent learned from."""
        return self.unknown is not None

    def __post_init__(self) -> None:
        name, shape = self.source.name, self.source.shape
        if self.annotation.shape != shape:
            raise TrainingError(
                f"the annotation of shape {self.annotation.shape} does not fit the image {name} "
                f"of shape {shape}; annotate this image"
            )
        channels = len(self.normalization.offset)
        if channels != self.source.num_channels:
            raise TrainingError(
                f"the normalization has {channels} channels, the image {name} "
                f"{self.source.num_channels}; give one offset and scale per channel"
            )
        self.annotation.check_annotated()
        classes = len(self.annotation.class_names)
        if not set(self.unknown or ()) <= set(range(FIRST_CLASS, classes + FIRST_CLASS)):
            raise TrainingError(
                f"the unknown classes {self.unknown} of the labels of {name} are not all "
                f"classes; give some of {FIRST_CLASS} to {classes}"
            )


class VolumeSampler:
    """Draws random, augmented patches that hold annotated pixels.

    The same generator gives the same patches: the same places and motions on every device. What was
    annotated when it was made is what it draws from.

    Parameters
    ----------
    volumes : sequence of AnnotatedVolume
        Where patches come from, all with the same classes and channels.
    geometry : NetGeometry
        Of the network, (z, y, x).
    settings : VolumeSamplerSettings
        Sizes, augmentation, and how rare classes are favored.
    context : int
        Neighboring slices on each side that the network sees: a patch has slices ``z - context``
        to ``z + context`` of the first channel, then those of the second, ...
    device : torch.device or str
        Where patches are moved, changed and left.

    Raises
    ------
    TrainingError
        If there is no volume with a positive share, or volumes do not fit each other.
    """

    def __init__(
        self,
        volumes: Sequence[AnnotatedVolume],
        geometry: NetGeometry,
        settings: VolumeSamplerSettings,
        *,
        context: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if context < 0:
            raise TrainingError(
                f"{context} neighboring slices on each side cannot be read; give 0 or more"
            )
        self.volumes = tuple(volumes)
        self.settings = settings
        self.context = context
        self.device = torch.device(device)
        self.frame = PatchFrame.fitting(geometry, settings.output_edge)
        self._pixels = [AnnotatedPixels(volume.annotation) for volume in volumes]
        power = 1 - settings.rare_power
        totals = [float(pixels.counts.sum()) ** power for pixels in self._pixels]
        self._volume_shares = _volume_shares(volumes, totals, settings.rehearsal_share)
        self._class_shares = [_class_shares(pixels.counts, power) for pixels in self._pixels]
        self._check_alike()
        self._weighted = any(volume.pixel_weights is not None for volume in volumes)
        names = self.volumes[0].annotation.class_names
        self._unknown = torch.zeros((len(volumes), len(names)), dtype=torch.bool)
        for number, volume in enumerate(volumes):
            for label in volume.unknown or ():
                self._unknown[number, label - FIRST_CLASS] = True

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return the next batch, on the device of the sampler."""
        drawn = [self._draw_patch(Chance.spawned(rng)) for _ in range(self.settings.batch_size)]
        batch = stack_patches([patch for patch, _ in drawn], weighted=self._weighted)
        numbers = [number for _, number in drawn]
        rehearsed = torch.tensor([self.volumes[number].is_rehearsed for number in numbers])
        if not rehearsed.any():
            return batch
        found = Rehearsed(rehearsed, self._unknown[numbers]).to(self.device)
        return replace(batch, rehearsed=found)

    def draw_anchor(self, rng: np.random.Generator) -> tuple[int, Pixel]:
        """Return the number of a volume and the annotated pixel (z, y, x) that a patch will hold.

        Volume and class are drawn with their shares, then every annotated pixel of the class is
        equally likely.
        """
        number = int(rng.choice(len(self.volumes), p=self._volume_shares))
        pixels, shares = self._pixels[number], self._class_shares[number]
        label = int(rng.choice(len(shares), p=shares)) + FIRST_CLASS
        count = int(pixels.counts[label - FIRST_CLASS])
        return number, pixels.locate(label, int(rng.integers(count)))

    def _draw_patch(self, chance: Chance) -> tuple[Patch, int]:
        """Return a patch and the number of its volume."""
        moved = draw_coordinates(
            self.frame.input_shape, (0, 0), chance, self.settings.geometric, self.device
        )
        for _ in range(MAX_TRIES):
            number, anchor = self.draw_anchor(chance.placement)
            placed = self._place(moved, anchor, self.volumes[number].source.shape, chance.placement)
            crop, coordinates, is_labeled = self._read(number, anchor, placed)
            # The anchor cannot leave the patch, but where the image is NaN it has no label. Only
            # the place is drawn again, so that the other changes do not depend on it.
            if is_labeled:
                break
        return cut_patch(crop, coordinates, self.frame, chance, self.settings), number

    def _place(
        self, moved: Tensor, anchor: Pixel, shape: Sequence[int], rng: np.random.Generator
    ) -> Tensor:
        """Return positions relative to the anchor, which lies at a random pixel of the output.

        Every pixel of the output is as likely as any other, unless much of the patch would then lie
        outside the image, where nothing is to be learnt.
        """
        edges = np.array(self.frame.output_shape)
        tried = rng.integers(0, edges, (CANDIDATES, 2)) + self.frame.halo
        at = moved[:, tried[:, 0], tried[:, 1]].T.cpu().numpy()
        centers = np.array(anchor[1:]) - at
        half, size = (edges - 1) / 2, np.array(shape[1:])
        first, last = np.minimum(half, size - 1 - half), np.maximum(half, size - 1 - half)
        outside = np.maximum(first - centers, centers - last).clip(min=0).sum(axis=1)
        y, x = (int(n) for n in tried[outside.argmin()])
        return moved - moved[:, y : y + 1, x : x + 1]

    def _read(self, number: int, anchor: Pixel, placed: Tensor) -> tuple[Crop, Tensor, bool]:
        """Return the crop that a patch needs, its coordinates there, and if the anchor counts."""
        volume, annotation = self.volumes[number], self._pixels[number].annotation
        outer, inner = _needed_boxes(anchor, placed, self.frame.inner(placed))
        image, bad = self._read_image(volume, outer)
        labels = _read_or_zero(annotation.read, inner, annotation.shape, np.uint8)
        in_image = inner.relative_to(outer.start)
        if bad is not None:
            labels[bad[in_image.slices]] = UNLABELED
        weights = None
        if volume.pixel_weights is not None:
            weights = _read_or_zero(volume.pixel_weights, inner, annotation.shape, np.float32)
        crop = Crop(
            torch.from_numpy(image).to(self.device),
            torch.from_numpy(labels[0]).to(self.device),
            None if weights is None else torch.from_numpy(weights[0]).to(self.device),
            (in_image.start[1], in_image.start[2]),
        )
        shift = [float(a - b) for a, b in zip(anchor, outer.start, strict=True)][1:]
        coordinates = torch.stack([placed[0] + shift[0], placed[1] + shift[1]])
        at = tuple(a - b for a, b in zip(anchor, inner.start, strict=True))
        return crop, coordinates, bool(labels[at] != UNLABELED)

    def _read_image(
        self, volume: AnnotatedVolume, box: Box
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]:
        """Return network input (C, Y, X) of a box of one slice, and where this slice is bad."""
        k = self.context
        (z, *start), (stop_z, *stop) = box.start, box.stop
        slab = Box((z - k, *start), (stop_z + k, *stop))
        found = normalize(read_mirrored(volume.source, slab), volume.normalization)
        planes = found.image.reshape(-1, *box.shape[1:])
        return planes, None if found.bad is None else found.bad[k : k + 1]

    def _check_alike(self) -> None:
        first = self.volumes[0]
        for volume in self.volumes:
            names, channels = volume.annotation.class_names, volume.source.num_channels
            if (names, channels) != (first.annotation.class_names, first.source.num_channels):
                raise TrainingError(
                    f"{volume.source.name} has the classes {', '.join(names)} and {channels} "
                    f"channels, {first.source.name} has {', '.join(first.annotation.class_names)} "
                    f"and {first.source.num_channels}; give volumes with the same classes, in the "
                    "same order, and the same channels"
                )


def _volume_shares(
    volumes: Sequence[AnnotatedVolume], totals: Sequence[float], rehearsal_share: float
) -> npt.NDArray[np.float64]:
    """Return the probability of each volume; rehearsed ones have a fixed part of it together."""
    rehearsed = np.array([volume.is_rehearsed for volume in volumes], dtype=bool)
    groups = [np.flatnonzero(~rehearsed), np.flatnonzero(rehearsed)]
    parts = (1 - rehearsal_share, rehearsal_share) if all(map(len, groups)) else (1.0, 1.0)
    result = np.zeros(len(volumes))
    for group, part in zip(groups, parts, strict=True):
        if len(group) or not len(volumes):
            shares = normalize_shares([volumes[int(k)].share for k in group], "volumes")
            weights = shares * np.array(totals)[group]
            result[group] = part * weights / weights.sum()
    return result


def _class_shares(counts: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    shares = np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)
    return np.asarray(shares / shares.sum())


def _needed_boxes(anchor: Pixel, placed: Tensor, inner: Tensor) -> tuple[Box, Box]:
    """Return the boxes of one slice that image and labels at positions from an anchor need."""
    extremes = [placed.amin((1, 2)), placed.amax((1, 2)), inner.amin((1, 2)), inner.amax((1, 2))]
    # Copied at once: the host waits for each copy from a GPU.
    low, high, inner_low, inner_high = torch.stack(extremes).cpu().numpy()
    reach = CUBIC_REACH
    return (
        _slice_box(anchor, np.floor(low) - (reach - 1), np.floor(high) + reach + 1),
        _slice_box(anchor, np.floor(inner_low), np.ceil(inner_high) + 1),
    )


def _slice_box(anchor: Pixel, start: npt.NDArray[np.float32], stop: npt.NDArray[np.float32]) -> Box:
    z, y, x = anchor
    return Box(
        (z, y + int(start[0]), x + int(start[1])), (z + 1, y + int(stop[0]), x + int(stop[1]))
    )


def _read_or_zero(
    read: Callable[[Box], npt.NDArray[T]], box: Box, shape: Shape, dtype: type[T]
) -> npt.NDArray[T]:
    """Return what `read` says of a box, 0 where the box leaves an image of `shape`."""
    result = np.zeros(box.shape, dtype=dtype)
    inside = box.intersection(Box.of_shape(shape))
    found = read(inside)
    if found.shape != inside.shape:
        raise TrainingError(
            f"pixel weights of shape {found.shape} do not fit a box of shape {inside.shape}; "
            "return one weight per pixel of the box"
        )
    result[inside.relative_to(box.start).slices] = found
    return result
