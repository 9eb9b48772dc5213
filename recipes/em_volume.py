"""The FIB-SEM volume of the `em-membranes` recipe, and whole-slice prediction.

Data: Drosophila medulla, 10 nm isotropic, janelia-flyem/neuroproof_examples (training_sample2),
CC BY 3.0: ``raw.tif`` (z, y, x) uint8 and ``bodies.tif`` uint16, one number per neuron, 0 = none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import torch
from skimage.segmentation import find_boundaries

from napari_unet.core.tiling import mirror_indices, whole_image_tile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.model.unet import UNet

    Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

INTERIOR, MEMBRANE = 1, 2


def read_slices(folder: Path, first: int, stop: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return raw gray values and bodies of slices ``first .. stop - 1``; no other is read."""
    pages = range(first, stop)
    return (
        tifffile.imread(folder / "raw.tif", key=pages),
        tifffile.imread(folder / "bodies.tif", key=pages),
    )


def membrane_labels(bodies: npt.NDArray[Any], axis: int = 0) -> npt.NDArray[np.uint8]:
    """Return (N, rows, columns) classes of the planes across `axis`, drawn plane by plane."""
    planes = np.moveaxis(bodies, axis, 0)
    membranes = np.stack([find_boundaries(plane, mode="thick") for plane in planes]) | (planes == 0)
    return np.where(membranes, MEMBRANE, INTERIOR).astype(np.uint8)


def standardize(raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return gray values with mean 0 and standard deviation 1 over the whole of `raw`."""
    return ((raw - raw.mean(dtype=np.float64)) / raw.std(dtype=np.float64)).astype(np.float32)


def predictor(net: UNet) -> Predict:
    """Return a function from a standardized slice (Y, X) to probabilities (classes, Y, X).

    The slice is one tile, mirrored at its border.
    """
    geometry = net.architecture.geometry()

    @torch.inference_mode()
    def predict(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        shape = (1, *plane.shape)
        tile = whole_image_tile(shape, geometry)
        rows, columns = (
            mirror_indices(a, b, n)
            for a, b, n in zip(tile.read.start[1:], tile.read.stop[1:], plane.shape, strict=True)
        )
        image = torch.from_numpy(plane[np.ix_(rows, columns)])[None, None]
        logits = net.eval()(image.contiguous(memory_format=torch.channels_last))
        probabilities = torch.softmax(logits, dim=1)[0].numpy()
        return np.ascontiguousarray(probabilities[(slice(None), *tile.crop.slices[1:])])

    return predict


def predict_slices(
    predict: Predict, image: Sequence[npt.NDArray[np.float32]] | npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return probabilities (classes, Z, Y, X) of a stack of slices."""
    return np.stack([predict(plane) for plane in image], axis=1)
