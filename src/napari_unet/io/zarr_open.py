"""Finding the image that a path into a zarr hierarchy means."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr
from zarr.storage import LocalStore

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import AXIS_NAMES, VoxelSize
from napari_unet.errors import AxesError, InputError
from napari_unet.files import MAX_JSON_BYTES
from napari_unet.io.damage import input_errors
from napari_unet.io.ome_documents import read_group
from napari_unet.io.ome_metadata import Multiscale, ome_attributes, parse_multiscale
from napari_unet.io.selection import Layout, Selection, plan_layout
from napari_unet.io.stored_image import ImageFacts, check_level
from napari_unet.io.zarr_source import ZarrSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

MAX_SEARCH_DEPTH = 4
"""Groups inside groups that are searched for the one image of a plain group."""

MAX_CANDIDATES = 20
"""Images of a group after which the search for more ends."""

_MARKERS = ("zarr.json", ".zarray", ".zgroup")
_METADATA = (*_MARKERS, ".zattrs", ".zmetadata")
_REMEDY = "check that it is a complete zarr array or group"


class BoundedStore(LocalStore):
    """A folder whose metadata are read only if they are files of a sensible size."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return what is stored under a key; see `zarr.storage.LocalStore.get`.

        Raises
        ------
        InputError
            If it is metadata and not a regular file, or larger than `MAX_JSON_BYTES`.
        """
        if key.rpartition("/")[2] in _METADATA:
            _check_metadata(Path(self.root) / key)
        return await super().get(key, prototype, byte_range)


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a zarr array or group."""
    return any((path / marker).is_file() for marker in _MARKERS)


def open_zarr(path: Path, selection: Selection) -> ZarrSource:
    """Return the image that a zarr array, OME-Zarr image, or group with one image holds.

    Raises
    ------
    AxesError
        If axes, channel, time or level are ambiguous or do not exist.
    InputError
        If nothing there is an image, several are, or the metadata are damaged.
    """
    with input_errors(f"{path}: this zarr cannot be opened", _REMEDY):
        node = zarr.open(BoundedStore(path, read_only=True), mode="r", use_consolidated=False)
        if isinstance(node, zarr.Group):
            return _open_group(node, path, selection)
        return wrap_zarr_array(node, selection, name=_image_name(path), voxel_size=VoxelSize())


