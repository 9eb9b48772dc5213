"""The nuclei of the `nuclei` recipe: images, parts, and random patches.

Data: Data Science Bowl 2018 stage 1, BBBC038, CC0, with corrected masks: ``index.csv`` (short
name, kind, width, height ...), ``images/NAME.png`` gray or RGB, ``labels/NAME.png`` uint16, one
number per nucleus, 0 = none.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import imageio.v3 as iio
import numpy as np
import torch
from pydantic import Field
from scipy.ndimage import binary_dilation, maximum_filter, minimum_filter

from napari_unet.augment.chance import Chance
from napari_unet.augment.geometric import (
    GeometricSettings,
    draw_coordinates,
    resample_image,
    resample_labels,
)
from napari_unet.augment.intensity import IntensitySettings, jitter_intensity
from napari_unet.core.settings import Settings
from napari_unet.labels.objects import objects_to_classes
from napari_unet.training.sampler import Batch
from napari_unet.training.weight_map import border_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.receptive import NetGeometry

SAME_FIELD = {"cb4df20a83b2f38b": "20b20ab049372d18"}
"""The one pair of images that shows the same place; both go into the same part.

Found by correlating all images of one size at all shifts: 0.83 at no shift; the next pairs, with
few and round nuclei, reach 0.65 by chance.
"""

RARE = 5
"""Sizes of image with fewer images of a kind are one stratum."""

TEST_SHARE, SELECT_SHARE = 0.2, 0.075
"""Of each stratum: images that only judge, and images that select weights and settings."""

MAX_TRIES = 20
"""Places that are drawn until a patch has a nucleus."""

Part = Literal["train", "select", "test"]


@dataclass(frozen=True, slots=True)
class NucleiFile:
    """A line of the index."""

    name: str
    kind: str
    size: str


def read_index(folder: Path) -> list[NucleiFile]:
    """Return the images that the index names, in its order."""
    with (folder / "index.csv").open(encoding="utf-8", newline="") as text:
        return [
            NucleiFile(row["short"], row["kind"], f"{row['w']} x {row['h']}")
            for row in csv.DictReader(text)
        ]


def split(files: Sequence[NucleiFile], seed: int) -> dict[Part, list[NucleiFile]]:
    """Return disjoint parts, each with its share of every stratum (kind and size of image).

    The order within a stratum is that of a hash of seed and name, so it depends on no library.
    """
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for file in files:
        sizes[file.kind, file.size] += 1
    strata: dict[tuple[str, str], list[NucleiFile]] = defaultdict(list)
    for file in files:
        rare = sizes[file.kind, file.size] < RARE
        strata[file.kind, "other" if rare else file.size].append(file)

    def rank(file: NucleiFile) -> tuple[str, str]:
        unit = SAME_FIELD.get(file.name, file.name)
        return hashlib.sha256(f"{seed}:{unit}".encode()).hexdigest(), file.name

    parts: dict[Part, list[NucleiFile]] = {"train": [], "select": [], "test": []}
    for _, members in sorted(strata.items()):
        ordered = sorted(members, key=rank)
        test = round(TEST_SHARE * len(ordered))
        test += _is_cut(ordered, test)
        select = test + max(1, round(SELECT_SHARE * len(ordered)))
        select += _is_cut(ordered, select)
        parts["test"] += ordered[:test]
        parts["select"] += ordered[test:select]
        parts["train"] += ordered[select:]
    return parts


def _is_cut(ordered: Sequence[NucleiFile], at: int) -> bool:
    """Return whether the place before element `at` divides a pair of the same field."""
    units = [SAME_FIELD.get(file.name, file.name) for file in ordered]
    return 0 < at < len(units) and units[at - 1] == units[at]


def read_image(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    """Return (3, Y, X) red, green, blue; gray is repeated."""
    image = np.asarray(iio.imread(folder / "images" / f"{name}.png"))
    if image.ndim == 2:
        image = np.repeat(image[..., np.newaxis], 3, axis=-1)
    return np.ascontiguousarray(np.moveaxis(image[..., :3], -1, 0))


def read_objects(folder: Path, name: str) -> npt.NDArray[np.uint16]:
    """Return (Y, X) numbered nuclei."""
    return np.asarray(iio.imread(folder / "labels" / f"{name}.png"))


def standardize(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return each channel of (C, Y, X) with mean 0 and standard deviation 1, as `segment` does."""
    mean = image.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    deviation = image.std(axis=(1, 2), keepdims=True, dtype=np.float64)
    return ((image - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32)


Share = Annotated[float, Field(ge=0, le=1)]


class ColorSettings(Settings):
    """How colors are changed at random, so that no stain and no sign of contrast is taken for law.

    Parameters
    ----------
    invert_share : float
        Share of patches whose gray values are turned round: bright on dark and dark on bright.
    gray_share : float
        Share of patches that become gray, by random weights of the channels.
    shuffle_share : float
        Share of patches whose channels are exchanged at random.
    tint_share : float
        Share of patches whose channels get a gain and an offset each.
    tint_sigma : float
        Standard deviation of that offset, and of the logarithm of that gain.
    """

    invert_share: Share = 0.15
    gray_share: Share = 0.15
    shuffle_share: Share = 0.15
    tint_share: Share = 0.5
    tint_sigma: Annotated[float, Field(ge=0)] = 0.15


class NucleiSettings(Settings):
    """How patches of nuclei are drawn.

    Parameters
    ----------
    separation : {"border", "gap"}
        How objects become classes, see `napari_unet.labels.objects`.
    width : float
        Of the border or gap, in pixels of the patch: however a nucleus is scaled, its border has
        this width.
    near_weight, near_reach : float
        With a border, pixels at most `near_reach` pixels from two objects weigh ``1 + near_weight``
        in the loss. A gap has the weights of the paper (eq. 2) with w0 = `near_weight` and
        sigma = `near_reach`.
    kind_shares : dict
        How often a patch comes from a kind of image.
    grain : float
        Standard deviation of noise that every patch gets: synthetic flatness is in no camera.
    output_edge, batch_size : int
        Edge of the label patch, in pixels, and patches per step.
    geometric, intensity, color
        What is changed at random.
    """

    separation: Literal["border", "gap"] = "border"
    width: Annotated[float, Field(ge=1)] = 1.0
    near_weight: Annotated[float, Field(ge=0)] = 3.0
    near_reach: Annotated[float, Field(gt=0)] = 3.0
    kind_shares: dict[str, Share]
    grain: Annotated[float, Field(ge=0)] = 0.03
    output_edge: Annotated[int, Field(ge=1)] = 196
    batch_size: Annotated[int, Field(ge=1)] = 1
    geometric: GeometricSettings = GeometricSettings()
    intensity: IntensitySettings = IntensitySettings()
    color: ColorSettings = ColorSettings()


class NucleiSampler:
    """Draws random, augmented patches; the same generator gives the same patches.

    Objects are moved first and become classes afterwards: nuclei are drawn at half to double size,
    and a border that were moved with them would be cut or swollen.

    Parameters
    ----------
    folder : Path
        Of the data set.
    files : sequence of NucleiFile
        Images to learn from; all are read into memory.
    geometry : NetGeometry
        Of the network.
    settings : NucleiSettings
        How patches are drawn.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[NucleiFile],
        geometry: NetGeometry,
        settings: NucleiSettings,
    ) -> None:
        self.settings = settings
        self.input_shape = geometry.input_shape((1, settings.output_edge, settings.output_edge))[1:]
        self._halo = geometry.halo[1]
        self._margin = int(max(settings.width, settings.near_reach)) + 1
        self._images = [_compact(standardize(read_image(folder, f.name))) for f in files]
        # 0 will mean "outside of the image", so the background becomes 1.
        self._numbers = [
            torch.from_numpy(read_objects(folder, f.name).astype(np.int32) + 1) for f in files
        ]
        self._shares = _shares(files, settings.kind_shares)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return the next batch."""
        patches = [self._draw_patch(rng) for _ in range(self.settings.batch_size)]
        images, labels, weights = zip(*patches, strict=True)
        return Batch(torch.stack(images), torch.stack(labels), torch.stack(weights))

    def _draw_patch(
        self, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        index, coordinates, moved = self._place(rng)
        s, chance = self.settings, Chance.spawned(rng)
        image = resample_image(self._images[index], coordinates, s.geometric.interpolation)
        image = jitter_intensity(jitter_color(image, rng, s.color), chance, s.intensity)
        grain = rng.standard_normal(tuple(image.shape), dtype=np.float32)
        image = image + s.grain * torch.from_numpy(grain)
        labels, weights = draw_classes(moved, s)
        inner = (slice(self._margin, -self._margin),) * 2
        return image, torch.from_numpy(labels[inner].astype(np.int64)), _tensor(weights[inner])

    def _place(self, rng: np.random.Generator) -> tuple[int, torch.Tensor, npt.NDArray[np.int32]]:
        """Return image, positions and moved objects, with a margin, of a patch with a nucleus.

        A flat patch of background alone has no variance for batch normalization to divide by.
        """
        s = self.settings
        cut = slice(self._halo - self._margin, self._margin - self._halo)
        for _ in range(MAX_TRIES):
            index = int(rng.choice(len(self._images), p=self._shares))
            numbers = self._numbers[index]
            center = [_draw_center(n, s.output_edge, rng) for n in numbers.shape]
            coordinates = draw_coordinates(
                self.input_shape, center, Chance.spawned(rng), s.geometric
            )
            moved = resample_labels(numbers, coordinates[:, cut, cut]).numpy()
            if (moved > 1).any():
                break
        return index, coordinates, moved


def draw_classes(
    numbers: npt.NDArray[np.int32], settings: NucleiSettings
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return labels and weights of a patch: 0 = outside of the image, 1 = background, k + 1 = k.

    Near the outside nothing is known of borders: there the patch is not labeled.
    """
    objects = np.maximum(numbers - 1, 0)
    labels = objects_to_classes(objects[np.newaxis], settings.separation, settings.width)[0]
    outside = numbers == 0
    if outside.any():
        labels[binary_dilation(outside, iterations=int(settings.width))] = 0
    if settings.separation == "gap":
        _, small = np.unique(objects, return_inverse=True)
        small = small.reshape(objects.shape)
        if objects.min() > 0:
            small = small + 1
        border = border_weights(small, weight=settings.near_weight, sigma=settings.near_reach)
        return labels, 1 + border
    reach = int(settings.near_reach)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = y * y + x * x <= settings.near_reach**2
    none = objects.max() + 1
    highest = maximum_filter(objects, footprint=disk)
    lowest = minimum_filter(np.where(objects > 0, objects, none), footprint=disk)
    near = (lowest < none) & (lowest != highest)
    return labels, (1 + settings.near_weight * near).astype(np.float32)


def jitter_color(
    image: torch.Tensor, rng: np.random.Generator, settings: ColorSettings
) -> torch.Tensor:
    """Return (3, H, W) with other colors; each change is drawn whether or not it is applied."""
    invert, gray, shuffle, tint = rng.random(4)
    weights, order = rng.dirichlet(np.ones(3)), rng.permutation(3)
    gain, offset = (_tensor(rng.normal(0, settings.tint_sigma, (3, 1, 1))) for _ in range(2))
    if gray < settings.gray_share:
        image = (image * _tensor(weights.reshape(3, 1, 1))).sum(dim=0).expand(3, -1, -1)
    if shuffle < settings.shuffle_share:
        image = image[torch.from_numpy(order)]
    if tint < settings.tint_share:
        image = image * gain.exp() + offset
    return -image if invert < settings.invert_share else image


def _compact(image: npt.NDArray[np.float32]) -> torch.Tensor:
    """Return (3, Y, X); the channels of a gray image share their memory."""
    if (image == image[:1]).all():
        return torch.from_numpy(image[:1].copy()).expand(3, -1, -1)
    return torch.from_numpy(image)


def _tensor(values: npt.NDArray[np.floating[Any]]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _draw_center(size: int, edge: int, rng: np.random.Generator) -> float:
    """Return a center on the pixel grid that leaves little of an even edge outside."""
    play = max((size - edge) // 2, 0) + 16
    return (size - 1) // 2 + int(rng.integers(-play, play + 1)) + 0.5


def _shares(files: Sequence[NucleiFile], kind_shares: dict[str, float]) -> npt.NDArray[np.float64]:
    """Return how often each image is drawn.

    Within a kind, a size of image counts with the square root of its number: it stands for a way
    of acquisition, and the commonest one shall not decide alone.
    """
    of_size: dict[tuple[str, str], int] = defaultdict(int)
    for file in files:
        of_size[file.kind, file.size] += 1
    per_image = np.array([of_size[f.kind, f.size] ** -0.5 for f in files])
    kinds = np.array([f.kind for f in files])
    for kind in set(kinds):
        per_image[kinds == kind] *= kind_shares[kind] / per_image[kinds == kind].sum()
    return per_image / per_image.sum()
