"""Objects that a boundary encloses: a seeded watershed on its probability, and merging.

::

    boundary          seeds: where the       pieces: seeds grown        objects: pieces with
    probability       distance to it is      until they meet on         little boundary between
                      highest                its crest                  them are merged

    # # # # # # #     . . . . . . .          1 1 1 1 2 2 2              1 1 1 1 1 1 1
    # . . . . . #     . . 1 . 2 . .          1 1 1 1 2 2 2              1 1 1 1 1 1 1
    # # # # # # #     . . . . . . .    ->    1 1 1 1 2 2 2        ->    1 1 1 1 1 1 1
    # . . . . . #     . . . 3 . . .          3 3 3 3 3 3 3              2 2 2 2 2 2 2
    # # # # # # #     . . . . . . .          3 3 3 3 3 3 3              2 2 2 2 2 2 2

A plane is flooded whole, so nothing about its objects is an approximation. A volume is flooded in
blocks: `watershed_block` is a function of what it is given, so the grid of the blocks alone, not
their order or the number of workers, decides what comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.segmentation import watershed

from napari_unet.core.watershed_options import WatershedOptions
from napari_unet.errors import ConfigError
from napari_unet.labels.agglomeration import merge_pieces
from napari_unet.labels.seeds import edges_in_pixels, find_seeds, number_parts

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.boxes import Box

SEED_THRESHOLD = 0.2
"""Membrane probability from which a pixel may be membrane, for the seeds of `watershed_slices`.

With `SEED_DEPTH` the best variation of information on the validation slices of `em-membranes`.
"""

SEED_DEPTH = 1.0
"""Distance from possible membrane, in pixels, beyond which interior is part of a seed."""


def watershed_pieces(
    boundary: npt.NDArray[np.floating[Any]],
    options: WatershedOptions,
    *,
    spacing: tuple[float, ...] | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint32]:
    """Return what grows from the seeds of a plane or a volume, before any merging.

    Parameters
    ----------
    boundary : numpy.ndarray
        Probabilities of the boundary, (Y, X) or (Z, Y, X).
    options : WatershedOptions
        Seeds.
    spacing : tuple of float or None
        Edges of a voxel, in the order of the axes and in any unit; all alike by default.
    mask : numpy.ndarray or None
        Where pieces may be; everywhere by default.

    Returns
    -------
    numpy.ndarray
        uint32 of the same shape: 0 outside the mask, from 1 inside, in raster order of the seeds.
        A part of the mask that no seed reaches is a piece of its own.

    Raises
    ------
    ConfigError
        If the array is not 2D or 3D, or the spacing or the mask does not fit.
    """
    edges_in_pixels(boundary, spacing)
    if mask is not None and mask.shape != boundary.shape:
        raise ConfigError(
            f"a mask of shape {mask.shape} does not fit boundary probabilities of shape "
            f"{boundary.shape}; give equal shapes"
        )
    seeds = find_seeds(boundary, options, spacing)
    inside = np.ones(boundary.shape, dtype=np.bool_) if mask is None else mask
    if mask is not None:
        seeds = number_parts((seeds > 0) & mask)
    grown = np.zeros(boundary.shape, dtype=np.uint32)
    if seeds.any():
        grown = watershed(boundary, seeds.astype(np.int32), mask=mask).astype(np.uint32)  # type: ignore[no-untyped-call]  # scikit-image
    rest = number_parts(inside & (grown == 0))
    pieces: npt.NDArray[np.uint32] = np.where(rest > 0, rest + grown.max(initial=0), grown)
    return pieces


def watershed_objects(
    boundary: npt.NDArray[np.floating[Any]],
    options: WatershedOptions,
    *,
    spacing: tuple[float, ...] | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint32]:
    """Return the objects of a plane or a volume: pieces, merged as the options say.

    Parameters are those of `watershed_pieces`.

    Returns
    -------
    numpy.ndarray
        uint32 of the same shape: 0 outside the mask, inside it numbers from 1 without a gap.

    Raises
    ------
    ConfigError
        As `watershed_pieces` does.
    """
    pieces = watershed_pieces(boundary, options, spacing=spacing, mask=mask)
    return merge_pieces(pieces, boundary, options.merge)


def watershed_block(
    boundary: npt.NDArray[np.floating[Any]],
    inner: Box,
    options: WatershedOptions,
    *,
    spacing: tuple[float, ...] | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint32]:
    """Return the pieces of a block that was read with a halo, cut to the block, before merging.

    Pieces of neighboring blocks are joined where `agglomeration.region_edges` of all blocks say
    so, as pieces of one block are: the face between two blocks is no boundary.

    Parameters
    ----------
    boundary : numpy.ndarray
        (Z, Y, X) or (Y, X) probabilities of the block and its halo.
    inner : Box
        The block in this array.
    options, spacing, mask
        As for `watershed_pieces`.

    Returns
    -------
    numpy.ndarray
        uint32 of the shape of `inner`, numbers from 1 without a gap in the order of
        `watershed_pieces`. A function of the arguments alone.
    """
    pieces = watershed_pieces(boundary, options, spacing=spacing, mask=mask)[inner.slices]
    numbers = np.unique(pieces)
    numbers = numbers[numbers > 0]
    # Of a number, 0 included, as many of these are at most as large as its new number says.
    cut: npt.NDArray[np.uint32] = np.searchsorted(numbers, pieces, side="right").astype(np.uint32)
    return cut


def watershed_slices(
    membrane: npt.NDArray[np.floating[Any]],
    *,
    threshold: float = SEED_THRESHOLD,
    depth: float = SEED_DEPTH,
) -> npt.NDArray[np.int32]:
    """Return numbered objects of a plain watershed without merging, every pixel in one of them.

    The yardstick of the recipes: long and bent profiles stay one seed, and nothing is merged.

    Parameters
    ----------
    membrane : numpy.ndarray
        (Y, X) or (Z, Y, X) membrane probabilities.
    threshold : float
        Probability above which a pixel may be membrane. Lower values split more, merge less.
    depth : float
        How far from such pixels seeds begin, in pixels. Larger values close larger gaps in
        membranes and lose more thin objects.

    Returns
    -------
    numpy.ndarray
        int32 of the same shape. Numbers start at 1 and go on from slice to slice: no two slices
        share one. A slice without a seed is one object.

    Raises
    ------
    ConfigError
        If the array is not 2D or 3D, or `depth` is negative.
    """
    if membrane.ndim not in (2, 3) or depth < 0:
        raise ConfigError(
            f"no watershed of membrane probabilities of shape {membrane.shape} with seeds from a "
            f"depth of {depth} pixels; give (y, x) or (z, y, x) and a depth >= 0"
        )
    options = WatershedOptions(threshold=threshold, seeds="depth", depth=depth, merge=0)
    objects = np.zeros(membrane.shape, dtype=np.int32)
    planes = membrane.reshape(-1, *membrane.shape[-2:])
    used = 0
    for plane, out in zip(planes, objects.reshape(planes.shape), strict=True):
        out[...] = watershed_pieces(plane, options).astype(np.int32) + used
        used = int(out.max(initial=used))
    return objects
