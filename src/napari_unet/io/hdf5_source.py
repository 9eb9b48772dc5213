"""Images in HDF5 files, as ilastik, plant-seg and Fiji's plugin write them; read box by box.

`image.h5` means the only image in the file; `image.h5/volume/raw` the one of that name.
"""

from __future__ import annotations

import contextlib
import json
import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import AXIS_NAMES, VoxelSize
from napari_unet.errors import AxesError, InputError
from napari_unet.io.cache import CACHE_BYTES
from napari_unet.io.damage import check_decoded_size, input_errors
from napari_unet.io.hdf5_filters import CheckedChunks
from napari_unet.io.selection import plan_layout
from napari_unet.io.stored_image import ImageFacts, StoredImage, check_level
from napari_unet.io.suffixes import HDF5_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.io.selection import Layout, Selection

REMEDY = "check it with h5ls, or save the image again, for example as OME-Zarr or TIFF"
"""What to do about a file that cannot be read."""

MAX_SEARCH_DEPTH = 8
"""Groups inside groups that are searched for the one image of a file."""

MAX_VISITED = 4096
"""Members that are looked at in that search."""

MAX_CANDIDATES = 20
"""Images of a file after which the search for more ends."""

_CACHE_SLOTS = 10007  # a prime; HDF5 advises 10 to 100 times the number of chunks kept
_MAX_SOFT_LINKS = 8


