"""Objects in a slice: a plain seeded watershed on the membrane probability.

Seeds are the local maxima of the smoothed distance to the nearest membrane, so each blob of
interior gets about one; from them the objects grow until they meet on the crest of the membrane
probability. Slices are independent of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.measure import label
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

SEED_SIGMA = 2.0
"""Standard deviation, in pixels, that smooths away maxima that noise makes in the distance."""


def watershed_slices(
    membrane: npt.NDArray[np.floating[Any]],
    *,
    threshold: float = 0.5,
    seed_sigma: float = SEED_SIGMA,
) -> npt.NDArray[np.int32]:
    """Return numbered objects, every pixel in one of them.

    Parameters
    ----------
    membrane : numpy.ndarray
        (Y, X) or (Z, Y, X) membrane probabilities.
    threshold : float
        Probability above which a pixel is membrane; distances are measured from there.
    seed_sigma : float
        Smoothing of the distance before its maxima are taken, in pixels. Larger values give fewer
        and larger objects.

    Returns
    -------
    numpy.ndarray
        int32 of the same shape. Numbers start at 1 and go on from slice to slice: no two slices
        share one. A slice without any interior is one object.

    Raises
    ------
    ConfigError
        If the array is not 2D or 3D, or `seed_sigma` is negative.
    """
    if membrane.ndim not in (2, 3) or seed_sigma < 0:
        raise ConfigError(
            f"no watershed of membrane probabilities of shape {membrane.shape} with a seed sigma "
            f"of {seed_sigma}; give (y, x) or (z, y, x) and a sigma >= 0"
        )
    objects = np.zeros(membrane.shape, dtype=np.int32)
    planes = membrane.reshape(-1, *membrane.shape[-2:])
    used = 0
    for plane, out in zip(planes, objects.reshape(planes.shape), strict=True):
        out[...] = _watershed_plane(plane, threshold, seed_sigma) + used
        used = int(out.max(initial=used))
    return objects


def _watershed_plane(
    membrane: npt.NDArray[np.floating[Any]], threshold: float, seed_sigma: float
) -> npt.NDArray[np.int32]:
    interior = membrane <= threshold
    if interior.all() or not interior.any():
        return np.ones(membrane.shape, dtype=np.int32)
    distance = distance_transform_edt(interior)
    smooth = gaussian_filter(distance, seed_sigma)
    # Outside the interior the smoothed distance may have maxima too; those are no objects.
    maxima = local_maxima(smooth) & interior  # type: ignore[no-untyped-call]  # scikit-image
    if not maxima.any():
        maxima = interior
    seeds = label(maxima, connectivity=2)  # type: ignore[no-untyped-call]  # scikit-image
    objects = watershed(membrane, seeds)  # type: ignore[no-untyped-call]  # scikit-image
    return np.asarray(objects, dtype=np.int32)
