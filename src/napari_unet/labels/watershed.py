"""Objects in a slice: a plain seeded watershed on the membrane probability.

Seeds are the connected parts of the interior that lie deeper than some pixels from any possible
membrane: a low threshold and the depth close small gaps in a membrane, and a long or bent profile
stays one seed, which the maxima of the distance would cut into several. From the seeds the objects
grow until they meet on the crest of the membrane probability. Slices are independent of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.measure import label
from skimage.segmentation import watershed

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

SEED_THRESHOLD = 0.2
"""Membrane probability from which a pixel may be membrane, for seeds.

With `SEED_DEPTH` the best variation of information on the validation slices of `em-membranes`.
"""

SEED_DEPTH = 1.0
"""Distance from possible membrane, in pixels, beyond which interior is part of a seed."""


def watershed_slices(
    membrane: npt.NDArray[np.floating[Any]],
    *,
    threshold: float = SEED_THRESHOLD,
    depth: float = SEED_DEPTH,
) -> npt.NDArray[np.int32]:
    """Return numbered objects, every pixel in one of them.

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
    objects = np.zeros(membrane.shape, dtype=np.int32)
    planes = membrane.reshape(-1, *membrane.shape[-2:])
    used = 0
    for plane, out in zip(planes, objects.reshape(planes.shape), strict=True):
        out[...] = _watershed_plane(plane, threshold, depth) + used
        used = int(out.max(initial=used))
    return objects


def _watershed_plane(
    membrane: npt.NDArray[np.floating[Any]], threshold: float, depth: float
) -> npt.NDArray[np.int32]:
    interior = membrane <= threshold
    # Without any membrane the distance to it is not defined; without interior there is no seed.
    if interior.all() or not interior.any():
        return np.ones(membrane.shape, dtype=np.int32)
    core = distance_transform_edt(interior) > depth
    seeds = label(core, connectivity=1)  # type: ignore[no-untyped-call]  # scikit-image
    if not seeds.any():
        return np.ones(membrane.shape, dtype=np.int32)
    objects = watershed(membrane, seeds)  # type: ignore[no-untyped-call]  # scikit-image
    return np.asarray(objects, dtype=np.int32)