def wrap_zarr_array(
    array: zarr.Array[Any],
    selection: Selection,
    *,
    name: str,
    voxel_size: VoxelSize,
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> ZarrSource:
    """Return an image over one zarr array, without a pyramid.

    Raises
    ------
    AxesError
        If the axes are ambiguous or a coarser level is asked for.
    InputError
        If the values are not real numbers, or a chunk is too large.
    """
    check_level(selection.level, 1, name)
    layout = plan_layout(array.shape, _named_axes(array), selection, name=name)
    level = PyramidLevel(layout.spatial_shape, voxel_size, translation)
    store = array.store
    path = str(Path(store.root) / array.path) if isinstance(store, LocalStore) else None
    return ZarrSource(ImageFacts(name, path, layout, array.dtype, (level,)), array)


def _check_metadata(path: Path) -> None:
    try:
        status = os.stat(path)
    except OSError:
        return  # the store says what is wrong, or that nothing is there
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_JSON_BYTES:
        raise InputError(
            f"{path}: these metadata are no file, or have {status.st_size:,} bytes; at most "
            f"{MAX_JSON_BYTES:,} are read; {_REMEDY}"
        )


def _open_group(group: zarr.Group, path: Path, selection: Selection) -> ZarrSource:
    multiscale = parse_multiscale(group.attrs.asdict(), str(path))
    if multiscale is not None:
        return _open_multiscale(group, multiscale, path, selection)
    candidates = list(itertools.islice(_candidates(path, MAX_SEARCH_DEPTH), MAX_CANDIDATES))
    if len(candidates) == 1:
        return open_zarr(candidates[0], selection)
    if not candidates:
        raise InputError(f"{path}: this zarr group holds no array; give the path of an image")
    listed = ", ".join(str(c.relative_to(path)) for c in candidates)
    if all(c.relative_to(path).parts[0] in ("labels", "probabilities") for c in candidates):
        raise InputError(
            f"{path}: this zarr group holds results of a segmentation ({listed}), and no image; "
            "give the path of the image, or of one of these"
        )
    raise InputError(
        f"{path}: this zarr group holds several images ({listed}); give the path of one, for "
        f"example {candidates[0]}"
    )


def _candidates(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the images in a group that is none itself."""
    for inner in sorted(folder.iterdir()):
        if not is_zarr(inner):
            continue
        group = read_group(inner)
        if group is None or ome_attributes(group[1]).get("multiscales"):
            yield inner
        elif depth > 1:
            yield from _candidates(inner, depth - 1)


def _open_multiscale(
    group: zarr.Group, multiscale: Multiscale, path: Path, selection: Selection
) -> ZarrSource:
    name = _image_name(path)
    check_level(selection.level, len(multiscale.datasets), name)
    arrays = [_dataset_array(group, d.path, path) for d in multiscale.datasets[selection.level :]]
    known = multiscale.axes if arrays[0].ndim == len(multiscale.axes) else None
    layout = plan_layout(arrays[0].shape, known, selection, name=name)
    levels = _levels(arrays, multiscale, selection.level, layout)
    where = f"{path}/{multiscale.datasets[selection.level].path}"
    return ZarrSource(ImageFacts(name, where, layout, arrays[0].dtype, levels), arrays[0])


def _levels(
    arrays: list[zarr.Array[Any]], multiscale: Multiscale, first: int, layout: Layout
) -> tuple[PyramidLevel, ...]:
    if layout.axes != multiscale.axes:
        # The person said that the metadata's axes are wrong: its sizes then mean nothing.
        return (PyramidLevel(layout.spatial_shape, VoxelSize()),)
    levels = []
    for array, dataset in zip(arrays, multiscale.datasets[first:], strict=True):
        if array.ndim != len(layout.axes):
            raise InputError(
                f"{array.store_path}: this level has {array.ndim} axes, the image "
                f"{len(layout.axes)}; {_REMEDY}"
            )
        try:
            size = multiscale.voxel_size(dataset)
        except AxesError as error:
            raise InputError(
                f"{array.store_path}: {error}; correct 'coordinateTransformations' in the "
                "OME-Zarr metadata"
            ) from error
        shape = layout.spatial(array.shape, missing=1)
        levels.append(PyramidLevel(shape, size, multiscale.translation(dataset)))
    return tuple(levels)


def _dataset_array(group: zarr.Group, name: str, path: Path) -> zarr.Array[Any]:
    try:
        member = group[name]
    except KeyError:
        raise InputError(
            f"{path}: the OME-Zarr metadata name the level {name!r}, which does not exist; restore "
            "it, or correct the metadata"
        ) from None
    if not isinstance(member, zarr.Array):
        raise InputError(f"{path}: the level {name!r} is a group, not an array; {_REMEDY}")
    return member


def _named_axes(array: zarr.Array[Any]) -> str | None:
    """Return the axes that an array's own dimension names say, when all of them are ours."""
    names = getattr(array.metadata, "dimension_names", None)
    if names is None:
        attributes: Mapping[str, Any] = array.attrs.asdict()
        names = attributes.get("_ARRAY_DIMENSIONS")  # xarray's convention for version 2
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        return None
    letters = [name.lower() for name in names]
    if not all(n in AXIS_NAMES and len(n) == 1 for n in letters) or len(letters) != array.ndim:
        return None
    return "".join(letters) if {"y", "x"} <= set(letters) else None


def _image_name(path: Path) -> str:
    """Return the file's own name also for an image inside it, as in ``cells.zarr/labels/x``."""
    name = path.stem
    if name.isdecimal():
        name = next((parent.stem for parent in path.parents if parent.suffix == ".zarr"), name)
    return name.removesuffix(".ome")
