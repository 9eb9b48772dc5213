"""What a running verification says. As JSON lines each is one object, as in `core.events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from napari_unet.core.events import BlockFailed, StageChanged, Warned

if TYPE_CHECKING:
    from napari_unet.core.boxes import Box


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """Blocks looked at so far, of how many; then pieces of the coarser levels."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class BlockDamaged:
    """What is stored of a block is not what was written, and how that shows.

    Parameters
    ----------
    level : int
        0 for a block, else the coarser level that the box lies in.
    box : Box
        The part, (z, y, x), in voxels of that level.
    cause : str
        Which file is missing, empty or damaged, or that the checksum differs.
    """

    level: int
    box: Box
    cause: str


@dataclass(frozen=True, slots=True)
class Verified:
    """Everything was looked at.

    Parameters
    ----------
    output, name : str
        OUT, and the label image's name in it.
    state : str
        "complete" or "incomplete", as OUT says.
    blocks : int
        Blocks of the job: `right`, `damaged` and `missing` ones.
    right, damaged, missing : int
        Read back and found as they were written; not so; not done yet.
    coarse : int
        Damaged pieces of the coarser levels.
    seconds : float
        How long it took.
    """

    output: str
    name: str
    state: str
    blocks: int
    right: int
    damaged: int
    missing: int
    coarse: int
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether the job is finished and all of it is right."""
        return self.state == "complete" and self.right == self.blocks and not self.coarse


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was damaged or missing is made, and the output is complete.

    `blocks` counts those that were made anew.
    """

    output: str
    name: str
    blocks: int


@dataclass(frozen=True, slots=True)
class VerifyCancelled:
    """The verification was stopped; `done` of `blocks` had been looked at."""

    output: str
    name: str
    done: int
    blocks: int


VerifyEvent: TypeAlias = (
    StageChanged
    | Warned
    | BlockFailed
    | VerifyProgress
    | BlockDamaged
    | Verified
    | Repaired
    | VerifyCancelled
)
"""Everything that a verification says; a repair says what a segmentation says, too."""
