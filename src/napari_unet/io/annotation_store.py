"""An annotation on disk: a zarr array in which only the annotated chunks exist.

::

    strokes.zarr/zarr.json      shape, chunks, and the classes under attributes.napari_unet
    strokes.zarr/c/12/3/7       one block (z, y, x) with some label: zstd, then crc32c

A chunk whose last label is erased is deleted, so the names of the chunks are the annotated blocks.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from napari_unet.core.annotation import BLOCK_SHAPE, Annotation
from napari_unet.core.boxes import Box
from napari_unet.core.class_labels import check_class_names
from napari_unet.core.classes import ClassInfo
from napari_unet.core.settings import Settings
from napari_unet.errors import (
    AnnotationError,
    ConfigError,
    InputError,
    OutputExistsError,
    StorageError,
    UNetError,
)
from napari_unet.files import sync_folder
from napari_unet.io.damage import check_decoded_size, describe, input_errors
from napari_unet.io.selection import MAX_VOXELS
from napari_unet.io.stored_objects import make_durable, make_metadata_durable, stored_files
from napari_unet.io.zarr_chunks import StoredChunks, listed_positions
from napari_unet.io.zarr_codecs import guarded
from napari_unet.io.zarr_open import BoundedStore

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape

STORE_VERSION = 1
"""Version of the attributes; another one is refused."""

ZSTD_LEVEL = 3
"""Strokes are mostly zeros: any level makes them small."""

_KEY = "napari_unet"
_REMEDY = "restore it from a copy"
_CHUNK_REMEDY = "restore it from a copy, or delete the damaged chunk to lose only its labels"


class StoreAttributes(Settings):
    """What the attributes of a stored annotation say, under ``napari_unet``.

    Parameters
    ----------
    annotation_version : int
        `STORE_VERSION`.
    classes : tuple of ClassInfo
        Names and colors; the k-th class has the label k.
    origins : tuple of (str or None)
        What the model that a class was taken from calls it; empty = nothing is known.
    """

    annotation_version: int
    classes: tuple[ClassInfo, ...]
    origins: tuple[str | None, ...] = ()


class AnnotationStore:
    """A stored annotation, open for reading and painting. One writer at a time.

    Every chunk is replaced in one step: a crash keeps the old labels of a chunk or the new ones,
    but may come between two chunks of one `write`.

    Parameters
    ----------
    path : Path
        The zarr folder.
    array : zarr.Array
        Its array, opened for reading and writing.
    attributes : StoreAttributes
        Its classes.

    See Also
    --------
    create_annotation_store, open_annotation_store
    """

    def __init__(self, path: Path, array: zarr.Array[Any], attributes: StoreAttributes) -> None:
        self.path = path
        self.classes, self.origins = attributes.classes, attributes.origins
        # Whatever zarr's own settings say: the names of the chunks are the annotated blocks.
        self._array: zarr.Array[Any] = array.with_config({"write_empty_chunks": False})
        self._reading = guarded(array, str(path))
        self._chunks = StoredChunks(array)
        self._empty = Annotation(self.shape, self.class_names, block_shape=self.block_shape)

    @property
    def shape(self) -> Shape:
        """Shape of the image, (z, y, x)."""
        return tuple(self._array.shape)

    @property
    def block_shape(self) -> Shape:
        """Edges of the blocks, which are the chunks, (z, y, x)."""
        return tuple(self._array.chunks)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in order; the k-th has the label k."""
        return tuple(each.name for each in self.classes)

    def block_boxes(self) -> tuple[Box, ...]:
        """Return the boxes of the annotated blocks, cut to the image, in C order.

        Only names of files are read: the work grows with what is annotated, not with the image.

        Raises
        ------
        InputError
            If the folder cannot be listed.
        """
        with input_errors(f"{self.path}: the chunks cannot be listed", "check the disk"):
            positions = sorted(self.positions())
        image, boxes = Box.of_shape(self.shape), []
        for position in positions:
            start = tuple(i * n for i, n in zip(position, self.block_shape, strict=True))
            stop = tuple(a + n for a, n in zip(start, self.block_shape, strict=True))
            if image.contains(Box(start, tuple(a + 1 for a in start))):
                boxes.append(Box(start, stop).intersection(image))
        return tuple(boxes)

    def read(self, box: Box) -> npt.NDArray[np.uint8]:
        """Return the labels of a box of the image, (z, y, x).

        Raises
        ------
        InputError
            If a stored chunk is damaged.
        """
        if not Box.of_shape(self.shape).contains(box):
            raise InputError(f"{self.path}: {box} leaves the image, whose shape is {self.shape}")
        self._chunks.check(box.slices)
        with input_errors(f"{self.path}: the labels of {box} cannot be decoded", _CHUNK_REMEDY):
            return np.asarray(self._reading[box.slices], dtype=np.uint8)

    def load(self) -> Annotation:
        """Return everything stored, as an annotation with the same blocks.

        Raises
        ------
        InputError
            If a stored chunk is damaged.
        AnnotationError
            If a stored label is none of the classes.
        """
        annotation = self._empty.copy()
        for box in self.block_boxes():
            try:
                annotation.write(box, self.read(box))
            except AnnotationError as error:
                raise AnnotationError(f"{self.path}: {error}; {_CHUNK_REMEDY}") from error
        return annotation

    def write(self, box: Box, labels: npt.NDArray[Any]) -> None:
        """Replace the labels of a box; 0 erases, and a chunk without labels is deleted.

        Parameters
        ----------
        box : Box
            Part of the image, (z, y, x).
        labels : numpy.ndarray
            Whole numbers of the box's shape: 0 = not annotated, k = the k-th class.

        Raises
        ------
        AnnotationError
            If box or labels do not fit; nothing is changed.
        InputError
            If a chunk that the box covers in part is damaged.
        StorageError
            If the disk is full or the folder cannot be written.
        """
        # A sparse annotation checks the labels and cuts them into blocks.
        painted = self._empty.copy()
        painted.write(box, labels)
        for block in painted.boxes_touching(box):
            common = block.intersection(box)
            new = painted.read(common)
            if common != block:
                old = self.read(block)
                old[common.relative_to(block.start).slices] = new
                new = old
            self.put(block, new)

    def save(self, annotation: Annotation) -> None:
        """Make the store hold exactly an annotation; other chunks are deleted.

        Raises
        ------
        StorageError
            If shape or classes differ, the disk is full, or the folder cannot be written.
        """
        if (annotation.shape, annotation.class_names) != (self.shape, self.class_names):
            raise StorageError(
                f"{self.path}: an annotation of shape {annotation.shape} with the classes "
                f"{', '.join(annotation.class_names)} does not fit the store of shape {self.shape} "
                f"with {', '.join(self.class_names)}; save it under another name"
            )
        touched = set(self.block_boxes())
        for box in annotation.block_boxes():
            touched.update(self._empty.boxes_touching(box))
        for block in touched:
            self.put(block, annotation.read(block))

    def make_durable(self, blocks: Iterable[Box]) -> None:
        """Make what is stored of some blocks, or that nothing is, survive a power cut.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        with storing_errors(self.path):
            for block in blocks:
                file = next(stored_files(self._array, block.slices))
                if file.exists():
                    make_durable(self._array, block.slices)
                elif file.parent.is_dir():
                    sync_folder(file.parent)

    def set_classes(self, classes: Sequence[ClassInfo], origins: Sequence[str | None] = ()) -> None:
        """Give the labels other names and colors, in one step that survives a power cut.

        Raises
        ------
        AnnotationError
            If the names cannot be used.
        StorageError
            If the disk is full or the folder cannot be written; nothing is changed.
        """
        check_class_names([each.name for each in classes])
        attributes = _attributes(classes, origins)
        with storing_errors(self.path):
            self._array.update_attributes({_KEY: attributes.model_dump(mode="json")})
            make_metadata_durable([self._array])
        self.classes, self.origins = attributes.classes, attributes.origins
        self._empty = Annotation(self.shape, self.class_names, block_shape=self.block_shape)

    def put(self, block: Box, labels: npt.NDArray[np.uint8]) -> None:
        """Replace all labels of one block, whatever they are; without any, its chunk goes.

        Raises
        ------
        StorageError
            If the disk is full or the folder cannot be written.
        """
        with storing_errors(self.path):
            self._array[block.slices] = labels

    def positions(self) -> Iterator[Shape]:
        """Yield the places (z, y, x) of the stored chunks; raises as `listed_positions` does."""
        return listed_positions(self.path / "c")


def create_annotation_store(
    path: str | os.PathLike[str],
    shape: Shape,
    classes: Sequence[ClassInfo],
    *,
    origins: Sequence[str | None] = (),
    block_shape: Shape = BLOCK_SHAPE,
) -> AnnotationStore:
    """Return a new, empty annotation on disk.

    Parameters
    ----------
    path : path-like
        Folder to make, such as ``strokes.zarr``; the folder that it lies in must exist.
    shape : tuple of int
        Shape of the image, (z, y, x).
    classes : sequence of ClassInfo
        Names and colors; the k-th class has the label k.
    origins : sequence of (str or None)
        What the model that each class was taken from calls it; empty = nothing is known.
    block_shape : tuple of int
        Edges of the chunks, (z, y, x).

    Raises
    ------
    AnnotationError
        If shapes or class names cannot be used.
    OutputExistsError
        If something is at `path`.
    StorageError
        If the folder cannot be written.
    """
    where, chosen = Path(path), tuple(classes)
    Annotation(shape, [each.name for each in chosen], block_shape=block_shape)  # checks them
    if where.exists():
        raise OutputExistsError(
            f"{where}: something is there already; open it to paint on, or choose another name"
        )
    if not where.parent.is_dir():
        raise StorageError(f"{where.parent}: there is no such folder; make it first")
    attributes = _attributes(chosen, origins)
    with storing_errors(where):
        array = zarr.create_array(
            LocalStore(where),
            shape=shape,
            chunks=block_shape,
            dtype="uint8",
            fill_value=0,
            compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
            dimension_names=("z", "y", "x"),
            attributes={_KEY: attributes.model_dump(mode="json")},
            zarr_format=3,
        )
    return AnnotationStore(where, array, attributes)


def open_annotation_store(path: str | os.PathLike[str]) -> AnnotationStore:
    """Return a stored annotation, open for reading and painting.

    Raises
    ------
    InputError
        If nothing is there, it is damaged, or it is not a stored annotation of ours.
    """
    where = Path(path)
    if not where.is_dir():
        raise InputError(f"{where}: there is no stored annotation; check the path")
    with input_errors(f"{where}: this is no stored annotation", "check the path"):
        array = zarr.open_array(BoundedStore(where), mode="r+")
        found: Any = array.attrs[_KEY]
    try:
        attributes = StoreAttributes.parse(found, source=str(where))
        check_class_names([each.name for each in attributes.classes])
    except (ConfigError, AnnotationError) as error:
        raise InputError(f"{where}: its classes cannot be read: {error}; {_REMEDY}") from error
    _check_array(where, array, attributes)
    return AnnotationStore(where, array, attributes)


def _attributes(classes: Sequence[ClassInfo], origins: Sequence[str | None]) -> StoreAttributes:
    return StoreAttributes(
        annotation_version=STORE_VERSION, classes=tuple(classes), origins=tuple(origins)
    )


def _check_array(path: Path, array: zarr.Array[Any], attributes: StoreAttributes) -> None:
    version = attributes.annotation_version
    if version != STORE_VERSION:
        raise InputError(
            f"{path}: this annotation has version {version}, this program reads version "
            f"{STORE_VERSION}; use the program that wrote it"
        )
    keys = [array.metadata.encode_chunk_key(position) for position in ((0, 0, 0), (1, 2, 3))]
    if min(array.shape) < 1 or min(array.chunks) < 1 or math.prod(array.shape) > MAX_VOXELS:
        raise InputError(
            f"{path}: no image has the shape {array.shape} or chunks {array.chunks}; {_REMEDY}"
        )
    facts = (array.ndim, array.dtype, array.shards, keys)
    if facts != (3, np.dtype("uint8"), None, ["c/0/0/0", "c/1/2/3"]):
        raise InputError(
            f"{path}: the array of shape {array.shape} and type {array.dtype} is not laid out as "
            "a stored annotation; copy its labels into a new one"
        )
    check_decoded_size(math.prod(array.chunks), f"{path}: a chunk {array.chunks}")


@contextmanager
def storing_errors(path: Path) -> Iterator[None]:
    """Raise `StorageError` for anything that goes wrong inside while labels are stored."""
    try:
        yield
    except UNetError:
        raise
    except Exception as error:
        raise StorageError(
            f"{path}: labels cannot be stored: {describe(error)}; check the disk and its "
            "permissions"
        ) from error
