"""An export: which result goes into which file of another format."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from napari_unet.core.settings import Settings
from napari_unet.errors import ConfigError

ExportFormat = Literal["tiff", "ome-tiff", "mrc", "hdf5", "png"]
"""Kinds of file that a result is written as; "tiff" is the dialect of ImageJ."""

ExportPart = Literal["labels", "probabilities"]
"""Which part of the output is exported."""

EXPORT_SUFFIXES: dict[ExportFormat, tuple[str, ...]] = {
    "tiff": (".tif", ".tiff"),
    "ome-tiff": (".ome.tif", ".ome.tiff"),
    "mrc": (".mrc", ".rec", ".map"),
    "hdf5": (".h5", ".hdf5"),
    "png": (".png",),
}
"""Endings of each kind of file; the first is the one that is chosen without ``output``."""


class ExportJob(Settings):
    """What to export, as what, and where to.

    Parameters
    ----------
    input : str
        OUT, the OME-Zarr that a segmentation was written to.
    format : {"tiff", "ome-tiff", "mrc", "hdf5", "png"}
        Kind of file.
    what : {"labels", "probabilities"}
        Labels (classes or objects), or the probabilities of the classes.
    name : str or None
        NAME of the label image in OUT; None = the only one.
    channel : str or None
        Of probabilities: which classes, as indices from 0 such as "1" or "0,2"; None = all.
    output : str or None
        File to write; for planes of a volume as PNG a folder. None = beside OUT, named after it.
    region : str or None
        Part to export, ``"z0:z1,y0:y1,x0:x1"`` in voxels; None = all.
    background : str or None
        Number or name of the class that becomes 0; the classes above it move down by one. None =
        values as they are.
    overwrite : bool
        Replace an output file that is there.
    allow_incomplete : bool
        Export a result whose run has not finished.
    """

    input: str
    format: ExportFormat
    what: ExportPart = "labels"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    channel: Annotated[str, Field(pattern=r"^\d+(,\d+)*$")] | None = None
    output: str | None = None
    region: str | None = None
    background: Annotated[str, Field(min_length=1)] | None = None
    overwrite: bool = False
    allow_incomplete: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> ExportJob:
        if self.what == "labels" and self.channel is not None:
            raise ConfigError(
                f"--channel {self.channel} chooses among probabilities, but labels are exported; "
                "add --what probabilities, or leave it out"
            )
        if self.what == "probabilities" and self.background is not None:
            raise ConfigError(
                f"--background {self.background} renumbers labels, but probabilities are exported; "
                "leave it out"
            )
        if self.what == "probabilities" and self.format == "png":
            raise ConfigError(
                "PNG cannot hold probabilities; export them as tiff, ome-tiff, mrc or hdf5"
            )
        return self
