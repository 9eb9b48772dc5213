"""The blocks of a stored annotation by their place in the grid, and reading some of them."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.core.boxes import Box
from napari_unet.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.boxes import Shape
    from napari_unet.io.annotation_store import AnnotationStore


@dataclass(frozen=True, slots=True)
class Blocks:
    """How an image is cut into blocks.

    Parameters
    ----------
    shape : tuple of int
        Of the image, (z, y, x).
    edges : tuple of int
        Of a block, (z, y, x).
    """

    shape: Shape
    edges: Shape

    def touching(self, box: Box) -> Iterator[Shape]:
        """Yield the positions of the blocks that overlap a box, in C order."""
        if not box.is_empty:
            yield from itertools.product(
                *(
                    range(a // edge, -(-b // edge))
                    for a, b, edge in zip(box.start, box.stop, self.edges, strict=True)
                )
            )

    def position_of(self, block: Box) -> Shape:
        """Return the position of a block."""
        return tuple(a // edge for a, edge in zip(block.start, self.edges, strict=True))

    def box_at(self, position: Shape) -> Box:
        """Return the box of the block at a position, cut to the image."""
        start = tuple(i * edge for i, edge in zip(position, self.edges, strict=True))
        stop = tuple(
            min(a + edge, n) for a, edge, n in zip(start, self.edges, self.shape, strict=True)
        )
        return Box(start, stop)

    def hull(self, positions: Sequence[Shape]) -> Box:
        """Return the smallest box around some blocks, of which there is one at least."""
        boxes = [self.box_at(position) for position in positions]
        starts, stops = [box.start for box in boxes], [box.stop for box in boxes]
        return Box(
            tuple(min(corners) for corners in zip(*starts, strict=True)),
            tuple(max(corners) for corners in zip(*stops, strict=True)),
        )


def read_block(store: AnnotationStore, block: Box) -> npt.NDArray[np.uint8]:
    """Return the labels of a block that was stored.

    Raises
    ------
    InputError
        If its chunk is damaged or gone.
    """
    labels = store.read(block)
    if not labels.any():
        # A block without labels has no chunk; zarr reads a chunk that is missing as one.
        raise InputError(
            f"{store.path}: the chunk with the labels of {block} is gone; restore it from a copy"
        )
    return labels


def read_slice(
    store: AnnotationStore, blocks: Blocks, positions: Sequence[Shape]
) -> Iterator[tuple[Shape, npt.NDArray[np.uint8] | InputError]]:
    """Yield stored blocks of one slice, each with its labels, or why they cannot be read."""
    hull = blocks.hull(positions)
    # Together is faster, unless most of what is read is not wanted.
    if 2 * len(positions) > sum(1 for _ in blocks.touching(hull)) > 1:
        with contextlib.suppress(InputError):
            labels = store.read(hull)
            boxes = [blocks.box_at(position).relative_to(hull.start) for position in positions]
            parts = [labels[box.slices] for box in boxes]
            if all(part.any() for part in parts):
                yield from zip(positions, parts, strict=True)
                return
    for position in positions:
        try:
            yield position, read_block(store, blocks.box_at(position))
        except InputError as error:
            yield position, error
