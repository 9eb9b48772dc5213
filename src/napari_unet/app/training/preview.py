"""A small prediction of weights that are still learning, where the user is looking."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.app.training.held_out import predict_box
from napari_unet.core.boxes import Box
from napari_unet.errors import StorageError
from napari_unet.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from torch import nn

    from napari_unet.app.training.held_out import ImageInput
    from napari_unet.core.receptive import NetGeometry
    from napari_unet.core.resampling import Resampling
    from napari_unet.inference.device import Backend

PREVIEW = "preview.npy"
"""File of the run folder with the newest preview."""

PREVIEW_EDGE = 512
"""Largest edge of a preview in pixels: a second on two CPU cores."""


def preview_box(view: Box, image: Box) -> Box | None:
    """Return the middle of what is looked at, one slice thick and no larger than a preview.

    None = nothing of the image is looked at.

    Examples
    --------
    >>> preview_box(Box((0, 0, 0), (5, 2000, 100)), Box((0, 0, 0), (9, 2000, 80)))
    Box(start=(2, 744, 0), stop=(3, 1256, 80))
    """
    seen = view.intersection(image)
    if seen.is_empty:
        return None
    start, stop = [], []
    for a, b, edge in zip(seen.start, seen.stop, (1, PREVIEW_EDGE, PREVIEW_EDGE), strict=True):
        first = max(a, (a + b - edge) // 2)
        start.append(first)
        stop.append(min(first + edge, b))
    return Box(tuple(start), tuple(stop))


def predict_preview(
    net: nn.Module,
    image: ImageInput,
    box: Box,
    where: tuple[NetGeometry, Backend],
    resampling: Resampling | None,
) -> npt.NDArray[np.uint8]:
    """Return the classes (z, y, x) of a box of an image as it is stored.

    Parameters
    ----------
    net : torch.nn.Module
        The network.
    image : ImageInput
        What it sees.
    box : Box
        What is wanted, one slice thick.
    where : (NetGeometry, Backend)
        Geometry of the network, and where it runs.
    resampling : Resampling or None
        From the image as it is stored to `image`.
    """
    if resampling is None:
        return predict_box(net, image, box, *where)
    return resampling.labels(predict_box(net, image, resampling.support(box), *where), box)


def write_preview(path: Path, labels: npt.NDArray[np.uint8]) -> None:
    """Replace the preview, at once.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    content = io.BytesIO()
    np.save(content, labels)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise StorageError(f"preview {path} cannot be written: {error.strerror}") from error
