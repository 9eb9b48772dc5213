"""What the process that hands out blocks and its workers say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.app.device_memory import Shrunk
    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.job import SegmentJob
    from napari_unet.core.normalization import Normalization
    from napari_unet.core.tiling import TileGrid
    from napari_unet.errors import UNetError
    from napari_unet.io.ledger import BlockEntry
    from napari_unet.io.output_spec import OutputSpec


@dataclass(frozen=True)
class WorkOrder:
    """What is the same for all blocks of a run; small, and fit to be sent to another process.

    Parameters
    ----------
    job : SegmentJob
        With absolute paths; `model` is the path of the model's file.
    model : str
        Name or path of the model as the user gave it, for a machine without that file.
    fingerprint : dict
        What the worker must find, too: the same image, and the model's SHA-256.
    grid : TileGrid
        Blocks and tiles.
    region : Box
        What is segmented.
    normalization : Normalization
        Of the volume.
    output : OutputSpec
        Where blocks go; it was created before.
    run : str
        The output must still be of this run.
    token : str
        Of the process that hands out; another one has another.
    threads : int or None
        CPU threads of one worker; None = those that it was started with.
    shared : bool
        Whether workers may be on other machines: then each must see the probe of this token.
    """

    job: SegmentJob
    model: str
    fingerprint: dict[str, object]
    grid: TileGrid
    region: Box
    normalization: Normalization
    output: OutputSpec
    run: str
    token: str
    threads: int | None
    shared: bool = False

    @property
    def probe(self) -> Path:
        """File in the output that holds the token, where workers may be on other machines."""
        return probe_path(self.output.path, self.output.name, self.token)


@dataclass(frozen=True)
class BlockOutcome:
    """What became of a block.

    Parameters
    ----------
    index : tuple of int
        Its position in the block grid.
    entry : BlockEntry or None
        What the ledger is to say; its data is durable. None = it could not be computed.
    cause : str
        Why not.
    notes : tuple of str
        What the user should know, in sentences.
    error : UNetError or None
        What ends the whole run, such as a disk that is full.
    errno : int or None
        Error number of the system behind `error`: causes do not travel between processes.
    shrunk : Shrunk or None
        What fits into the memory of the worker's device, if it is less than was planned.
    called_off : bool
        Whether the worker was told to end meanwhile: the block is for another one.
    """

    index: Shape
    entry: BlockEntry | None
    cause: str = ""
    notes: tuple[str, ...] = ()
    error: UNetError | None = None
    errno: int | None = None
    shrunk: Shrunk | None = None
    called_off: bool = False


def probe_path(output: Path, name: str, token: str) -> Path:
    """Return where the probe of a process that hands out blocks lies."""
    return output / f".{name}.{token}.probe"
