"""What a running job can say. The engine yields these; it never calls back.

As JSON lines (``--progress json``) each event is one object whose ``event`` is the
class name in snake_case, with the fields beside it.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from napari_unet.core.boxes import Box

Stage = Literal[
    "opening",
    "normalizing",
    "splitting",
    "loading",
    "segmenting",
    "training",
    "judging",
    "searching",
    "joining",
    "numbering",
    "checking",
    "pyramid",
    "exporting",
    "finishing",
]
"""What a job is doing; in this order.

A segmentation segments, a training splits and judges, objects are searched, joined and numbered, a
verification checks.
"""


@dataclass(frozen=True, slots=True)
class EngineReady:
    """The process has imported what it needs and waits for a job.

    `seconds` is how long that took.
    """

    seconds: float
    version: str


@dataclass(frozen=True, slots=True)
class StageChanged:
    """The job has entered a stage."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The output exists and holds zeros; tiles come next.

    Parameters
    ----------
    output, name : str
        Path of the OME-Zarr group, and the label image's name in it.
    labels : str
        Path of the label image's full resolution array.
    record : str
        Path of the job record (``NAME.unet.json``).
    shape : tuple of int
        Shape of the label array, with its own axes (2 or 3).
    region : Box
        What is segmented, (z, y, x).
    tiles, blocks, pixels : int
        How many there are to do, in all.
    tile_shape : tuple of int
        Edges of a full tile's write box.
    device : str
        Where the network runs, e.g. "cpu" or "cuda:0 (NVIDIA H100)".
    classes : tuple of (name, color)
        The k-th class has the label k.
    pixels_done : int
        Of `pixels`, what an earlier run has left done.
    """

    output: str
    name: str
    labels: str
    record: str
    shape: tuple[int, ...]
    region: Box
    tiles: int
    blocks: int
    pixels: int
    tile_shape: tuple[int, ...]
    device: str
    classes: tuple[tuple[str, str], ...]
    pixels_done: int = 0


@dataclass(frozen=True, slots=True)
class TileDone:
    """A tile is computed; `written` tells whether its labels can be read from the output yet."""

    box: Box
    written: bool
    tiles_done: int
    pixels_done: int


@dataclass(frozen=True, slots=True)
class BlockDone:
    """All of a block is written."""

    box: Box
    blocks_done: int


@dataclass(frozen=True, slots=True)
class BlockFailed:
    """A block could not be computed, and why; the others go on."""

    box: Box
    cause: str


@dataclass(frozen=True, slots=True)
class PyramidProgress:
    """Blocks of the coarser levels written so far, of how many."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know, in a sentence; the job goes on."""

    message: str


@dataclass(frozen=True, slots=True)
class Paused:
    """The job waits, or goes on again."""

    paused: bool


@dataclass(frozen=True, slots=True)
class AlreadyDone:
    """The same job has been finished before; nothing was computed."""

    output: str
    name: str
    labels: str
    classes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The output is complete.

    `nonfinite` counts image voxels in the region that were NaN or infinite and were replaced by
    the mean; `missing_chunks` counts chunks of the image that were never written.
    """

    output: str
    name: str
    labels: str
    seconds: float
    pixels: int
    nonfinite: int
    missing_chunks: int


@dataclass(frozen=True, slots=True)
class ShardDone:
    """One shard of a job is done; the output is complete when all are, and were put together.

    Parameters
    ----------
    output, name : str
        Path of the OME-Zarr group, and the label image's name in it.
    shard : str
        Which one, "i/N".
    blocks : int
        Blocks of the shard, all of them done.
    seconds : float
        Time that this run of it took.
    pixels : int
        Pixels that this run of it has computed.
    """

    output: str
    name: str
    shard: str
    blocks: int
    seconds: float
    pixels: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job was stopped; the output says that it is incomplete."""

    output: str
    tiles_done: int
    tiles: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An input could not be segmented; the message is fit to be shown as it is."""

    input: str
    message: str


JobEvent: TypeAlias = (
    EngineReady
    | StageChanged
    | JobStarted
    | TileDone
    | BlockDone
    | BlockFailed
    | PyramidProgress
    | Warned
    | Paused
    | AlreadyDone
    | Finished
    | ShardDone
    | Cancelled
    | Failed
)


def event_name(event: object) -> str:
    """Return the name that an event has in JSON.

    Examples
    --------
    >>> event_name(Warned("a sentence"))
    'warned'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()


def event_to_json(event: DataclassInstance) -> dict[str, Any]:
    """Return an event, which is a dataclass, as plain data, ready for JSON.

    Examples
    --------
    >>> event_to_json(Paused(True))
    {'event': 'paused', 'paused': True}
    """
    fields = dataclasses.asdict(event)
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in fields.items()}
    return {"event": event_name(event), **plain}
