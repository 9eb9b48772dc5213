"""A folder of slices: one PNG, JPEG or TIFF file per plane, stacked along z."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_unet.errors import InputError
from napari_unet.io.cache import PieceCache
from napari_unet.io.raster_source import plane_axes, plane_facts, read_plane
from napari_unet.io.selection import Selection, plan_layout
from napari_unet.io.stored_image import ImageFacts, StoredImage, check_level
from napari_unet.io.suffixes import RASTER_SUFFIXES, TIFF_SUFFIXES
from napari_unet.io.tiff_source import open_tiff_plane

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape
    from napari_unet.io.tiff_pages import TiffPages

T = TypeVar("T", "npt.NDArray[Any]", "TiffPages")


class FolderSource(StoredImage):
    """Planes in files, read as a stack.

    Parameters
    ----------
    facts : ImageFacts
        What is known of it; the first axis counts the files.
    files : list of Path
        The planes, in order.
    """

    def __init__(self, facts: ImageFacts, files: list[Path]) -> None:
        super().__init__(facts)
        self._files = files
        self._cache = PieceCache()

    def close(self) -> None:
        """Forget the decoded planes."""
        super().close()
        self._cache.clear()

    def _fetch(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        first, inner = index[0], index[1:]
        return np.stack([self._plane(k, inner) for k in range(first.start, first.stop)])

    def _plane(self, number: int, inner: tuple[slice, ...]) -> npt.NDArray[Any]:
        file = self._files[number]
        if file.suffix.lower() in TIFF_SUFFIXES:
            return self._tiff_plane(number, inner)
        return self._checked(file, self._cache.get(number, lambda: read_plane(file)))[inner]

    def _tiff_plane(self, number: int, inner: tuple[slice, ...]) -> npt.NDArray[Any]:
        file, whole = self._files[number], tuple(slice(0, n) for n in self._layout.shape[1:])
        kept = self._cache.peek(number)
        if kept is not None:
            return kept[inner]
        with closing(open_tiff_plane(file)) as pages:
            self._checked(file, pages)
            if pages.is_plain:
                return pages.read(inner)
            # Compressed: the next tiles need the same strips, and the file is not kept open.
            return self._cache.get(number, lambda: pages.read(whole))[inner]

    def _checked(self, file: Path, plane: T) -> T:
        if plane.shape != self._layout.shape[1:] or plane.dtype != self.dtype:
            raise InputError(
                f"{file}: the slice changed while the folder was open, to {plane.shape} "
                f"{plane.dtype}; open the folder again"
            )
        return plane


def open_folder(path: Path, selection: Selection) -> FolderSource:
    """Return the stack that a folder of slices is.

    Raises
    ------
    AxesError
        If a channel must be chosen.
    InputError
        If there are no slices, or they differ in shape or type; names the first odd one.
    """
    files = [f for f in path.iterdir() if _is_slice(f)]
    files.sort(key=lambda f: natural_key(f.name))
    if not files:
        raise InputError(
            f"{path}: this folder holds no zarr and no PNG, JPEG or TIFF slices; give the path of "
            "an image or of a folder with slices"
        )
    facts = [_plane_facts(file) for file in files]
    shape, dtype = facts[0]
    for file, found in zip(files, facts, strict=True):
        if found != facts[0]:
            raise InputError(
                f"{path}: the slice {file.name} is {found[0]} {found[1]}, but {files[0].name} is "
                f"{shape} {dtype}; a stack needs slices of one size and type, so remove or "
                "convert the odd one"
            )
    check_level(selection.level, 1, path.name)
    layout = plan_layout((len(files), *shape), "z" + plane_axes(shape), selection, name=path.name)
    return FolderSource(ImageFacts(path.name, str(path), layout, dtype), files)


def natural_key(name: str) -> tuple[object, ...]:
    """Return a key that sorts names by the numbers in them.

    Examples
    --------
    >>> sorted(["z10.png", "z9.png"], key=natural_key)
    ['z9.png', 'z10.png']
    """
    parts = re.split(r"(\d+)", name.casefold())
    # Odd parts are digits: a text and a number never meet at the same place.
    return (tuple(int(p) if k % 2 else p for k, p in enumerate(parts)), name)


def _is_slice(file: Path) -> bool:
    wanted = file.suffix.lower() in TIFF_SUFFIXES | RASTER_SUFFIXES
    return wanted and not file.name.startswith(".") and file.is_file()


def _plane_facts(file: Path) -> tuple[Shape, np.dtype[Any]]:
    if file.suffix.lower() in RASTER_SUFFIXES:
        return plane_facts(file)
    with closing(open_tiff_plane(file)) as pages:
        return pages.shape, pages.dtype
