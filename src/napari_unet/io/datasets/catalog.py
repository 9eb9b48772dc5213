"""The public data sets that can be read by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import ConfigError
from napari_unet.io.datasets.cell_tracking import read_hela, read_u373
from napari_unet.io.datasets.drive import read_drive
from napari_unet.io.datasets.dsb2018 import read_dsb2018
from napari_unet.io.datasets.isbi2012 import read_isbi2012
from napari_unet.io.datasets.pairs import need_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.io.datasets.pairs import TrainingPair

DATASETS: Mapping[str, Callable[[Path], list[TrainingPair]]] = {
    "isbi2012": read_isbi2012,
    "drive": read_drive,
    "dsb2018": read_dsb2018,
    "phc-c2dh-u373": read_u373,
    "dic-c2dh-hela": read_hela,
}
"""Readers by name; names are compared without case."""


def read_dataset(name: str, root: str | os.PathLike[str]) -> list[TrainingPair]:
    """Return the training pairs of a public data set that lies on this machine.

    Names and folders are checked now, images are read when they are opened.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    root : path-like
        Folder that the set was unpacked into.

    Raises
    ------
    ConfigError
        If there is no set of this name.
    InputError
        If a folder or file of the set is missing; names it, and what the set looks like.
    """
    reader = DATASETS.get(name.strip().casefold())
    if reader is None:
        raise ConfigError(f"there is no data set {name!r}; choose one of {', '.join(DATASETS)}")
    folder = Path(os.path.abspath(root))
    return reader(need_folder(folder, "give the folder that the data set was unpacked into"))
