"""What a data set is read into: pairs of an image and its labels, opened one at a time."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import imageio.v3 as iio
import numpy as np

from napari_unet.errors import InputError
from napari_unet.io.damage import input_errors
from napari_unet.io.image import Selection, open_image, wrap_array
from napari_unet.io.raster_source import REMEDY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.axes import VoxelSize
    from napari_unet.core.label_kinds import LabelRules


class Openable(Protocol):
    """An image that is found, and not opened yet: a data set has more files than may be open."""

    def open(self) -> ImageSource:
        """Return the image, opened for reading.

        Raises
        ------
        InputError
            If it is damaged.
        """


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in one file.

    Parameters
    ----------
    path : Path
        The file.
    selection : Selection or None
        Axes and channels of it; None = what the file says.
    """

    path: Path
    selection: Selection | None = None

    def open(self) -> ImageSource:
        """Return the image, opened for reading."""
        return open_image(self.path, self.selection)


@dataclass(frozen=True, slots=True)
class ComputedPlane:
    """A plane that is made from files when it is opened; small enough for memory.

    Parameters
    ----------
    name : str
        What to call it in messages.
    compute : callable
        Returns it, (y, x).
    """

    name: str
    compute: Callable[[], npt.NDArray[Any]]

    def open(self) -> ImageSource:
        """Return the plane; its files are read now."""
        return wrap_array(self.compute(), Selection(axes="yx"), name=self.name)


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """An image and what is known of its voxels.

    Parameters
    ----------
    name : str
        Short name, the same on every machine and fit for a file name.
    image : Openable
        The image.
    labels : Openable
        Its label image, of the same shape and one channel.
    rules : LabelRules
        The kind of the labels, and their classes.
    ignore : Openable or None
        Image of the same shape; where it is not 0, the labels are not to be used.
    voxel_size : VoxelSize or None
        As its makers give it; None = not given.
    """

    name: str
    image: Openable
    labels: Openable
    rules: LabelRules
    ignore: Openable | None = None
    voxel_size: VoxelSize | None = None

    def check_shapes(self) -> None:
        """Refuse labels that do not lie on the image.

        Raises
        ------
        InputError
            If shapes differ, or a file is damaged.
        """
        with closing(self.image.open()) as image:
            expected = image.shape
        for what in (self.labels, self.ignore):
            if what is None:
                continue
            with closing(what.open()) as other:
                if other.shape != expected:
                    raise InputError(
                        f"{self.name}: the image has the shape {expected}, but {other.name} has "
                        f"{other.shape}; get the data set again"
                    )


def read_gray(path: Path) -> npt.NDArray[np.uint8]:
    """Return the gray values of a GIF or PNG plane, (y, x); a palette is looked up.

    Raises
    ------
    InputError
        If it is damaged.
    """
    with input_errors(f"{path}: this image cannot be decoded", REMEDY):
        return np.asarray(iio.imread(path, plugin="pillow", index=0, mode="L"), dtype=np.uint8)


def need_folder(path: Path, layout: str) -> Path:
    """Return a folder that is there.

    Raises
    ------
    InputError
        If it is not; `layout` says what the data set looks like.
    """
    if not path.is_dir():
        raise InputError(f"{path}: this folder is missing; {layout}")
    return path


def need_file(path: Path, layout: str) -> Path:
    """Return a file that is there.

    Raises
    ------
    InputError
        If it is not; `layout` says what the data set looks like.
    """
    if not path.is_file():
        raise InputError(f"{path}: this file is missing; {layout}")
    return path
