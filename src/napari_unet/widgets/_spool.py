"""Copies a layer that exists only in memory to a temporary OME-Zarr that the engine can read.

The engine runs in its own process and knows paths only; so a NumPy, dask or computed layer is
written out first, slab by slab, in a worker thread.
"""

from __future__ import annotations

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.errors import StorageError
from napari_unet.widgets._progress import format_bytes

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

SLAB_BYTES = 2**25
"""Most bytes copied at once (32 MB): the pause before a cancel, and the extra memory."""

CHUNK_EDGE = 512
"""Chunks of the copy: a slice thick, as the engine reads."""

POLL_MS = 50
"""How often a copy's progress is looked at."""

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


class SpoolJob(QObject):
    """A copy under way in a thread of its own; its signals come from the GUI's thread.

    The thread is looked at by a timer and touches no Qt object, so that neither can outlive the
    other's.

    Parameters
    ----------
    parent : QObject
        Owner.
    request : SpoolRequest
        What to copy.
    """

    progressed = Signal(float)
    """Share that is copied, 0 to 1."""
    succeeded = Signal()
    failed = Signal(object)
    """The exception."""

    def __init__(self, parent: QObject, request: SpoolRequest) -> None:
        super().__init__(parent)
        self._request = request
        self._share = 0.0
        self._cancelled = Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="napari-unet-spool")
        self._future = self._executor.submit(self._copy)
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._look)
        self._timer.start()

    def cancel(self) -> None:
        """End the copy at the next slab; nothing is reported any more."""
        self._timer.stop()
        self._cancelled.set()
        self._executor.shutdown(wait=False)

    def wait(self) -> None:
        """Return when the copy has ended."""
        self._executor.shutdown(wait=True)

    def _copy(self) -> None:
        for share in spool(self._request):
            self._share = share
            if self._cancelled.is_set():
                return

    def _look(self) -> None:
        self.progressed.emit(self._share)
        if not self._future.done():
            return
        self.cancel()
        error = self._future.exception()
        if error is None:
            self.succeeded.emit()
        else:
            self.failed.emit(error)
