"""Fewer and smaller tiles where the device has not enough memory for those that were planned.

::

    planned   |               W               |     one tile: its write box, read with a halo
    in parts  |       |       |       |       |     write boxes on the same stride grid

First the batch is halved, down to one tile, then the edges of what is computed at once. A part's
input is cut out of the tile's, which holds it wholly, so nothing is read again; parts lie where
tiles of their size lie, so the answer keeps the tile law. Blocks, and tiles as the rest of the
program counts them, stay as they were planned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.core.boxes import Box
from napari_unet.core.events import Warned
from napari_unet.core.tiling import Block
from napari_unet.errors import NonFiniteError, OutOfMemoryError
from napari_unet.inference.tile_input import TileInput
from napari_unet.inference.writer import BlockBuffer, BlockFault, TileResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.boxes import Shape
    from napari_unet.core.tiling import Tile, TileGrid
    from napari_unet.inference.predictor import Predictor
    from napari_unet.inference.tile_input import TileRun


def fitted_results(
    run: TileRun, predictor: Predictor, items: Sequence[TileInput]
) -> Iterator[TileResult | BlockFault | Warned]:
    """Yield what the network says of tiles, with as much at once as the device has memory for.

    Parameters
    ----------
    run : TileRun
        What is computed.
    predictor : Predictor
        The network; its `batch_size` and `largest_tile` become what fits.
    items : sequence of TileInput
        Tiles of one shape.

    Yields
    ------
    TileResult, BlockFault
        One for each tile.
    Warned
        Once for each time that less is computed at once.

    Raises
    ------
    OutOfMemoryError
        If the smallest tile does not fit either.
    BackendError
        If the network fails in another way.
    """
    done = 0
    while done < len(items):
        now = items[done : done + predictor.batch_size]
        try:
            results = _results(run, predictor, now)
        except OutOfMemoryError as error:
            cause = str(error)
        else:
            yield from results
            done += len(now)
            continue
        # Not before the error is gone: its traceback holds what filled the memory.
        predictor.release_memory()
        yield Warned(_shrink(run.grid, predictor, cause))


def parts_of(grid: TileGrid, edges: Shape, item: TileInput) -> list[TileInput]:
    """Return smaller tiles that decide the same voxels as a tile, each of them once.

    Parameters
    ----------
    grid : TileGrid
        Where the tile lies.
    edges : tuple of int
        Largest write box of a part; multiples of the stride if the image is not rescaled.
    item : TileInput
        The tile.

    Returns
    -------
    list of TileInput
        Their block is the tile's box. `nonfinite` is 0: the tile has counted them.
    """
    cell = _cell(grid, item)
    # The tile takes the place of a block: its corner is that of the parts' grid.
    block = Block(item.block.index, cell, item.tile.write)
    smaller = replace(grid, tile_shape=edges)
    return [
        TileInput(block, part, _cut(item, part), nonfinite=0) for part in smaller.tiles_of(block)
    ]


def smaller_tile(grid: TileGrid, edges: Shape) -> Shape | None:
    """Return half the edges of a write box, on the legal grid; None if they are the smallest.

    Where the image is rescaled every edge is legal, but none below the stride saves memory: what
    the network sees is widened to it.
    """
    factors = (1.0, 1.0, 1.0)
    unit = grid.net.stride
    if grid.resampling is not None:
        factors = (1.0, *grid.resampling.factors)
        unit = (1,) * len(edges)
    least = [
        max(round(stride / factor / u), 1) * u
        for stride, factor, u in zip(grid.net.stride, factors, unit, strict=True)
    ]
    whole = [-(-edge // u) * u for edge, u in zip(edges, unit, strict=True)]
    half = [
        min(edge, max(edge // 2 // u * u, low))
        for edge, u, low in zip(whole, unit, least, strict=True)
    ]
    return None if half == whole else tuple(half)


def _results(
    run: TileRun, predictor: Predictor, items: Sequence[TileInput]
) -> list[TileResult | BlockFault]:
    """Return what the network says of at most a batch of tiles of one shape."""
    largest = predictor.largest_tile
    if largest is None or _fits(_cell(run.grid, items[0]), largest):
        return list(_together(run, predictor, items))
    return [_in_parts(run, predictor, item, largest) for item in items]


def _in_parts(
    run: TileRun, predictor: Predictor, item: TileInput, edges: Shape
) -> TileResult | BlockFault:
    """Return what the network says of a tile, computed in parts."""
    buffer: BlockBuffer | None = None
    for batch in _alike(parts_of(run.grid, edges, item), predictor.batch_size):
        for result in _together(run, predictor, batch):
            if isinstance(result, BlockFault):
                return BlockFault(item.block, result.cause)
            buffer = buffer or BlockBuffer(result)
            buffer.add(result)
    if buffer is None:
        raise OutOfMemoryError(f"a tile of {item.tile.write.shape} has no parts of {edges}")
    return TileResult(
        item.block, item.tile.write, buffer.labels, buffer.probabilities, item.nonfinite
    )


def _together(
    run: TileRun, predictor: Predictor, batch: Sequence[TileInput]
) -> Iterator[TileResult | BlockFault]:
    """Yield what the network says of tiles of one shape, at most a batch."""
    try:
        answers = predictor(
            [item.image for item in batch],
            [item.tile.crop for item in batch],
            probabilities=run.probabilities,
        )
    except NonFiniteError as error:
        if len(batch) == 1:
            yield BlockFault(batch[0].block, str(error))
            return
        # Only one of them may be at fault.
        for item in batch:
            yield from _together(run, predictor, [item])
        return
    resampling = run.grid.resampling
    for item, (labels, probabilities) in zip(batch, answers, strict=True):
        box = item.tile.write
        if resampling is not None:
            labels = resampling.labels(labels, box)
            if probabilities is not None:
                probabilities = resampling.probabilities(probabilities, box)
        yield TileResult(item.block, box, labels, probabilities, item.nonfinite)


def _alike(items: Iterable[TileInput], size: int) -> Iterator[list[TileInput]]:
    """Yield batches of at most `size` tiles whose inputs have one shape."""
    kinds: dict[Shape, list[TileInput]] = {}
    for item in items:
        batch = kinds.setdefault(item.image.shape, [])
        batch.append(item)
        if len(batch) == size:
            yield kinds.pop(item.image.shape)
    yield from kinds.values()


def _shrink(grid: TileGrid, predictor: Predictor, cause: str) -> str:
    """Let the network compute less at once, and return that in a sentence."""
    reason = cause.partition(";")[0]
    if predictor.batch_size > 1:
        predictor.batch_size //= 2
        size = predictor.batch_size
        return f"{reason}; the run goes on with {size} tile{'s' * (size > 1)} at once"
    edges = predictor.largest_tile or grid.full_tile().write.shape
    smaller = smaller_tile(grid, edges)
    if smaller is None:
        raise OutOfMemoryError(
            f"{reason}, and there is no smaller tile; end other programs that use this device, "
            "choose another --device, or a smaller model"
        )
    predictor.largest_tile = smaller
    height, width = smaller[-2:]
    return f"{reason}; the run goes on with tiles of {height} x {width} pixels"


def _cell(grid: TileGrid, item: TileInput) -> Box:
    """Return the cell of the tiles' grid that a tile decides, also what no one wants of it."""
    origin = item.block.box.start
    start = tuple(
        o + (a - o) // edge * edge
        for a, o, edge in zip(item.tile.write.start, origin, grid.tile_shape, strict=True)
    )
    stop = tuple(a + edge for a, edge in zip(start, grid.tile_shape, strict=True))
    return Box(start, stop).intersection(item.block.box)


def _cut(item: TileInput, part: Tile) -> npt.NDArray[np.float32]:
    """Return a part's input, which lies in the tile's."""
    inside = part.read.relative_to(item.tile.read.start)
    return item.image[(slice(None), *inside.slices)]


def _fits(box: Box, edges: Shape) -> bool:
    return all(n <= edge for n, edge in zip(box.shape, edges, strict=True))
