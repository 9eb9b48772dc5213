"""One row per object: size, place, class and certainty, summed block by block.

All sums are whole numbers, so the table of the blocks is the table of the whole, to the last digit,
whatever the blocks and their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fastremap
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # has no types
import pyarrow.csv  # type: ignore[import-untyped]  # as above
import pyarrow.parquet  # type: ignore[import-untyped]  # as above
from scipy.ndimage import find_objects

from napari_unet.core.axes import SPATIAL, VoxelSize
from napari_unet.errors import ConfigError, StorageError
from napari_unet.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.boxes import Box

PROBABILITY_STEPS = 2**24
"""Probabilities are summed as whole multiples of its inverse: float32 has no finer steps near 1.

An object of 2**39 voxels still fits into the sum.
"""

UNKNOWN_UNIT = "world"
"""Stands in column names where the image does not say the unit of its voxel size."""


_FAR = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class TableRules:
    """What the numbers of a table mean.

    Parameters
    ----------
    voxel_size : VoxelSize
        World lengths of a voxel; its unit is part of the names of the columns.
    translation : tuple of float
        World position (z, y, x) of the first voxel's center.
    class_names : tuple of str
        Names of the classes 1, 2, ...
    spatial_axes : {"zyx", "yx"}
        Axes of the label image; a plane has no columns for z.
    flat : bool
        Objects lie in one slice each: an area is given instead of a volume.
    """

    voxel_size: VoxelSize = field(default_factory=VoxelSize)
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    class_names: tuple[str, ...] = ()
    spatial_axes: str = SPATIAL
    flat: bool = False


class ObjectMeasures:
    """Sums over the voxels of each of the objects 1 to `count`.

    Parameters
    ----------
    count : int
        How many objects there are; about 90 bytes each.
    probable : bool
        Whether probabilities are given and averaged.

    Examples
    --------
    >>> from napari_unet.core.boxes import Box
    >>> measures = ObjectMeasures(2)
    >>> measures.add(Box((0, 0, 0), (1, 1, 4)), np.array([[[1, 1, 0, 2]]], np.uint32))
    >>> measures.voxels.tolist()
    [2, 1]
    """

    def __init__(self, count: int, *, probable: bool = False) -> None:
        self.voxels = np.zeros(count, np.int64)
        self.sums = np.zeros((count, 3), np.int64)
        self.start = np.full((count, 3), _FAR, dtype=np.int64)
        self.stop = np.zeros((count, 3), np.int64)
        self.classes = np.zeros(count, np.uint8)
        self.chances = np.zeros(count, np.int64) if probable else None

    def add(
        self,
        box: Box,
        objects: npt.NDArray[np.unsignedinteger[Any]],
        classes: npt.NDArray[np.uint8] | int = 0,
        probability: npt.NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Count the voxels of a box in. Each voxel may be given once, in any order of boxes.

        Parameters
        ----------
        box : Box
            Where it lies, (z, y, x) in voxels.
        objects : numpy.ndarray
            (z, y, x) numbers of objects, 0 = background.
        classes : numpy.ndarray or int
            Class of each voxel, or of all; the highest one of an object's voxels is its class.
        probability : numpy.ndarray or None
            (z, y, x) probability of the class of the voxel's object; not finite = 0.

        Raises
        ------
        ConfigError
            If an object has a number above the count.
        """
        local, mapping = fastremap.renumber(objects, in_place=False)
        last = int(max(mapping.values(), default=0))
        if last == 0:
            return
        numbers = np.zeros(last + 1, np.int64)
        places = np.fromiter(mapping.values(), np.int64, len(mapping))
        numbers[places] = np.fromiter(mapping.keys(), np.int64, len(mapping))
        if numbers.max() > len(self.voxels):
            raise ConfigError(
                f"object {numbers.max()} is beyond the {len(self.voxels)} that are measured; "
                "number them from 1 without gaps"
            )
        # Place 0 of every sum is the background.
        rows = numbers[1:] - 1
        flat = local.ravel().astype(np.intp)
        found = len(numbers)
        self.voxels[rows] += np.bincount(flat, minlength=found)[1:]
        self._add_places(box, local, flat, rows)
        self._add_class(classes, flat, rows)
        if self.chances is not None and probability is not None:
            steps = np.nan_to_num(probability.astype(np.float64), posinf=0, neginf=0)
            steps = np.rint(steps * PROBABILITY_STEPS)
            # Below 2**53, where float64 is exact: a block has far fewer than 2**29 voxels.
            total = np.bincount(flat, weights=steps.ravel(), minlength=found)
            self.chances[rows] += total[1:].astype(np.int64)

    def merge(self, other: ObjectMeasures) -> None:
        """Count in what another one has counted of other boxes, of the same objects."""
        self.voxels += other.voxels
        self.sums += other.sums
        np.minimum(self.start, other.start, out=self.start)
        np.maximum(self.stop, other.stop, out=self.stop)
        np.maximum(self.classes, other.classes, out=self.classes)
        if self.chances is not None and other.chances is not None:
            self.chances += other.chances

    def _add_places(
        self,
        box: Box,
        local: npt.NDArray[Any],
        flat: npt.NDArray[np.intp],
        rows: npt.NDArray[np.int64],
    ) -> None:
        found = len(rows) + 1
        counts = np.bincount(flat, minlength=found)[1:]
        boxes = find_objects(local.astype(np.int32, copy=False))
        places = np.array(
            [[(s.start, s.stop) for s in part] for part in boxes if part is not None], np.int64
        )
        origin = np.array(box.start, np.int64)
        self.start[rows] = np.minimum(self.start[rows], places[:, :, 0] + origin)
        self.stop[rows] = np.maximum(self.stop[rows], places[:, :, 1] + origin)
        for axis in range(3):
            shape = tuple(-1 if a == axis else 1 for a in range(3))
            index = np.arange(box.shape[axis], dtype=np.float64).reshape(shape)
            weights = np.broadcast_to(index, box.shape).ravel()
            total = np.bincount(flat, weights=weights, minlength=found)[1:].astype(np.int64)
            self.sums[rows, axis] += total + counts * box.start[axis]

    def _add_class(
        self,
        classes: npt.NDArray[np.uint8] | int,
        flat: npt.NDArray[np.intp],
        rows: npt.NDArray[np.int64],
    ) -> None:
        highest = np.zeros(len(rows) + 1, np.uint8)
        if isinstance(classes, int):
            highest[:] = classes
        else:
            values = classes.ravel()
            # In rising order, so that the highest one is what stays.
            for value in fastremap.unique(values):
                highest[flat[values == value]] = value
        self.classes[rows] = np.maximum(self.classes[rows], highest[1:])


