"""Where drafts are handed over: a few files in turn, each replaced at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import StorageError

if TYPE_CHECKING:
    import numpy.typing as npt

FILES = 4
"""How many there are: a reader that is not three drafts late reads what it was told of."""


class DraftFiles:
    """The files of a folder that drafts are written to.

    Parameters
    ----------
    folder : str
        It exists.

    Raises
    ------
    StorageError
        If it does not.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder).expanduser().absolute()
        if not self._folder.is_dir():
            raise StorageError(f"{folder}: there is no such folder for drafts; make it first")
        self.written = 0

    def write(self, labels: npt.NDArray[np.uint8]) -> str:
        """Return the path of a ``.npy`` file that now holds the labels.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        path = self._folder / f"draft-{self.written % FILES}.npy"
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as stream:
                np.save(stream, labels)
            # Nothing is synced: a draft is of no use after a power cut.
            os.replace(part, path)
        except OSError as error:
            raise StorageError(
                f"{path}: the draft cannot be written: {error.strerror or error}; check the disk"
            ) from error
        self.written += 1
        return str(path)
