"""What can be set about connected components; part of an object job and of its fingerprint."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_unet.core.settings import Settings


class ComponentOptions(Settings):
    """Which voxels make one object.

    Parameters
    ----------
    foreground : tuple of int or None
        The classes that objects are made of, from 1. None = every class: all values but 0.
    connectivity : {1, 2, 3}
        Voxels are connected across faces (1), also across edges (2), also across corners (3): 6, 18
        or 26 neighbors. In a plane, 1 means 4 neighbors; 2 and 3 mean 8.
    merge_classes : bool
        Whether voxels of different classes can be one object. Otherwise every object has one class.
    per_slice : bool
        Whether every slice is taken by itself, so that no object spans two of them.
    """

    foreground: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = (
        None
    )
    connectivity: Literal[1, 2, 3] = 1
    merge_classes: bool = False
    per_slice: bool = False
