"""Where objects begin to grow: seeds inside what is surely not boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import cc3d
import edt  # type: ignore[import-not-found]  # a compiled module without stubs
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.morphology import local_maxima, reconstruction

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.watershed_options import WatershedOptions


def find_seeds(
    boundary: npt.NDArray[np.floating[Any]],
    options: WatershedOptions,
    spacing: tuple[float, ...] | None = None,
) -> npt.NDArray[np.uint32]:
    """Return numbered seeds from 1, 0 elsewhere; each lies where `boundary` <= the threshold.

    Parameters
    ----------
    boundary : numpy.ndarray
        Probabilities of the boundary, (Y, X) or (Z, Y, X).
    options : WatershedOptions
        How seeds are found.
    spacing : tuple of float or None
        Edges of a voxel, in the order of the axes and in any unit; all alike by default.

    Returns
    -------
    numpy.ndarray
        uint32 of the same shape, the numbers in raster order of the first voxel of each seed. No
        seed at all where nothing is deep enough.

    Raises
    ------
    ConfigError
        If the array is not 2D or 3D, or the spacing does not fit.
    """
    edges = edges_in_pixels(boundary, spacing)
    interior = boundary <= options.threshold
    distance = depth_of(interior, edges)
    core = interior & (distance > options.depth)
    if options.seeds == "maxima":
        core &= _high_maxima(distance, options, edges)
    return number_parts(core)


def depth_of(interior: npt.NDArray[np.bool_], edges: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Return the distance of interior voxels to the nearest other voxel, in pixels, 0 elsewhere.

    The rim of the array is no boundary. Where all is interior the distance is the array's diagonal.
    """
    distance = edt.edt(interior, anisotropy=edges, black_border=False, parallel=1)
    widest = float(np.linalg.norm(np.multiply(interior.shape, edges)))
    found: npt.NDArray[np.float32] = np.minimum(distance, np.float32(widest))
    return found


def number_parts(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """Return the parts of a mask that hang together by faces, numbered in raster order."""
    # Diagonal neighbors are not connected: objects that touch at a corner only are not one.
    faces: Literal[4, 6] = 4 if mask.ndim == 2 else 6
    parts = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=faces)
    return parts.astype(np.uint32)


def edges_in_pixels(
    boundary: npt.NDArray[Any], spacing: tuple[float, ...] | None
) -> tuple[float, ...]:
    """Return the edges of a voxel in units of its edge along x.

    Raises
    ------
    ConfigError
        If the array is not 2D or 3D, or the spacing is not one positive length per axis.
    """
    if boundary.ndim not in (2, 3):
        raise ConfigError(
            f"no objects from an array of shape {boundary.shape}; give (y, x) or (z, y, x)"
        )
    if spacing is None:
        return (1.0,) * boundary.ndim
    if len(spacing) != boundary.ndim or not all(0 < edge < np.inf for edge in spacing):
        raise ConfigError(
            f"a voxel size of {spacing} does not fit an array of shape {boundary.shape}; give one "
            "positive length for each axis"
        )
    return tuple(edge / spacing[-1] for edge in spacing)


def _high_maxima(
    distance: npt.NDArray[np.float32], options: WatershedOptions, edges: tuple[float, ...]
) -> npt.NDArray[np.bool_]:
    """Return the maxima that rise by `h` over the saddle to a higher one.

    Reconstruction from the distance lowered by `h` levels all lower rises [1]_.

    References
    ----------
    .. [1] P. Soille, Morphological Image Analysis, 2nd edition, 2003, sec. 6.3.4.
    """
    if options.sigma > 0:
        sigma = [options.sigma / edge for edge in edges]
        distance = gaussian_filter(distance, sigma, mode="nearest")
    if options.h > 0:
        distance = reconstruction(distance - np.float32(options.h), distance).astype(np.float32)  # type: ignore[no-untyped-call]  # scikit-image
    if distance.min() == distance.max():
        # scikit-image sees no maximum in a level image; here all of it is one.
        return np.ones(distance.shape, dtype=np.bool_)
    maxima: npt.NDArray[np.bool_] = local_maxima(distance, connectivity=1)  # type: ignore[no-untyped-call]  # scikit-image
    return maxima