class Hdf5Source(StoredImage):
    """A data set of an HDF5 file read as an image. Threads take turns: HDF5 has one lock.

    Parameters
    ----------
    facts : ImageFacts
        What is known of it.
    file : h5py.File
        The file, closed with this.
    dataset : h5py.Dataset
        The data set.
    """

    def __init__(self, facts: ImageFacts, file: Any, dataset: Any) -> None:
        super().__init__(facts)
        self._file = file
        self._dataset = dataset
        if dataset.chunks is not None:
            nbytes = int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize
            check_decoded_size(nbytes, f"{facts.path}: a chunk {dataset.chunks}")
        self._chunks = CheckedChunks(dataset, str(facts.path))

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._file.close()

    def _fetch(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        with input_errors(f"{self.path}: a part cannot be read", REMEDY):
            self._chunks.check(index)
            return np.asarray(self._dataset[index])


def split_hdf5_path(path: Path) -> tuple[Path, str] | None:
    """Return the file and the name inside it that a path such as ``a.h5/volume/raw`` means.

    None = no part of the path is an HDF5 file. The name is empty if the file itself is meant.
    """
    for file in (path, *path.parents):
        if file.suffix.lower() in HDF5_SUFFIXES and file.is_file():
            return file, path.relative_to(file).as_posix().removeprefix(".")
    return None


def open_hdf5(path: Path, inner: str, selection: Selection) -> Hdf5Source:
    """Return an image in an HDF5 file.

    Parameters
    ----------
    path : Path
        The file.
    inner : str
        Name of the data set, such as ``volume/raw``; empty = the only one.
    selection : Selection
        What the person chose. Axes that are not said are those of the attribute ``axistags``,
        which ilastik writes; the voxel size is that of ``element_size_um``.

    Raises
    ------
    AxesError
        If the axes are ambiguous, or channel or time must be chosen.
    InputError
        If the file is damaged, the data set is not there or its values lie in other files, several
        data sets could be meant, or h5py is not installed.
    """
    h5py = _import_h5py(path)
    with input_errors(f"{path}: this is not a readable HDF5 file", REMEDY):
        # Of the locks of HDF5 the readers' ones fail on network shares, and guard nothing here.
        file = h5py.File(
            path, "r", locking=False, rdcc_nbytes=CACHE_BYTES, rdcc_nslots=_CACHE_SLOTS
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(closing(file))
            dataset = _named(path, file, inner) if inner else _only(path, file)
            source = _wrap(path, file, dataset, selection)
            stack.pop_all()
            return source


def _wrap(path: Path, file: Any, dataset: Any, selection: Selection) -> Hdf5Source:
    where = f"{path}{dataset.name}"
    _check_own_values(where, dataset)
    if dataset.shape is None or dataset.dtype.kind not in "buif":
        raise InputError(
            f"{where}: a data set of type {dataset.dtype} and shape {dataset.shape} is no image of "
            "real numbers; give the path of one, such as FILE.h5/NAME"
        )
    check_level(selection.level, 1, where)
    layout = plan_layout(dataset.shape, _known_axes(dataset), selection, name=where)
    level = PyramidLevel(layout.spatial_shape, _voxel_size(dataset, layout))
    facts = ImageFacts(path.stem, where, layout, dataset.dtype, (level,))
    return Hdf5Source(facts, file, dataset)


def _import_h5py(path: Path) -> Any:
    try:
        import h5py  # type: ignore[import-untyped]  # has no types
    except ImportError as error:
        raise InputError(
            f'{path}: reading HDF5 needs h5py; install it with pip install "napari-unet[formats]"'
        ) from error
    return h5py


def _only(path: Path, file: Any) -> Any:
    """Return the only data set of a file that could be an image."""
    names = []
    for name in _candidates(file):
        names.append(name)
        if len(names) == MAX_CANDIDATES:
            break
    if len(names) == 1:
        return file[names[0]]
    if not names:
        raise InputError(
            f"{path}: this HDF5 file holds no image, a data set of numbers with 2 to "
            f"{len(AXIS_NAMES)} axes; {REMEDY}"
        )
    raise InputError(
        f"{path}: this HDF5 file holds several images ({', '.join(names)}); give the path of one, "
        f"for example {path}{names[0]}"
    )


def _candidates(file: Any) -> Iterator[str]:
    """Yield the names of the data sets that could be an image. No link is followed."""
    import h5py

    groups, seen, visited = [(file, 0)], set(), 0
    while groups:
        group, depth = groups.pop(0)
        for name in group:
            visited += 1
            if visited > MAX_VISITED:
                return
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            member = group[name]
            address = h5py.h5o.get_info(member.id).addr
            if address in seen:  # a member may have several names, and contain itself
                continue
            seen.add(address)
            if isinstance(member, h5py.Group) and depth < MAX_SEARCH_DEPTH:
                groups.append((member, depth + 1))
            elif isinstance(member, h5py.Dataset) and _may_be_image(member):
                yield member.name


def _may_be_image(dataset: Any) -> bool:
    shape = dataset.shape
    fits = shape is not None and 2 <= len(shape) <= len(AXIS_NAMES) and 0 not in shape
    return bool(fits and dataset.dtype.kind in "buif")


def _named(path: Path, file: Any, inner: str) -> Any:
    """Return a data set by its name; links are followed inside the file only."""
    import h5py

    node, left, soft_links = file, [part for part in inner.split("/") if part], 0
    while left:
        part = left.pop(0)
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            listed = ", ".join(_first_candidates(file)) or "none"
            raise InputError(
                f"{path}: there is no {inner!r} in this HDF5 file; the images in it are: {listed}"
            )
        if isinstance(link, h5py.ExternalLink):
            raise InputError(
                f"{path}: {inner!r} is a link to another file, {link.filename!r}, which is not "
                f"followed; give the path of that file"
            )
        if isinstance(link, h5py.SoftLink):
            soft_links += 1
            if soft_links > _MAX_SOFT_LINKS:
                raise InputError(f"{path}: the links of {inner!r} lead in a circle; {REMEDY}")
            node = file if link.path.startswith("/") else node
            left = [p for p in link.path.split("/") if p not in ("", ".")] + left
            continue
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        listed = ", ".join(_first_candidates(file)) or "none"
        raise InputError(f"{path}: {inner!r} is a group; the images in the file are: {listed}")
    return node


def _first_candidates(file: Any) -> list[str]:
    return [name for name, _ in zip(_candidates(file), range(MAX_CANDIDATES), strict=False)]


def _check_own_values(where: str, dataset: Any) -> None:
    """Refuse a data set whose values lie in other files, which may lie anywhere, or data sets."""
    others = [name for name, *_ in dataset.external or ()]
    if dataset.is_virtual:
        others += [s.file_name for s in dataset.virtual_sources() if s.file_name != "."]
        if not others:
            # One of them may be the data set itself, or lead to another file by a link.
            raise InputError(
                f"{where}: it is made of other data sets of the file, which are not followed; "
                "give the path of one of them, or copy it with h5repack"
            )
    if others:
        raise InputError(
            f"{where}: its values lie in other files ({', '.join(map(os.fsdecode, others[:5]))}), "
            "which are not opened; copy it into one file, for example with h5repack"
        )


def _known_axes(dataset: Any) -> str | None:
    """Return the axes of ilastik's attribute ``axistags``; None if they are not all ours."""
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError, RecursionError):
        tags = dataset.attrs["axistags"]
        text = tags.decode() if isinstance(tags, bytes) else str(tags)
        axes = "".join(str(axis["key"]) for axis in json.loads(text)["axes"])
        if set(axes) <= set(AXIS_NAMES) and len(set(axes)) == len(axes) == dataset.ndim:
            return axes if {"y", "x"} <= set(axes) else None
    return None


def _voxel_size(dataset: Any, layout: Layout) -> VoxelSize:
    """Return the size that the attribute ``element_size_um`` gives for z, y and x, or y and x."""
    # Absurd sizes must not keep the image from being read.
    with contextlib.suppress(KeyError, TypeError, ValueError, AxesError):
        values = [float(v) for v in np.asarray(dataset.attrs["element_size_um"]).ravel()]
        if len(values) == 3:
            return VoxelSize(values[0], values[1], values[2], "micrometer")
        if len(values) == 2 and "z" not in layout.axes:
            return VoxelSize(1.0, values[0], values[1], "micrometer")
    return VoxelSize()
