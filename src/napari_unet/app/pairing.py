"""Which files of two folders belong together: those of one name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import AxesError, InputError
from napari_unet.files import read_json
from napari_unet.io.image import Selection, open_image
from napari_unet.io.suffixes import HDF5_SUFFIXES, MRC_SUFFIXES, RASTER_SUFFIXES, TIFF_SUFFIXES
from napari_unet.io.zarr_open import is_zarr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_unet.core.arrays import ImageSource

IMAGE_SUFFIXES = frozenset(
    {*TIFF_SUFFIXES, *RASTER_SUFFIXES, *HDF5_SUFFIXES, *MRC_SUFFIXES, ".npy", ".zarr"}
)
"""Endings of what is taken for an image in a folder."""

_NAMED = 5
"""Files that a message names before it only counts them."""


def pair_by_name(
    first: Path, second: Path, *, remedy: str, allow_missing: bool = False
) -> list[tuple[Path, Path]]:
    """Return the pairs of two paths: themselves, or the files of one name if both are folders.

    Parameters
    ----------
    first, second : Path
        Two files, or two folders; a zarr is a file here.
    remedy : str
        What the message says about the names that are needed.
    allow_missing : bool
        Leave out files of `second` that have no partner.

    Raises
    ------
    InputError
        If files of a folder have no partner, two have the same name, or there is none.
    """
    if not (is_plain_folder(first) and is_plain_folder(second)):
        return [(first, second)]
    ours, theirs = images_by_name(first), images_by_name(second)
    lonely = [ours[name] for name in sorted(ours.keys() - theirs.keys())]
    if not allow_missing:
        lonely += [theirs[name] for name in sorted(theirs.keys() - ours.keys())]
    if lonely or not ours:
        shown = ", ".join(str(path.relative_to(path.parent.parent)) for path in lonely[:_NAMED])
        more = f" and {len(lonely) - _NAMED} more" if len(lonely) > _NAMED else ""
        raise InputError(
            f"{first} and {second} do not make pairs: "
            + (f"{shown}{more} have no partner; " if lonely else "they hold no images; ")
            + remedy
        )
    return [(ours[name], theirs[name]) for name in sorted(ours)]


def images_by_name(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their names without suffix.

    Raises
    ------
    InputError
        If two have the same name.
    """
    found: dict[str, Path] = {}
    for path in sorted(_images_in(folder)):
        name = bare_name(path)
        if name in found:
            raise InputError(
                f"{folder} holds {found[name].name} and {path.name}, which have the same name but "
                "for the suffix; keep one of them"
            )
        found[name] = path
    return found


def open_partner(path: Path, selection: Selection, partner: ImageSource) -> ImageSource:
    """Return labels opened; what was said of their partner's axes holds as far as it can.

    A file that does not say what its axes are has those of the partner.

    Parameters
    ----------
    path : Path
        A label image, or a mask.
    selection : Selection
        Of the partner; axes, level and time are used.
    partner : ImageSource
        The image that the labels lie on, opened.

    Raises
    ------
    AxesError
        If its axes are not known.
    InputError
        If it cannot be read.
    """
    axes = None if selection.axes is None else selection.axes.lower().replace("c", "")
    tried = [
        Selection(axes=axes, level=selection.level, time=selection.time),
        Selection(axes=None if axes is None else axes.replace("t", "")),
        Selection(axes=partner.spatial_axes),
    ]
    refused: AxesError | None = None
    for each in dict.fromkeys(tried):
        try:
            return open_image(path, each)
        except AxesError as error:
            refused = refused or error
    raise refused or AxesError(f"{path}: its axes are not known")


def bare_name(path: Path) -> str:
    """Return a file's name without its suffix, ``.ome.tif`` and ``.ome.zarr`` taken whole."""
    return path.stem.removesuffix(".ome")


def is_plain_folder(path: Path) -> bool:
    """Return whether it is a folder of files, not a zarr."""
    return path.is_dir() and not is_zarr(path)


def is_annotation_store(path: Path) -> bool:
    """Return whether a folder says that it is a stored annotation of ours."""
    try:
        document = read_json(path / "zarr.json")
        return "annotation_version" in document["attributes"]["napari_unet"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def absolute(text: str) -> Path:
    """Return an absolute path; ``~`` is the user's home."""
    return Path(os.path.abspath(Path(text).expanduser()))


def _images_in(folder: Path) -> Iterable[Path]:
    for path in folder.iterdir():
        if not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES:
            yield path
