"""Numbered objects from a model with the classes background, border and interior.

::

    probabilities        seeds: parts of       objects: seeds grown over
    of the classes       the interior          interior and border

      b b b b b b          . . . . . .           . . . . . .
      b B B B B b          . . . . . .           . 1 1 2 2 .
      b B I B I b    ->    . . 1 . 2 .     ->    . 1 1 2 2 .
      b B B B B b          . . . . . .           . 1 1 2 2 .

The reverse of the border in `napari_unet.labels.objects`. Slices are independent of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.measure import label
from skimage.segmentation import watershed

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

SEED_THRESHOLD = 0.5
"""Probability of the interior above which a pixel is part of a seed."""

OBJECT_THRESHOLD = 0.5
"""Probability of interior or border, together, above which a pixel is part of an object."""

MIN_PIXELS = 30
"""Size below which an object is taken for a speck.

The thresholds and the size are settled on the selection images of the model `nuclei`.
"""


def interior_instances(
    border: npt.NDArray[np.floating[Any]],
    interior: npt.NDArray[np.floating[Any]],
    *,
    seed_threshold: float = SEED_THRESHOLD,
    object_threshold: float = OBJECT_THRESHOLD,
    min_pixels: int = MIN_PIXELS,
) -> npt.NDArray[np.int32]:
    """Return numbered objects: connected parts of the interior, grown into the border.

    Parameters
    ----------
    border, interior : numpy.ndarray
        (Y, X) or (Z, Y, X) probabilities of the two classes.
    seed_threshold : float
        Probability of the interior above which a pixel is part of a seed. Higher values split
        more, merge less.
    object_threshold : float
        Sum of both probabilities above which a pixel is part of an object. Seeds grow by a
        watershed over these pixels, the likeliest interior first, and meet on the border.
    min_pixels : int
        Objects of fewer pixels are left out.

    Returns
    -------
    numpy.ndarray
        int32 of the same shape, 0 = background. Numbers start at 1 and go on from slice to slice:
        no two slices share one. Where pixels of an object hang together without any seed, as in
        an object too thin to have an interior, they are an object of their own.

    Raises
    ------
    ConfigError
        If the arrays are not 2D or 3D, or their shapes differ.
    """
    if border.shape != interior.shape or interior.ndim not in (2, 3):
        raise ConfigError(
            f"no objects from a border of shape {border.shape} and an interior of shape "
            f"{interior.shape}; give equal shapes (y, x) or (z, y, x)"
        )
    objects = np.zeros(interior.shape, dtype=np.int32)
    shape = (-1, *interior.shape[-2:])
    used = 0
    planes = zip(
        border.reshape(shape), interior.reshape(shape), objects.reshape(shape), strict=True
    )
    for edge, inner, out in planes:
        inside = edge + inner > object_threshold
        found = _objects_in_plane(inner, inside & (inner > seed_threshold), inside)
        found = _without_specks(found, min_pixels)
        out[...] = np.where(found > 0, found + used, 0)
        used = max(used, int(out.max(initial=0)))
    return objects


def _objects_in_plane(
    interior: npt.NDArray[np.floating[Any]],
    core: npt.NDArray[np.bool_],
    inside: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int32]:
    # Connected by edges: objects that touch at a corner only are not one.
    seeds = label(core, connectivity=1)  # type: ignore[no-untyped-call]  # scikit-image
    grown = watershed(-interior, seeds, mask=inside)  # type: ignore[no-untyped-call]  # as above
    rest = label(inside & (grown == 0), connectivity=1)  # type: ignore[no-untyped-call]  # as above
    objects: npt.NDArray[np.int32] = np.where(rest > 0, rest + grown.max(initial=0), grown)
    return objects.astype(np.int32)


def _without_specks(objects: npt.NDArray[np.int32], min_pixels: int) -> npt.NDArray[np.int32]:
    """Return the objects that are large enough, numbered without a gap."""
    sizes = np.bincount(objects.ravel(), minlength=1)
    kept = sizes >= max(min_pixels, 1)
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    kept_objects: npt.NDArray[np.int32] = numbers[objects]
    return kept_objects