def object_table(measures: ObjectMeasures, rules: TableRules) -> pa.Table:
    """Return one row per object, in the order of their numbers.

    Parameters
    ----------
    measures : ObjectMeasures
        Of all of the image.
    rules : TableRules
        Voxel size, class names, and whether objects are flat.

    Returns
    -------
    pyarrow.Table
        The columns are ``id``; ``class`` and ``class_name``; ``voxels``; ``area_UNIT2`` or
        ``volume_UNIT3``; the centroid as ``centroid_z_UNIT`` ... in the world and
        ``centroid_z_voxel`` ... in voxels; ``start_z`` ... and ``stop_z`` ..., the half-open
        bounding box in voxels; and ``mean_probability`` if there are probabilities. UNIT is that of
        the voxel size.
    """
    size, unit = rules.voxel_size, rules.voxel_size.unit or UNKNOWN_UNIT
    axes = [(axis, SPATIAL.index(axis)) for axis in rules.spatial_axes]
    voxels = measures.voxels
    center = measures.sums / np.maximum(voxels, 1)[:, np.newaxis]
    names = np.array(("", *rules.class_names), dtype=object)
    area = size.y * size.x
    columns: dict[str, Any] = {
        "id": np.arange(1, len(voxels) + 1, dtype=np.int64),
        "class": measures.classes,
        "class_name": pa.array(names[measures.classes], pa.string()),
        "voxels": voxels,
    }
    if rules.flat:
        columns[f"area_{unit}2"] = voxels * area
    else:
        columns[f"volume_{unit}3"] = voxels * (area * size.z)
    for axis, k in axes:
        columns[f"centroid_{axis}_{unit}"] = rules.translation[k] + center[:, k] * size.zyx[k]
    for axis, k in axes:
        columns[f"centroid_{axis}_voxel"] = center[:, k]
    for name, corner in (("start", measures.start), ("stop", measures.stop)):
        for axis, k in axes:
            columns[f"{name}_{axis}"] = corner[:, k]
    if measures.chances is not None:
        mean = measures.chances / PROBABILITY_STEPS / np.maximum(voxels, 1)
        columns["mean_probability"] = mean
    return pa.table(columns)


def write_table(table: pa.Table, stem: Path) -> tuple[Path, Path]:
    """Write ``STEM.csv`` and ``STEM.parquet`` of equal content, each whole or not at all.

    Returns
    -------
    tuple of Path
        Of the CSV and of the Parquet file.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    paths = table_paths(stem)
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path, write in zip(paths, (_write_csv, pyarrow.parquet.write_table), strict=True):
            stream = pa.BufferOutputStream()
            write(table, stream)
            write_atomically(path, stream.getvalue().to_pybytes())
    except OSError as error:
        raise StorageError(
            f"the table of objects {stem} cannot be written: {error.strerror or error}; free some "
            "space or choose another output"
        ) from error
    return paths


def table_paths(stem: Path) -> tuple[Path, Path]:
    """Return where `write_table` puts the CSV and the Parquet file.

    Examples
    --------
    >>> from pathlib import Path
    >>> [path.name for path in table_paths(Path("em-membranes-objects"))]
    ['em-membranes-objects.csv', 'em-membranes-objects.parquet']
    """
    return stem.with_name(stem.name + ".csv"), stem.with_name(stem.name + ".parquet")


def read_table(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of a Parquet table that `write_table` wrote.

    Raises
    ------
    StorageError
        If it is missing or damaged.
    """
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"the table of objects {path} cannot be read: {error}; run napari-unet objects again "
            "with --overwrite"
        ) from error
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _write_csv(table: pa.Table, stream: Any) -> None:
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    pyarrow.csv.write_csv(table, stream, options)
