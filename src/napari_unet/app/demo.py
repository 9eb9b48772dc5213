"""The main job on the bundled sample: a label image and a picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import zarr

from napari_unet.app.job_files import record_path
from napari_unet.app.models import DEFAULT_MODEL, find_model
from napari_unet.app.segment import run_job
from napari_unet.core.job import SegmentJob
from napari_unet.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.core.events import JobEvent
    from napari_unet.core.objects_events import ObjectsEvent

SAMPLE = Path(__file__).parent.parent / "resources" / "samples" / "fib_sem_medulla.zarr"
"""FIB-SEM of the fly's medulla, 10 nm isotropic, with a model that has not seen it."""

OPACITY = 0.35
"""Of the classes over the image."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo leaves: paths of the image, its labels, the picture and the record."""

    image: Path
    labels: Path
    overlay: Path
    record: Path


def run_demo(
    folder: Path, device: str, show: Callable[[JobEvent | ObjectsEvent], None]
) -> DemoResult:
    """Segment the sample and draw its middle slice with the labels over it.

    Parameters
    ----------
    folder : Path
        Where to write; made if missing. A second run finds its result there and does nothing.
    device : str
        Where the network runs.
    show : callable
        Is given each event.

    Raises
    ------
    UNetError
        If the folder cannot be written, or the device is not there.
    """
    output = folder / "fib_sem_medulla.zarr"
    job = SegmentJob(input=str(SAMPLE), model=DEFAULT_MODEL, output=str(output), device=device)
    labels = output / "labels" / DEFAULT_MODEL
    for event in run_job(job):
        show(event)
    overlay = folder / "overlay.png"
    try:
        iio.imwrite(overlay, draw_overlay(SAMPLE / "0", labels / "0"))
    except OSError as error:
        raise StorageError(f"picture {overlay} cannot be written: {error.strerror}") from error
    return DemoResult(SAMPLE, labels, overlay, record_path(output, DEFAULT_MODEL))


def draw_overlay(image: Path, labels: Path) -> npt.NDArray[np.uint8]:
    """Return the middle slice with its classes drawn over it, in the model's colors.

    Parameters
    ----------
    image, labels : Path
        Full resolution zarr arrays, (z, y, x).

    Returns
    -------
    numpy.ndarray
        uint8 (y, 2 * x, 3): the image on the left, with labels on the right.
    """
    array = zarr.open_array(image, mode="r")
    middle = array.shape[0] // 2
    plane = np.asarray(array[middle])
    classes = np.asarray(zarr.open_array(labels, mode="r")[middle])
    colors = np.array([(0, 0, 0), *(item.rgb for item in find_model(DEFAULT_MODEL).header.classes)])
    grey = np.repeat(plane[..., None], 3, axis=-1)
    mixed = (1 - OPACITY) * grey + OPACITY * colors[classes]
    return np.concatenate([grey, mixed.round().astype(np.uint8)], axis=1)
