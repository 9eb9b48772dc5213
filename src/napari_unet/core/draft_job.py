"""A drafting job: what is looked at and painted on, as the plugin gives it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from napari_unet.core.class_labels import check_class_names
from napari_unet.core.classes import ClassName
from napari_unet.core.job import Channels, DeviceName, Rescale
from napari_unet.core.settings import Settings

KEPT_MEGABYTES = 512
"""Features of the last views: those of a dozen with the bundled models."""


class DraftJob(Settings):
    """Which image and model are drafted on, where the strokes lie, and where drafts go.

    Parameters
    ----------
    input : str
        Path of the image.
    axes, channel, level, time, rescale
        As in `napari_unet.core.job.SegmentJob`.
    model : str
        Name of a model in the store, or path of a ``.safetensors`` file.
    classes : tuple of str
        What the labels of strokes and drafts mean: the k-th class is k. Those that the model does
        not know are learnt from strokes alone.
    rename : dict
        Names of the model's classes -> what they are called in `classes`.
    annotation : str or None
        Path of a stored annotation of this image (`napari_unet.io.annotation_store`), which others
        paint into; it need not exist yet. None = nothing is painted.
    folder : str
        Folder that exists, for the ``.npy`` files of drafts.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    threads : int or None
        CPU threads; None = one per core.
    kept_megabytes : int
        Bound on the features that are kept of what was looked at.

    Raises
    ------
    ConfigError
        From `parse`, if a value cannot be used, or two classes have one name.
    """

    input: str
    model: str
    classes: tuple[ClassName, ...]
    folder: str
    annotation: str | None = None
    rename: dict[ClassName, ClassName] = Field(default_factory=dict)
    axes: str | None = None
    channel: Channels | None = None
    level: Annotated[int, Field(ge=0)] = 0
    time: Annotated[int, Field(ge=0)] | None = None
    rescale: Rescale = "auto"
    device: DeviceName = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    kept_megabytes: Annotated[int, Field(ge=16, le=65536)] = KEPT_MEGABYTES

    @model_validator(mode="after")
    def _check_classes(self) -> DraftJob:
        # Its error is a ValueError, whose text becomes that of the ConfigError.
        check_class_names(self.classes)
        return self
