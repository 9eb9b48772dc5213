"""Borders of a segmentation thinned to lines, so that their width does not count.

The ISBI 2012 challenge compares cells after their borders have been thinned by a watershed [1]_:
cells grow into the border at the same speed until they meet, and a line of border remains between
them. It is the flooding of Vincent and Soille [2]_ on an image with two levels, cell and border,
4-connected. Which pixel of a border of even width remains depends on the order in which pixels are
visited; it is the order of the challenge's program (column by column, first come first served),
so that its scores are met exactly.

References
----------
.. [1] I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
   connectomics", Frontiers in Neuroanatomy 9:142, 2015.
.. [2] L. Vincent, P. Soille, "Watersheds in digital spaces: an efficient algorithm based on
   immersion simulations", IEEE PAMI 13(6), 1991.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

LINE = 0
"""Number of the pixels that remain border."""

_OUTSIDE, _BORDER, _QUEUED = -3, -2, -1


def connected_cells(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Return the 4-connected components of a slice, numbered from 1; 0 = border.

    Parameters
    ----------
    cells : numpy.ndarray of bool, (Y, X)
        True in cells, False on borders.

    Raises
    ------
    ConfigError
        If it is not a mask of one slice.
    """
    check_slice(cells)
    labels, _ = ndimage.label(cells)
    return labels.astype(np.int32, copy=False)


def thin_borders(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Return the cells of a slice grown until only lines remain between them.

    Cells are the 4-connected components, numbered from 1; the lines are 0. A slice without a cell
    is one object, with the number 1.

    Parameters
    ----------
    cells : numpy.ndarray of bool, (Y, X)
        True in cells, False on borders.

    Raises
    ------
    ConfigError
        If it is not a mask of one slice.
    """
    labels = connected_cells(cells)
    if not labels.any():
        return np.ones_like(labels)
    # Transposed, a column is contiguous: then the order of the pixels is that of flat indices.
    padded = np.pad(labels.T, 1, constant_values=_OUTSIDE)
    padded[padded == LINE] = _BORDER
    width = padded.shape[1]
    shore = (padded == _BORDER) & ndimage.binary_dilation(padded > LINE)
    padded[shore] = _QUEUED
    flat = padded.ravel().tolist()
    _flood(flat, deque(np.flatnonzero(shore).tolist()), width)
    flooded = np.array(flat, np.int32).reshape(padded.shape)
    return np.ascontiguousarray(flooded[1:-1, 1:-1].T)


def check_slice(cells: npt.NDArray[np.bool_]) -> None:
    """Raise unless an array is a mask of one slice.

    Raises
    ------
    ConfigError
        If it is not boolean, or not (Y, X).
    """
    if cells.dtype != np.bool_ or cells.ndim != 2:
        raise ConfigError(
            f"cells are {cells.dtype} of shape {cells.shape}; give a mask (y, x) of bool, "
            "True in cells, such as a probability of cell above a threshold"
        )


def _flood(labels: list[int], queue: deque[int], width: int) -> None:
    """Give every pixel of the border a cell or make it a line, in the order of the queue."""
    # A line that was made a line only by its neighbor may still become part of a cell, unless two
    # cells have met since: the rule of Vincent and Soille, with their one flag for all pixels.
    yielding = False
    steps = (-width, -1, width, 1)
    while queue:
        here = queue.popleft()
        own = labels[here]
        for step in steps:
            there = here + step
            other = labels[there]
            if other > LINE:
                if own == _QUEUED or (own == LINE and yielding):
                    own = other
                elif own > LINE and own != other:
                    own = LINE
                    yielding = False
            elif other == LINE:
                if own == _QUEUED:
                    own = LINE
                    yielding = True
            elif other == _BORDER:
                labels[there] = _QUEUED
                queue.append(there)
        labels[here] = own
