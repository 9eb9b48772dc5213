"""What a running object job says. As JSON lines each is one object, as in `core.events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from napari_unet.core.events import AlreadyDone, PyramidProgress, StageChanged, Warned

if TYPE_CHECKING:
    from napari_unet.core.boxes import Box


@dataclass(frozen=True, slots=True)
class ObjectsStarted:
    """A segmentation is read, and its objects are being searched.

    Parameters
    ----------
    output, name : str
        Path of the OME-Zarr group, and the name of the objects' label image in it.
    source : str
        Name of the label image of classes.
    method, dimension : str
        How objects are told apart, and how slices hang together.
    region : Box
        Where, (z, y, x).
    blocks : int
        Slices or blocks in which they are searched.
    """

    output: str
    name: str
    source: str
    method: str
    dimension: str
    region: Box
    blocks: int


@dataclass(frozen=True, slots=True)
class ObjectsProgress:
    """Parts of the work of this stage done so far, of how many."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ObjectsFound:
    """The objects are numbered, measured and stored.

    Parameters
    ----------
    output, name, labels : str
        The OME-Zarr group, the label image's name, and its full resolution array.
    objects : int
        How many there are.
    tables : tuple of str
        Paths of their table, as CSV and as Parquet.
    record : str
        Path of the record (``NAME.unet.json``).
    seconds : float
        How long it took.
    """

    output: str
    name: str
    labels: str
    objects: int
    tables: tuple[str, ...]
    record: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ObjectsCancelled:
    """The job was stopped; its scratch is deleted.

    Parameters
    ----------
    output, name : str
        The OME-Zarr group, and the name of the objects' label image.
    stage : str
        What it was doing.
    """

    output: str
    name: str
    stage: str


ObjectsEvent: TypeAlias = (
    StageChanged
    | Warned
    | AlreadyDone
    | PyramidProgress
    | ObjectsStarted
    | ObjectsProgress
    | ObjectsFound
    | ObjectsCancelled
)
"""Everything that an object job says."""
