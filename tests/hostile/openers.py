"""What a person's command does with a file, as far as it must read it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from napari_unet.app.job_files import read_record, read_settings_file
from napari_unet.app.model_exchange import StateDictOptions, import_model
from napari_unet.app.models import find_model
from napari_unet.app.objecting.record import is_objects_record, read_objects_record
from napari_unet.app.training.crops import read_crops
from napari_unet.core.boxes import Box
from napari_unet.core.job import SegmentJob
from napari_unet.errors import AxesError, InputError
from napari_unet.io.annotation_store import open_annotation_store
from napari_unet.io.image import Selection, open_image
from napari_unet.io.ledger import read_ledger
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_unet.core.arrays import ImageSource

EDGE = 64
ARCHITECTURE = '{"base_channels": 2, "depth": 1}'


def open_any(path: Path) -> ImageSource:
    """Open an image, its axes guessed where the file leaves them open, as a person would."""
    try:
        return open_image(path)
    except AxesError:
        for axes in ("yx", "zyx", "czyx", "tczyx"):
            try:
                return open_image(path, Selection(axes=axes, channel="0", time=0))
            except AxesError:
                continue
        raise


def read_image(path: Path) -> None:
    """Open an image, read a part of it, count what is missing, and hash some of it."""
    with closing(open_any(path)) as source:
        box = Box.of_shape(tuple(min(n, EDGE) for n in source.shape))
        source.read(box)
        source.count_missing_chunks(box)
        source.sample_boxes(2**16)
        source.identity()


def read_model(path: Path) -> None:
    """Find a model by its path, and load it."""
    load_model(find_model(str(path)).path)


def import_any(path: Path) -> None:
    """Import a file among the user's own models."""
    state_dict = path.suffix == ".pth"
    options = StateDictOptions(architecture=ARCHITECTURE) if state_dict else None
    import_model(path, options=options)


def read_job(path: Path) -> None:
    """Read a job file into a job."""
    SegmentJob.parse(read_settings_file(path), source=str(path))


def read_any_record(path: Path) -> None:
    """Read a record of a run, as napari's reader does."""
    if is_objects_record(path):
        read_objects_record(path)
    read_settings_file(path)
    read_record(path)


def read_annotation(path: Path) -> None:
    """Open a stored annotation and load it."""
    open_annotation_store(path).load()


def read_a_ledger(path: Path) -> None:
    """Read a ledger."""
    if read_ledger(path) is None:
        raise InputError(f"{path}: there is no ledger")


OPENERS: dict[str, Callable[[Path], None]] = {
    "image": read_image,
    "model": read_model,
    "import": import_any,
    "crops": read_crops,
    "job": read_job,
    "record": read_any_record,
    "ledger": read_a_ledger,
    "annotation": read_annotation,
}
