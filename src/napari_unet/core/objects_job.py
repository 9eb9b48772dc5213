"""An object job: every option of the way from a finished segmentation to numbered objects."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from napari_unet.core.job import DEFAULT_BLOCK_EDGE, LabelName
from napari_unet.core.object_method import Dimension, ObjectMethod
from napari_unet.core.settings import Settings

MIN_SIZE_PATTERN = r"(?P<number>\d+(\.\d*)?|\.\d+)\s*((?P<unit>[^\W\d]+?)(?P<power>[23])?)?"
"""A number of voxels, or an area or volume with its unit: "30", "200 nm2", "0.5 um3"."""

DEFAULT_VOLUME_EDGE = 256
"""Edge of a block of a volume in y and x."""

VOLUME_BLOCK_VOXELS = 2**22
"""Voxels of a block of a volume, which decide its slices: 64 of 256 x 256 voxels."""


def _checked_size(value: object) -> object:
    """Turn numbers of a job file into text; say what is legal in one sentence."""
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(MIN_SIZE_PATTERN, text.strip()):
        raise ValueError("write a number of voxels such as 30, or a size such as 200nm2 or 0.5um3")
    return text.strip()


ObjectSize = Annotated[str, BeforeValidator(_checked_size)]


class ObjectsJob(Settings):
    """Which segmentation becomes objects, how, and under what name.

    What is None comes from the model that made the segmentation, or from the method.

    Parameters
    ----------
    output : str
        OUT: path of the OME-Zarr that holds the segmentation, and gets the objects.
    source : str or None
        Name of its label image of classes; None = the only one.
    name : str or None
        Name of the label image of objects; None = the source's, and ``-objects``.
    method : {"components", "watershed", "interior"} or None
        How objects are told apart.
    dimension : {"2d", "linked", "3d"} or None
        Slices by themselves, slices linked to the next, or the volume as one.
    classes : str or None
        Names of the classes that objects are made of, separated by commas.
    boundary : str or None
        Name of the class between objects, for watershed and interior.
    connectivity : int or None
        For components: how many coordinates of two voxels that hang together may differ, by one: 1
        = faces, 2 = edges, 3 = corners (in slices 1 or 2). None = 1.
    watershed : dict
        Fields of `napari_unet.core.watershed_options.WatershedOptions`.
    link : dict
        Fields of `napari_unet.core.watershed_options.LinkOptions`, for "linked".
    min_size : str or None
        Smallest size of an object: voxels ("30"), or an area or volume with a unit ("200nm2").
    fill_holes : bool
        Make background that an object encloses part of it.
    clear_border : bool
        Leave out objects that touch the border of the region, in slices of 2D in y and x.
    region : str or None
        Part to work on, ``"z0:z1,y0:y1,x0:x1"`` in voxels; None = what was segmented.
    block_size : int or None
        Edge of a block in y and x, in voxels. A block of a volume has as many slices as make about
        four million voxels, and the watershed of a volume depends on it. None = 1024, 256 in 3D.
    workers : int
        Blocks or slices that are worked on at once.
    overwrite : bool
        Replace objects that were made with other options.
    """

    output: str
    source: LabelName | None = None
    name: LabelName | None = None
    method: ObjectMethod | None = None
    dimension: Dimension | None = None
    classes: str | None = None
    boundary: str | None = None
    connectivity: Literal[1, 2, 3] | None = None
    watershed: dict[str, Any] = Field(default_factory=dict)
    link: dict[str, Any] = Field(default_factory=dict)
    min_size: ObjectSize | None = None
    fill_holes: bool = False
    clear_border: bool = False
    region: str | None = None
    block_size: Annotated[int, Field(ge=16, le=16384)] | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    overwrite: bool = False

    def block_shape(self, *, volume: bool) -> tuple[int, int, int]:
        """Return the edges (z, y, x) of a block, of slices or of a volume.

        Examples
        --------
        >>> ObjectsJob(output="out.zarr").block_shape(volume=True)
        (64, 256, 256)
        >>> ObjectsJob(output="out.zarr", block_size=512).block_shape(volume=False)
        (1, 512, 512)
        """
        if not volume:
            edge = self.block_size or DEFAULT_BLOCK_EDGE
            return (1, edge, edge)
        edge = self.block_size or DEFAULT_VOLUME_EDGE
        return (max(VOLUME_BLOCK_VOXELS // edge**2, 1), edge, edge)
