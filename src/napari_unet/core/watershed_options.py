"""What a person can set about a watershed, its merging, and the linking of its slices."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_unet.core.settings import Settings

Seeds = Literal["depth", "maxima"]
"""How seeds are found: interior that lies deep enough, or maxima of the distance."""

Overlap = Literal["iou", "smaller"]
"""Of two objects: common area over joint area, or over the area of the smaller one."""


class WatershedOptions(Settings):
    """Seeds, and how far pieces are merged.

    Lengths are in pixels: edges of a voxel along x; the voxel size says how long the other edges
    are. Defaults were tuned on slices of the FIB-SEM volume that `em-membranes` was not trained on
    (docs/reference/object-methods.md).

    Parameters
    ----------
    threshold : float
        Boundary probability above which a voxel may be boundary, for seeds, from 0 to 1. Lower
        values split more.
    seeds : {"maxima", "depth"}
        ``"maxima"``: where the smoothed distance to possible boundary is highest, which cuts long
        objects into pieces for the merging. ``"depth"``: connected interior that lies deeper than
        `depth`, which leaves long objects whole.
    sigma : float
        Standard deviation of the Gaussian that smooths the distance, in pixels; only for maxima.
    h : float
        How far a maximum of the distance must rise above the saddle to a higher one, in pixels;
        only for maxima. Higher values split less.
    depth : float
        Distance from possible boundary beyond which seeds lie, in pixels. Higher values close
        wider gaps in boundaries, and lose thin objects.
    merge : float
        Mean boundary probability below which two touching pieces are merged, from 0 (none) to 1
        (all that touch).
    """

    threshold: float = Field(0.5, ge=0, le=1)
    seeds: Seeds = "maxima"
    sigma: float = Field(2.0, ge=0)
    h: float = Field(0.0, ge=0)
    depth: float = Field(0.0, ge=0)
    merge: float = Field(0.5, ge=0, le=1)


class LinkOptions(Settings):
    """When two objects of neighboring slices are one.

    Parameters
    ----------
    overlap : {"iou", "smaller"}
        What is measured. ``"smaller"`` also follows branches: a thin one may lie wholly over a
        thick trunk.
    threshold : float
        Overlap above which objects are linked, from 0 to 1.
    mutual : bool
        Whether, besides, each must be what the other overlaps most: then an object is linked to
        one object of the next slice at most, and no branch is followed.
    """

    overlap: Overlap = "iou"
    threshold: float = Field(0.25, ge=0, le=1)
    mutual: bool = False
