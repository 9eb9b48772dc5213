"""Where results go: next to the image, to a chosen folder, or to a temporary one."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from enum import Enum
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import ConfigError, StorageError
from napari_unet.io.output_state import read_output_state
from napari_unet.widgets._layers import image_root, output_stem

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY_WORDS = "The result is deleted when napari ends"
"""Said wherever results are temporary."""

OUTPUT_SUFFIX = ".unet.zarr"
"""What outputs made by the panel end in, before the image's own suffix is cut."""

TEMPORARY_PREFIX = "napari-unet-"
"""What our folders in the system's temporary folder begin with."""


class OutputPlace(Enum):
    """Where to write; the value is what the user reads."""

    NEXT_TO_IMAGE = "next to the image"
    FOLDER = "in a folder ..."
    TEMPORARY = "temporary"


class TemporaryFolders:
    """Folders that are deleted when napari ends, unless a job still needs them."""

    def __init__(self) -> None:
        self._folders: list[Path] = []
        atexit.register(self.delete_all)

    def make(self) -> Path:
        """Return a fresh folder.

        Raises
        ------
        StorageError
            If there is no temporary folder that can be written.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        except OSError as error:
            raise StorageError(
                f"no temporary folder can be made: {error}; set the environment variable TMPDIR "
                "to a writable folder and restart napari"
            ) from error
        self._folders.append(folder)
        return folder

    def keep(self, folder: Path) -> None:
        """Leave a folder to a job that outlives napari; the system clears it some day."""
        if folder in self._folders:
            self._folders.remove(folder)

    def delete(self, folder: Path) -> None:
        """Delete a folder now."""
        self.keep(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def delete_all(self) -> None:
        """Delete every folder that is not to be kept."""
        for folder in list(self._folders):
            self.delete(folder)


TEMPORARY_FOLDERS = TemporaryFolders()
"""Those of this process: layers outlive the panel that made them."""


def output_path(place: OutputPlace, image: Path | None, stem: str, folder: Path | None) -> Path:
    """Return the OME-Zarr group that results of an image go to.

    Parameters
    ----------
    place : OutputPlace
        Where to.
    image : Path or None
        The image's own file or folder, if it has one.
    stem : str
        What outputs of the image are called by; made fit for a file name.
    folder : Path or None
        The chosen folder, for ``OutputPlace.FOLDER``; a fresh one for ``TEMPORARY``.

    Raises
    ------
    ConfigError
        If the choice needs a file or a folder that there is not.
    """
    name = clean_name(stem) + OUTPUT_SUFFIX
    if place is OutputPlace.NEXT_TO_IMAGE:
        if image is None:
            raise ConfigError(
                "the layer comes from no file on this computer, so there is no place next to the "
                "image; choose a folder, or temporary"
            )
        return image_root(image).parent / name
    if folder is None:
        raise ConfigError("no output folder is chosen; choose one")
    return folder / name


def stem_of(image: Path | None, layer_name: str) -> str:
    """Return the name that outputs of a layer are called by."""
    return output_stem(image) if image is not None else layer_name


def clean_name(text: str) -> str:
    """Return a text as a file name that every system takes.

    Examples
    --------
    >>> clean_name("my layer [1]")
    'my_layer_1'
    """
    return re.sub(r"[^\w.-]+", "_", text).strip("._") or "image"


def label_names(model_name: str) -> Iterator[str]:
    """Yield what results of a model are called, without end: NAME, NAME-2, NAME-3, ...

    Examples
    --------
    >>> from itertools import islice
    >>> list(islice(label_names("em"), 3))
    ['em', 'em-2', 'em-3']
    """
    yield model_name
    for number in count(2):
        yield f"{model_name}-{number}"


def free_label_name(output: str | Path, model_name: str) -> str:
    """Return the first name for a label image that the output does not hold yet.

    Raises
    ------
    StorageError
        If the output is there and is not one of ours.
    """
    names = label_names(model_name)
    if not Path(output).exists():
        return next(names)
    return next(name for name in names if read_output_state(output, name) is None)
