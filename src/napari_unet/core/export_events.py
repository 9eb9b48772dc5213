"""What a running export says. As JSON lines each is one object, as in `napari_unet.core.events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from napari_unet.core.events import StageChanged, Warned


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """Pieces read or written so far, of how many."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ExportFinished:
    """The file is written and has its name.

    Parameters
    ----------
    input, name : str
        OUT, and the label image's name in it.
    output : str
        Path of the file, or of the folder of slices.
    format : str
        Kind of file.
    dtype : str
        Type of the stored values, such as "uint16".
    shape : tuple of int
        Shape of what was exported, with its own axes.
    nbytes : int
        Size on disk.
    seconds : float
        How long it took.
    """

    input: str
    name: str
    output: str
    format: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ExportCancelled:
    """The export was stopped; no file of it is left."""

    output: str


ExportEvent: TypeAlias = StageChanged | Warned | ExportProgress | ExportFinished | ExportCancelled
"""Everything that an export says."""
