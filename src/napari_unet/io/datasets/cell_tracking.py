"""Cell Tracking Challenge, the 2D sets of the paper: PhC-C2DH-U373 and DIC-C2DH-HeLa.

::

    ROOT/01/t000.tif                      8 bit, one file per time point; ROOT/02 likewise
    ROOT/01_GT/SEG/man_seg000.tif         16 bit, 0 = background, cells drawn by hand (gold truth);
                                          of some time points only, and not all cells of these
    ROOT/01_GT/TRA/man_track000.tif       16 bit, a marker on every cell, of every time point
    ROOT/01_ST/SEG/man_seg000.tif         cells as most programs found them (silver truth); optional

A cell that has a marker and is not drawn lies somewhere around its marker: background nearer to
such a marker than to any other cell is not used. Near the edges cells need not even have a marker,
so background there is not used either.

Source: V. Ulman et al., "An objective comparison of cell-tracking algorithms", Nature Methods 14,
2017; file names after the challenge's "Naming and file content conventions".
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.label_kinds import LabelRules
from napari_unet.errors import InputError
from napari_unet.io.datasets.pairs import (
    ComputedPlane,
    ImageFile,
    TrainingPair,
    need_file,
    need_folder,
)
from napari_unet.io.image import open_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

SEQUENCES = ("01", "02")
"""Folders of the two time series of every training set."""

FIELD_MARGIN = 50
"""Pixels along the edges in which cells may lack annotation: E in the challenge's conventions."""

RULES = LabelRules(kind="instances")
"""Cells get a border class; take other rules for a gap."""

U373_VOXEL_SIZE = VoxelSize(1.0, 0.65, 0.65, "micrometer")
"""PhC-C2DH-U373: 20x, 0.65 micrometers per pixel (the challenge's page of data sets)."""

HELA_VOXEL_SIZE = VoxelSize(1.0, 0.19, 0.19, "micrometer")
"""DIC-C2DH-HeLa: 63x, 0.19 micrometers per pixel (the challenge's page of data sets)."""

LAYOUT = (
    "a training set of the Cell Tracking Challenge has 01/t000.tif, 01_GT/SEG/man_seg000.tif and "
    "01_GT/TRA/man_track000.tif, and so on, and the same for 02"
)
"""For messages."""

_SEGMENTATION = re.compile(r"man_seg(\d{3,4})\.tif")


@dataclass(frozen=True, slots=True)
class CellTrackingOptions:
    """What to take from a set.

    Parameters
    ----------
    silver : bool
        Take the silver truth at the time points that have no gold truth.
    rules : LabelRules
        How touching cells are kept apart.
    margin : int
        Pixels along the edges in which background is not used.
    """

    silver: bool = False
    rules: LabelRules = RULES
    margin: int = FIELD_MARGIN


def read_u373(root: Path) -> list[TrainingPair]:
    """Return the gold truth of PhC-C2DH-U373; see `read_cell_tracking`."""
    return read_cell_tracking(root, U373_VOXEL_SIZE)


def read_hela(root: Path) -> list[TrainingPair]:
    """Return the gold truth of DIC-C2DH-HeLa; see `read_cell_tracking`."""
    return read_cell_tracking(root, HELA_VOXEL_SIZE)


def read_cell_tracking(
    root: Path, voxel_size: VoxelSize, options: CellTrackingOptions | None = None
) -> list[TrainingPair]:
    """Return the time points of both sequences at which cells are drawn, in order.

    Parameters
    ----------
    root : Path
        Folder that holds ``01`` and ``01_GT``.
    voxel_size : VoxelSize
        Of the set.
    options : CellTrackingOptions or None
        None = gold truth, with the challenge's margin.

    Raises
    ------
    InputError
        If a folder or file is missing.
    """
    chosen = options or CellTrackingOptions()
    pairs = [
        _read_pair(root, sequence, number, path, (voxel_size, chosen))
        for sequence in SEQUENCES
        if sequence == SEQUENCES[0] or (root / sequence).is_dir()
        for number, path in _segmentations(root, sequence, chosen)
    ]
    if not pairs:
        raise InputError(f"{root}: no cells are drawn at any time point; {LAYOUT}")
    return pairs


