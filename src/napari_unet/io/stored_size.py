"""How much disk a part of an output takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zarr
from zarr.storage import LocalStore

from napari_unet.io.output_state import storage_errors
from napari_unet.io.stored_objects import stored_files

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari_unet.core.boxes import Box


def stored_bytes(out: Path, name: str, boxes: Iterable[Box]) -> int:
    """Return the length of all files that hold some boxes of a label image at full resolution.

    Parameters
    ----------
    out : Path
        The OME-Zarr.
    name : str
        The label image; its probabilities count in, if it has them.
    boxes : iterable of Box
        Parts of it, (z, y, x). A file that two of them share counts once.

    Raises
    ------
    StorageError
        If the arrays or their files cannot be looked at.
    """
    wanted, total, axes = list(boxes), 0, 0
    with storage_errors(f"{out}: the size of {name} cannot be found out"):
        for kind in ("labels", "probabilities"):
            folder = out / kind / name
            if not folder.is_dir():
                continue
            array = zarr.open_array(LocalStore(folder), path="0", mode="r")
            # Labels come first and have spatial axes only.
            axes = axes or array.ndim
            lead = tuple(slice(0, n) for n in array.shape[: array.ndim - axes])
            files = {
                file for box in wanted for file in stored_files(array, lead + box.slices[-axes:])
            }
            total += sum(file.stat().st_size for file in files if file.exists())
    return total
