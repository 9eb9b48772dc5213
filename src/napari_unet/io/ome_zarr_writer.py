"""The one writer of label images, of classes or of objects.

OME-Zarr 0.5 and 0.4, chunks with checksums, pyramids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from napari_unet.core.boxes import Box
from napari_unet.errors import OutputExistsError, StorageError
from napari_unet.files import retry_denied
from napari_unet.io.ome_documents import (
    OURS,
    label_names,
    labels_attributes,
    probabilities_attributes,
    read_group,
    with_label_names,
    write_group,
)
from napari_unet.io.output_spec import ArrayLayout, OutputSpec
from napari_unet.io.output_state import (
    OutputState,
    check_writable,
    holds_our_group,
    read_output_state,
    remove_group,
    storage_errors,
)
from napari_unet.io.pyramid import Reduction, object_boxes, split_box
from napari_unet.io.stored_objects import checksum, make_durable, make_metadata_durable, store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape
    from napari_unet.io.output_spec import ArrayKind

__all__ = [
    "OutputImage",
    "OutputSpec",
    "OutputState",
    "create_output",
    "read_output_state",
    "reopen_output",
]

WRITER_VERSION = 1
"""Version of our layout, kept in every group; raised when a reader of ours must tell them apart."""

ZSTD_LEVEL = 1
"""Labels compress 50-fold at the fastest level; higher ones gain little and cost time."""

EVERY_CHUNK: Any = {"write_empty_chunks": True}
"""A chunk that exists was computed, even where all its values are the fill value."""

MAX_PYRAMID_VALUES = 2**24
"""Fine values that are held at once while a pyramid is built."""


class OutputImage:
    """A label image that is being written; implements `core.arrays.LabelSink`.

    Parameters
    ----------
    spec : OutputSpec
        What it is.
    labels, probabilities : sequence of zarr.Array
        Their levels, from fine to coarse; no probabilities = they are not kept.
    """

    def __init__(
        self,
        spec: OutputSpec,
        labels: list[zarr.Array[Any]],
        probabilities: list[zarr.Array[Any]],
    ) -> None:
        self.spec = spec
        self._labels = labels
        self._probabilities = probabilities

    @property
    def labels_path(self) -> Path:
        """Absolute path of the label array of full resolution."""
        return (self.spec.path / "labels" / self.spec.name / "0").absolute()

    @property
    def shape(self) -> Shape:
        """Spatial shape (z, y, x)."""
        return self.spec.levels[0].shape

    @property
    def chunk_shape(self) -> Shape:
        """Edges of the smallest stored object of the label array, (z, y, x)."""
        return self.spec.object_shape(0)

    def write_labels(self, box: Box, labels: npt.NDArray[np.unsignedinteger[Any]]) -> None:
        """Store classes or objects (z, y, x) of a box, in the type of the output's labels.

        Raises
        ------
        StorageError
            If the disk refuses, or the labels do not fit the box or the type.
        """
        self._check(box, labels.shape)
        if labels.dtype != self.spec.label_type:
            raise StorageError(
                f"labels of type {labels.dtype} cannot be stored; convert to {self.spec.label_type}"
            )
        self._write(self._labels[0], box, labels)

    def write_probabilities(self, box: Box, probabilities: npt.NDArray[np.float32]) -> None:
        """Store probabilities (class, z, y, x) of a box.

        Raises
        ------
        StorageError
            If the disk refuses, they do not fit the box, or the output keeps none.
        """
        if not self._probabilities:
            raise StorageError(
                f"{self.spec.path} was created without probabilities; create it with a "
                "probability type"
            )
        self._check(box, probabilities.shape[1:])
        if probabilities.shape[0] != len(self.spec.classes):
            raise StorageError(
                f"{probabilities.shape[0]} probabilities per voxel do not fit the "
                f"{len(self.spec.classes)} classes of {self.spec.name}"
            )
        self._write(self._probabilities[0], box, probabilities)

    def build_pyramid(self, region: Box) -> Iterator[tuple[int, int]]:
        """Compute the coarser levels over a region of level 0, part by part.

        Parameters
        ----------
        region : Box
            What was written, (z, y, x), in voxels of level 0.

        Yields
        ------
        tuple of int
            Parts done and parts in all; nothing if there is one level only.

        Raises
        ------
        StorageError
            If the disk refuses, or what was written reads back damaged.
        """
        work = list(self._pyramid_parts(region))
        for done, (level, reduction, part) in enumerate(work, start=1):
            self._reduce(level, reduction, part)
            yield done, len(work)

    def make_durable(self, box: Box) -> None:
        """Make what is stored of a box survive a power cut.

        Raises
        ------
        StorageError
            If the disk refuses, or a part of the box was never stored.
        """
        self._check(box, box.shape)
        for array in (*self._labels[:1], *self._probabilities[:1]):
            self._sync(array, box)

    def checksums(self, box: Box) -> tuple[int, int | None]:
        """Return CRC-32 of the labels and of the probabilities of a box, read back from the disk.

        Raises
        ------
        StorageError
            If what is stored is damaged or cannot be read.
        """
        self._check(box, box.shape)
        labels = checksum(self._read(self._labels[0], box))
        chances = checksum(self._read(self._probabilities[0], box)) if self._probabilities else None
        return labels, chances

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Record that everything is written, with the final provenance.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        _write_metadata(self.spec, {**self.spec.attributes, **attributes}, "complete")

    def close(self) -> None:
        """Let go of the arrays; what was written stays."""
        self._labels, self._probabilities = [], []

    def _check(self, box: Box, shape: Shape) -> None:
        if not self._labels:
            raise StorageError(f"{self.spec.path}: the output was closed")
        if tuple(shape) != box.shape or not Box.of_shape(self.shape).contains(box):
            raise StorageError(
                f"data of shape {tuple(shape)} for {box} does not fit the output of shape "
                f"{self.shape}"
            )

    def _index(self, array: zarr.Array[Any], box: Box) -> tuple[slice, ...]:
        """Return the part of an array that holds a box, all classes included."""
        keep = len(self.spec.spatial_axes)
        lead = array.shape[: array.ndim - keep]
        return tuple(slice(0, n) for n in lead) + box.slices[-keep:]

    def _write(self, array: zarr.Array[Any], box: Box, data: npt.NDArray[Any]) -> None:
        lead = data.ndim - len(box.shape)
        keep = len(self.spec.spatial_axes)
        index = self._index(array, box)
        values = data.reshape(data.shape[:lead] + data.shape[data.ndim - keep :])
        with storage_errors(f"{self.spec.path}: {box} of {array.path} cannot be written"):
            retry_denied(lambda: store(array, index, values.astype(array.dtype, copy=False)))

    def _sync(self, array: zarr.Array[Any], box: Box) -> None:
        with storage_errors(f"{self.spec.path}: {box} of {array.path} cannot be made durable"):
            make_durable(array, self._index(array, box))

    def _read(self, array: zarr.Array[Any], box: Box) -> npt.NDArray[Any]:
        lead = array.ndim - len(self.spec.spatial_axes)
        with storage_errors(f"{self.spec.path}: {box} of {array.path} cannot be read back"):
            data = np.asarray(array[self._index(array, box)])
        return data.reshape(data.shape[:lead] + box.shape)

    def _pyramid_parts(self, region: Box) -> Iterator[tuple[int, Reduction, Box]]:
        values = np.dtype(self.spec.label_type).itemsize
        if self._probabilities:
            values += 4 * len(self.spec.classes)
        for level in range(1, len(self.spec.levels)):
            fine, coarse = (self.spec.levels[k].shape for k in (level - 1, level))
            reduction = Reduction(fine, coarse)
            region = reduction.touched(region)
            ratio = float(np.prod(fine, dtype=float) / np.prod(coarse, dtype=float))
            for part in object_boxes(region, self.spec.object_shape(level), coarse):
                for piece in split_box(part, ratio, MAX_PYRAMID_VALUES // values):
                    yield level, reduction, piece

    def _reduce(self, level: int, reduction: Reduction, part: Box) -> None:
        window = reduction.window(part)
        fine = self._read(self._labels[level - 1], window)
        coarse = reduction.objects if self.spec.holds_objects else reduction.labels
        self._write(self._labels[level], part, coarse(part, fine))
        self._sync(self._labels[level], part)
        if self._probabilities:
            fine = self._read(self._probabilities[level - 1], window)
            self._write(self._probabilities[level], part, reduction.probabilities(part, fine))
            self._sync(self._probabilities[level], part)


def create_output(spec: OutputSpec, *, replace: bool) -> OutputImage:
    """Create ``OUT/labels/NAME`` (and ``OUT/probabilities/NAME``), empty and "incomplete".

    Parameters
    ----------
    spec : OutputSpec
        What to create. Other label images of OUT are kept.
    replace : bool
        Delete what we wrote before under this name; else that is an error.

    Raises
    ------
    OutputExistsError
        If the name is taken and may not be replaced.
    StorageError
        If OUT is not ours, has another OME-Zarr version, or cannot be written.
    """
    out = spec.path
    if read_output_state(out, spec.name) is not None and not replace:
        raise OutputExistsError(
            f"{out} already holds {spec.name!r}; give another --name, or --overwrite to replace it"
        )
    if holds_our_group(out):
        _check_version(spec)
    check_writable(out)
    for kind in ("labels", "probabilities"):
        remove_group(out / kind / spec.name)
    with storage_errors(f"{out}: the output cannot be created"):
        if not holds_our_group(out):
            write_group(out, {OURS: {"writer": WRITER_VERSION}}, spec.zarr_format)
        _write_metadata(spec, spec.attributes, "incomplete")
        labels = [_create_array(spec, k, "labels") for k in range(len(spec.levels))]
        probabilities: list[zarr.Array[Any]] = []
        if spec.probability_type is not None:
            probabilities = [
                _create_array(spec, k, "probabilities") for k in range(len(spec.levels))
            ]
        make_metadata_durable([*labels, *probabilities])
        # Last: a name is listed only when there is something to open.
        _list_label(spec)
    return OutputImage(spec, labels, probabilities)


def reopen_output(spec: OutputSpec) -> OutputImage:
    """Return what `create_output` made, to go on writing; the disk holds it as it was.

    Parameters
    ----------
    spec : OutputSpec
        As it was created with.

    Raises
    ------
    StorageError
        If an array is missing, damaged, or was created with another spec.
    """
    arrays: dict[ArrayKind, list[zarr.Array[Any]]] = {"labels": [], "probabilities": []}
    kinds: tuple[ArrayKind, ...] = ("labels", "probabilities")
    if spec.probability_type is None:
        kinds = kinds[:1]
    for kind in kinds:
        for level in range(len(spec.levels)):
            folder = spec.path / kind / spec.name
            with storage_errors(f"{folder / str(level)}: the array cannot be opened again"):
                array = zarr.open_array(
                    LocalStore(folder), path=str(level), mode="r+", zarr_format=spec.zarr_format
                )
                found = ArrayLayout(array.shape, str(array.dtype), array.chunks, array.shards)
                if found != spec.layout(level, kind):
                    raise ValueError(f"it is {found} and not {spec.layout(level, kind)}")
            # The option is not stored with the array, and ignored by open_array.
            arrays[kind].append(array.with_config(EVERY_CHUNK))
    return OutputImage(spec, arrays["labels"], arrays["probabilities"])


def _check_version(spec: OutputSpec) -> None:
    with storage_errors(f"{spec.path}: its metadata cannot be read"):
        found = read_group(spec.path)
    if found is not None and found[0] != spec.zarr_format:
        other = "0.4" if found[0] == 2 else "0.5"
        raise StorageError(
            f"{spec.path} is OME-Zarr {other}, but {spec.ome_version} is asked for; choose another "
            f"output, or --ome-version {other}"
        )


def _write_metadata(spec: OutputSpec, attributes: Mapping[str, Any], state: str) -> None:
    kind = "objects" if spec.holds_objects else "classes"
    ours = {"state": state, "kind": kind, "writer": WRITER_VERSION, "source": spec.source_path}
    ours |= {k: v for k, v in attributes.items() if k not in ours}
    with storage_errors(f"{spec.path}: the metadata of {spec.name} cannot be written"):
        if spec.probability_type is not None:
            folder = spec.path / "probabilities"
            if read_group(folder) is None:
                write_group(folder, {}, spec.zarr_format)
            document = probabilities_attributes(spec, {"state": state, "writer": WRITER_VERSION})
            write_group(folder / spec.name, document, spec.zarr_format)
        write_group(
            spec.path / "labels" / spec.name, labels_attributes(spec, ours), spec.zarr_format
        )


def _list_label(spec: OutputSpec) -> None:
    folder = spec.path / "labels"
    found = read_group(folder)
    attributes = found[1] if found is not None else {}
    names = label_names(attributes)
    if spec.name not in names:
        names.append(spec.name)
    write_group(folder, with_label_names(attributes, names, spec.ome_version), spec.zarr_format)


def _create_array(spec: OutputSpec, level: int, kind: ArrayKind) -> zarr.Array[Any]:
    """Return a new array; every stored object carries a checksum (zstd alone has none)."""
    layout = spec.layout(level, kind)
    v3 = spec.zarr_format == 3
    if layout.shards is not None and not v3:
        raise StorageError("OME-Zarr 0.4 has no shards; write 0.5, or leave out --shards")
    names = (("c",) if kind == "probabilities" else ()) + tuple(spec.spatial_axes)
    compressors: Any = (
        [ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()]
        if v3
        else {"id": "zstd", "level": ZSTD_LEVEL, "checksum": True}
    )
    array: zarr.Array[Any] = zarr.create_array(
        LocalStore(spec.path / kind / spec.name),
        name=str(level),
        shape=layout.shape,
        dtype=layout.dtype,
        chunks=layout.chunks,
        shards=layout.shards,
        compressors=compressors,
        fill_value=0,
        zarr_format=spec.zarr_format,
        dimension_names=names if v3 else None,
        chunk_key_encoding=None if v3 else {"name": "v2", "separator": "/"},
        config=EVERY_CHUNK,
    )
    return array