def _segmentations(
    root: Path, sequence: str, options: CellTrackingOptions
) -> Iterator[tuple[str, Path]]:
    """Yield number and label image of every time point at which cells are drawn."""
    need_folder(root / sequence, LAYOUT)
    found = {}
    if options.silver:
        found = _numbered(need_folder(root / f"{sequence}_ST" / "SEG", LAYOUT))
    found.update(_numbered(need_folder(root / f"{sequence}_GT" / "SEG", LAYOUT)))
    yield from sorted(found.items())


def _numbered(folder: Path) -> dict[str, Path]:
    matches = ((_SEGMENTATION.fullmatch(path.name), path) for path in folder.iterdir())
    return {match[1]: path for match, path in matches if match is not None}


def _read_pair(
    root: Path,
    sequence: str,
    number: str,
    objects: Path,
    how: tuple[VoxelSize, CellTrackingOptions],
) -> TrainingPair:
    voxel_size, options = how
    markers = need_file(root / f"{sequence}_GT" / "TRA" / f"man_track{number}.tif", LAYOUT)
    return TrainingPair(
        f"{sequence}_t{number}",
        ImageFile(need_file(root / sequence / f"t{number}.tif", LAYOUT)),
        ImageFile(objects),
        options.rules,
        ComputedPlane(
            f"{markers.stem} of {sequence}", partial(_unknown, objects, markers, options.margin)
        ),
        voxel_size,
    )


def _unknown(objects: Path, markers: Path, margin: int) -> npt.NDArray[np.bool_]:
    drawn, marked = _read_plane(objects), _read_plane(markers)
    if drawn.shape != marked.shape:
        raise InputError(
            f"{markers}: the markers have the shape {marked.shape}, the cells in {objects.name} "
            f"{drawn.shape}; get the data set again"
        )
    return find_unknown(drawn, marked, margin)


def find_unknown(
    objects: npt.NDArray[Any], markers: npt.NDArray[Any], margin: int
) -> npt.NDArray[np.bool_]:
    """Return where nothing is known: no cell is drawn there, and yet one may be.

    Parameters
    ----------
    objects : numpy.ndarray
        (y, x) drawn cells; 0 = none.
    markers : numpy.ndarray
        (y, x) markers of all cells; 0 = none. A marker belongs to a drawn cell if more than half of
        it lies on drawn cells, the challenge's own rule for a match.
    margin : int
        Pixels along the edges in which cells may have no marker.

    Returns
    -------
    numpy.ndarray
        (y, x) bool: outside all drawn cells, the pixels of the margin, and those that are nearer to
        a marker of a cell that is not drawn than to all drawn cells.
    """
    drawn = objects > 0
    count = int(markers.max(initial=0)) + 1
    sizes = np.bincount(markers.ravel(), minlength=count)
    covered = np.bincount(markers[drawn], minlength=count)
    missing = (2 * covered <= sizes) & (sizes > 0)
    missing[0] = False
    left = missing[markers] & ~drawn
    unknown = np.zeros(objects.shape, dtype=bool)
    if left.any():
        to_drawn = distance_transform_edt(~drawn) if drawn.any() else np.inf
        unknown = distance_transform_edt(~left) < to_drawn
    inner = tuple(slice(margin, n - margin) for n in objects.shape)
    edge = np.ones(objects.shape, dtype=bool)
    edge[inner] = False
    return (unknown | edge) & ~drawn


def _read_plane(path: Path) -> npt.NDArray[Any]:
    with closing(open_image(path)) as image:
        plane: npt.NDArray[Any] = image.read(Box.of_shape(image.shape))[0, 0]
    if plane.dtype.kind not in "u":
        raise InputError(f"{path}: numbers of type {plane.dtype} are no cells; get the set again")
    return plane
