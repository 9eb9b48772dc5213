"""What the network is given of an image: read, normalized, resampled if need be, mirrored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.core.arrays import read_mirrored
from napari_unet.core.normalization import normalize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.arrays import BlockJournal, ImageSource, LabelSink
    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.normalization import Normalization
    from napari_unet.core.resampling import Resampling
    from napari_unet.core.tiling import Block, Tile, TileGrid


@dataclass(frozen=True, slots=True)
class TileRun:
    """What to compute: the arguments of `run_tiles` that stay the same all along.

    `done` holds the indices of blocks that are not computed again. `share` holds the numbers in C
    order of those that are; None = all.
    """

    source: ImageSource
    sink: LabelSink
    grid: TileGrid
    region: Box
    normalization: Normalization
    probabilities: bool
    done: frozenset[Shape] = frozenset()
    journal: BlockJournal | None = None
    share: range | None = None


@dataclass(frozen=True, slots=True)
class TileInput:
    """A tile, ready for the network.

    Parameters
    ----------
    block, tile
        Where it lies.
    image : numpy.ndarray
        float32 (c, z, y, x) of ``tile.read``, normalized.
    nonfinite : int
        Voxels of ``tile.write`` that were NaN or infinite in some channel.
    """

    block: Block
    tile: Tile
    image: npt.NDArray[np.float32]
    nonfinite: int


def read_tile(run: TileRun, block: Block, tile: Tile) -> TileInput:
    """Return a tile's input.

    Raises
    ------
    InputError
        If stored data is damaged.
    """
    if run.grid.resampling is not None:
        view = _ResampledView(run, run.grid.resampling, tile)
        return TileInput(block, tile, read_mirrored(view, tile.read), view.nonfinite)
    prepared = normalize(read_mirrored(run.source, tile.read), run.normalization)
    nonfinite = 0
    if prepared.bad is not None:
        inside = tile.write.relative_to(tile.read.start)
        nonfinite = int(prepared.bad[inside.slices].sum())
    return TileInput(block, tile, prepared.image, nonfinite)


class _ResampledView:
    """The resampled grid of an image, as one tile sees it; a `core.arrays.BoxReader`.

    Normalized first, then resampled: so values that are not finite count as the mean here, too,
    and do not spread.
    """

    def __init__(self, run: TileRun, resampling: Resampling, tile: Tile) -> None:
        self._run = run
        self._resampling = resampling
        self._write = tile.write
        self.nonfinite = 0

    @property
    def shape(self) -> Shape:
        """Shape (z, y, x) of the resampled grid."""
        return self._resampling.shape

    def read(self, box: Box) -> npt.NDArray[np.float32]:
        """Return normalized voxels (c, z, y, x) of a box, and count those of the write box."""
        needed = self._resampling.needed(box)
        prepared = normalize(self._run.source.read(needed), self._run.normalization)
        if prepared.bad is not None:
            inside = needed.intersection(self._write).relative_to(needed.start)
            self.nonfinite = int(prepared.bad[inside.slices].sum())
        return self._resampling.resample(prepared.image, box)
