"""Mistakes that can be named before PyTorch is loaded, which takes seconds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from napari_unet.core.job import SegmentJob

ANY_TILE_EDGE = 512
"""What is right or wrong with a job does not depend on the edge of its tiles."""

FILES = frozenset(
    {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy", ".h5", ".hdf5", ".hdf", ".mrc", ".rec"}
)
"""Suffixes of single files. An OME-Zarr is a folder."""


def check_before_loading(job: SegmentJob) -> None:
    """Raise what is wrong with the image, the model, or how they fit, if that can be told early.

    Raises
    ------
    UNetError
        As the run itself would.
    """
    if "torch" in sys.modules:
        # The run checks the same, and nothing is gained by doing it twice.
        return
    from napari_unet.app.plan import plan_segment

    plan_segment(job, ANY_TILE_EDGE).source.close()


def check_zarr_name(output: object) -> None:
    """Refuse a name under which nobody looks for a folder.

    Raises
    ------
    ConfigError
        If the name of the output is that of a file of another format.

    Examples
    --------
    >>> check_zarr_name("out.tif")
    Traceback (most recent call last):
    napari_unet.errors.ConfigError: --output out.tif: an OME-Zarr is written, which is a folder...
    """
    path = Path(str(output))
    if path.suffix.lower() in FILES:
        raise ConfigError(
            f"--output {output}: an OME-Zarr is written, which is a folder; name it "
            f"{path.with_suffix('.zarr')}, and make other formats of it with napari-unet export"
        )
