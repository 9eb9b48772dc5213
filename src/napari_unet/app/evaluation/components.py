"""Objects of an image of classes: its connected parts, numbered before anything is compared."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.labels.block_grid import BlockGrid
from napari_unet.labels.components import label_components
from napari_unet.labels.stitching import finish

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    import numpy.typing as npt

    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.component_options import ComponentOptions

    Reader = Callable[[Box], npt.NDArray[Any]]

BLOCK_DEPTH = 16
"""Slices of a block: a few, so that stacks are not opened slice by slice."""


def component_objects(
    classes: Reader, options: ComponentOptions, extent: tuple[Shape, int], stack: ExitStack
) -> Reader:
    """Return the connected parts of some classes of an image as numbered objects.

    They are numbered at once, block by block, into a temporary file of 4 bytes per voxel.

    Parameters
    ----------
    classes : callable
        Gives the classes (z, y, x) of a box.
    options : ComponentOptions
        What makes one object.
    extent : (tuple of int, int)
        Shape of the image, and edge in y and x of what is read at a time.
    stack : ExitStack
        Releases the temporary file.
    """
    shape, edge = extent
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="napari-unet-")))
    objects = np.lib.format.open_memmap(
        folder / "objects.npy", mode="w+", dtype=np.uint32, shape=shape
    )

    def write(box: Box, found: npt.NDArray[Any]) -> None:
        objects[box.slices] = found

    grid = BlockGrid(shape, (min(BLOCK_DEPTH, shape[0]), edge, edge))
    finish(label_components(classes, grid, options, open_output=lambda _: write))
    return lambda box: np.array(objects[box.slices])
