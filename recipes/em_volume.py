"""The FIB-SEM volume of the `em-membranes` recipe, and whole-slice prediction.

Data: Drosophila medulla, 10 nm isotropic, janelia-flyem/neuroproof_examples (training_sample2),
CC BY 3.0: ``raw.tif`` (z, y, x) uint8 and ``bodies.tif`` uint16, one number per neuron, 0 = none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import torch
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import find_boundaries

from napari_unet.core.settings import Settings
from napari_unet.core.tiling import mirror_indices, whole_image_tile
from napari_unet.training.sampler import LabeledPlanes
from napari_unet.training.weight_map import balance_weights, border_weights, pixel_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.model.unet import UNet

    Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

INTERIOR, MEMBRANE = 1, 2
NUM_CLASSES = 2


class DataSettings(Settings):
    """What is learnt from and what selects: the table [data] of a recipe.

    Parameters
    ----------
    train, validation : (int, int)
        First slice and the one after the last.
    validation_step : int
        Every how manieth validation slice is scored.
    shares : (float, float, float)
        Of patches from xy, xz and yz planes.
    slab_share : float
        Of patches from xy planes averaged over `slab` neighboring slices: what a section thicker
        than a voxel would show.
    slab : int
        Slices of a slab, odd.
    context : int
        Neighboring planes on each side that are given as channels.
    balance_power, border_weight, border_sigma : float
        The weights of the loss, as `balance_weights` and `border_weights` take them. The objects
        are the connected parts of the bodies in a plane, the gaps between them the membranes.
    """

    train: tuple[int, int]
    validation: tuple[int, int]
    validation_step: int = 1
    shares: tuple[float, float, float] = (0.5, 0.25, 0.25)
    slab_share: float = 0.0
    slab: int = 3
    context: int = 0
    balance_power: float = 0.0
    border_weight: float = 0.0
    border_sigma: float = 5.0


def read_slices(folder: Path, first: int, stop: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return raw gray values and bodies of slices ``first .. stop - 1``; no other is read."""
    pages = range(first, stop)
    return (
        tifffile.imread(folder / "raw.tif", key=pages),
        tifffile.imread(folder / "bodies.tif", key=pages),
    )


def membrane_labels(bodies: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return classes (N, Y, X) of a stack of planes, membranes drawn plane by plane."""
    membranes = np.stack([find_boundaries(plane, mode="thick") for plane in bodies]) | (bodies == 0)
    return np.where(membranes, MEMBRANE, INTERIOR).astype(np.uint8)


def standardize(raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return gray values with mean 0 and standard deviation 1 over the whole of `raw`."""
    return ((raw - raw.mean(dtype=np.float64)) / raw.std(dtype=np.float64)).astype(np.float32)


def true_objects(
    bodies: npt.NDArray[Any], labels: npt.NDArray[np.uint8]
) -> npt.NDArray[np.integer[Any]]:
    """Return the connected parts of the bodies in each plane, 0 on membranes."""
    parts = [label(plane, background=0, connectivity=1) for plane in bodies]
    return np.where(labels == INTERIOR, np.stack(parts), 0)


def average_slabs(image: npt.NDArray[np.float32], slices: int) -> npt.NDArray[np.float32]:
    """Return (Z, Y, X) where each slice is the mean of `slices` around it, standardized again."""
    return standardize(ndimage.uniform_filter1d(image, slices, axis=0, mode="mirror"))


def with_neighbors(image: npt.NDArray[np.float32], context: int) -> npt.NDArray[np.float32]:
    """Return (2 * context + 1, Z, Y, X): each plane with its neighbors, mirrored at the ends."""
    indices = mirror_indices(-context, len(image) + context, len(image))
    return np.stack([image[indices[k : k + len(image)]] for k in range(2 * context + 1)])


def labeled_planes(
    image: npt.NDArray[np.float32], bodies: npt.NDArray[Any], share: float, data: DataSettings
) -> LabeledPlanes:
    """Return planes (N, Y, X) to learn from, with their neighbors and the weights of the loss."""
    labels = membrane_labels(bodies)
    balance = balance_weights(labels, NUM_CLASSES, power=data.balance_power)
    objects = true_objects(bodies, labels)
    weights = []
    for plane, parts in zip(labels, objects, strict=True):
        border = None
        if data.border_weight > 0:
            border = border_weights(parts, weight=data.border_weight, sigma=data.border_sigma)
        weights.append(pixel_weights(plane, balance, border))
    return LabeledPlanes(with_neighbors(image, data.context), labels, share, np.stack(weights))


def training_stacks(folder: Path, data: DataSettings) -> list[LabeledPlanes]:
    """Return the xy, xz and yz planes of the training slices, the voxels being cubes, and slabs."""
    raw, bodies = read_slices(folder, *data.train)
    image = standardize(raw)
    stacks = [
        labeled_planes(np.moveaxis(image, axis, 0), np.moveaxis(bodies, axis, 0), share, data)
        for axis, share in enumerate(data.shares)
        if share > 0
    ]
    if data.slab_share > 0:
        stacks.append(
            labeled_planes(average_slabs(image, data.slab), bodies, data.slab_share, data)
        )
    return stacks


def predictor(net: UNet) -> Predict:
    """Return a function from a standardized slice (C, Y, X) to probabilities (classes, Y, X).

    The slice is one tile, mirrored at its border.
    """
    geometry = net.architecture.geometry()

    @torch.inference_mode()
    def predict(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        shape = (1, *plane.shape[1:])
        tile = whole_image_tile(shape, geometry)
        rows, columns = (
            mirror_indices(a, b, n)
            for a, b, n in zip(
                tile.read.start[1:], tile.read.stop[1:], plane.shape[1:], strict=True
            )
        )
        image = torch.from_numpy(plane[:, rows[:, None], columns])[None]
        logits = net.eval()(image.contiguous(memory_format=torch.channels_last))
        probabilities = torch.softmax(logits, dim=1)[0].numpy()
        return np.ascontiguousarray(probabilities[(slice(None), *tile.crop.slices[1:])])

    return predict


def predict_slices(predict: Predict, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return probabilities (classes, Z, Y, X) of a stack of slices (C, Z, Y, X)."""
    return np.stack([predict(image[:, z]) for z in range(image.shape[1])], axis=1)
