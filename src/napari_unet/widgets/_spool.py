"""Copies a layer that exists only in memory to a temporary OME-Zarr that the engine can read.

The engine runs in its own process and knows paths only; so a NumPy, dask or computed layer is
written out first, slab by slab, in a worker thread.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import StorageError
from napari_unet.widgets._layers import spatial_data
from napari_unet.widgets._output import clean_name
from napari_unet.widgets._progress import format_bytes

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari.layers import Image

SLAB_BYTES = 2**25
"""Most bytes copied at once (32 MB): the pause before a cancel, and the extra memory."""

CHUNK_EDGE = 512
"""Chunks of the copy: a slice thick, as the engine reads."""

SPARE_BYTES = 2**28
"""Free space (256 MB) left untouched on the temporary disk."""


@dataclass(frozen=True, slots=True)
class SpoolRequest:
    """What to copy where.

    Parameters
    ----------
    data : array-like
        Has shape, dtype, and slicing that gives arrays; leading axes of length 1 are dropped.
    shape : tuple of int
        Shape (z, y, x) or (y, x) of the copy.
    path : Path
        Folder of the OME-Zarr image to be made.
    scale : tuple of float
        World length of a voxel, per axis of `shape`.
    unit : str or None
        Name of its unit; None = lengths count voxels.
    """

    data: Any
    shape: tuple[int, ...]
    path: Path
    scale: tuple[float, ...]
    unit: str | None

    @property
    def size_bytes(self) -> int:
        """Bytes of the copy."""
        return math.prod(self.shape) * int(np.dtype(self.data.dtype).itemsize)


def spool_request(layer: Image, shape: tuple[int, ...], folder: Path) -> SpoolRequest:
    """Return what copies a layer into a folder.

    Parameters
    ----------
    layer : Image
        The layer.
    shape : tuple of int
        Its shape (z, y, x) or (y, x), as `spatial_shape` returns it.
    folder : Path
        Where the copy goes.
    """
    ndim = len(shape)
    units = {str(unit) for unit in layer.units[-ndim:]}
    unit = units.pop() if len(units) == 1 else "pixel"
    return SpoolRequest(
        spatial_data(layer),
        shape,
        folder / f"{clean_name(layer.name)}.zarr",
        tuple(abs(float(s)) for s in layer.scale[-ndim:]),
        None if unit == "pixel" else unit,
    )


def spool_words(request: SpoolRequest) -> str:
    """Return what is said while a copy is made."""
    return (
        f"Copying the layer to a temporary file, {format_bytes(request.size_bytes)}, because it "
        "exists only in memory"
    )


def require_space(request: SpoolRequest) -> None:
    """Raise `StorageError` if the copy does not fit on its disk."""
    folder = next(p for p in request.path.absolute().parents if p.exists())
    free = shutil.disk_usage(folder).free
    if request.size_bytes + SPARE_BYTES > free:
        raise StorageError(
            f"the layer exists only in memory and its temporary copy needs "
            f"{format_bytes(request.size_bytes)}, but {folder} has {format_bytes(free)} free; "
            "save the layer to a file and open that, or set the environment variable TMPDIR to "
            "a larger disk and restart napari"
        )


def reserve(request: SpoolRequest) -> None:
    """Make the copy without its voxels: enough to plan a job on it.

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    _create(request)


def spool(request: SpoolRequest) -> Generator[float, None, None]:
    """Copy an array to an OME-Zarr 0.5 image, slab by slab.

    Yields
    ------
    float
        Share that is copied, 0 to 1, after each slab.

    Raises
    ------
    StorageError
        If the copy cannot be written.
    """
    target = _create(request)
    leading = (0,) * (request.data.ndim - len(request.shape))
    slabs = list(_slabs(request))
    for number, slab in enumerate(slabs, start=1):
        values = np.asarray(request.data[(*leading, *slab)])
        try:
            target[slab] = values
        except OSError as error:
            raise StorageError(
                f"the temporary copy {request.path} cannot be written: {error}; free some space, "
                "or save the layer to a file and open that"
            ) from error
        yield number / len(slabs)


def _create(request: SpoolRequest) -> Any:
    axes = [{"name": name, "type": "space"} for name in "zyx"[-len(request.shape) :]]
    if request.unit is not None:
        axes = [axis | {"unit": request.unit} for axis in axes]
    scale = {"type": "scale", "scale": list(request.scale)}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    multiscales = [{"axes": axes, "datasets": datasets, "name": request.path.stem}]
    edges = [min(CHUNK_EDGE, n) for n in request.shape[-2:]]
    # Imported on demand: the panel opens a third of a second sooner.
    import zarr

    try:
        group = zarr.create_group(
            request.path, attributes={"ome": {"version": "0.5", "multiscales": multiscales}}
        )
        return group.create_array(
            "0",
            shape=request.shape,
            dtype=np.dtype(request.data.dtype).newbyteorder("="),
            chunks=(*(1,) * (len(request.shape) - 2), *edges),
            # Lives for minutes: time matters, space does not.
            compressors=None,
            dimension_names=[axis["name"] for axis in axes],
        )
    except OSError as error:
        raise StorageError(
            f"the temporary copy {request.path} cannot be made: {error}; set the environment "
            "variable TMPDIR to a writable folder and restart napari"
        ) from error


def _slabs(request: SpoolRequest) -> Generator[tuple[slice, ...], None, None]:
    """Yield slices along the first axis; whole chunks of the source where it has chunks."""
    first, rest = request.shape[0], request.shape[1:]
    row_bytes = max(request.size_bytes // first, 1)
    step = max(SLAB_BYTES // row_bytes, 1)
    if len(request.shape) == 2:
        step = max(step // CHUNK_EDGE, 1) * CHUNK_EDGE
    step = max(step, _source_chunk(request.data, len(request.shape)))
    for start in range(0, first, step):
        yield (slice(start, min(start + step, first)), *(slice(0, n) for n in rest))


def _source_chunk(data: Any, ndim: int) -> int:
    """Return the length of a source's chunks along the first copied axis; 1 = it has none."""
    # A dask chunk would else be computed again for each of its slices.
    chunks: Sequence[Any] = getattr(data, "chunksize", None) or ()
    return int(chunks[-ndim]) if len(chunks) >= ndim else 1
