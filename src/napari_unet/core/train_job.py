"""A training job: every option, as the command line, a file and the plugin give it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from napari_unet.core.classes import ClassName, Color
from napari_unet.core.header import MAX_CONTEXT
from napari_unet.core.job import Channels, DeviceName, Rescale
from napari_unet.core.label_kinds import LabelKind, Separation
from napari_unet.core.settings import Settings

TrainPrecision = Literal["auto", "fp32", "bf16", "fp16"]


class TrainJob(Settings):
    """What to learn from, what to learn, for how long, and where the model goes.

    Parameters
    ----------
    images, labels : tuple of str
        Paths of images and of their label images, pair by pair; two folders are paired file by
        file.
    dataset, root : str or None
        Instead of them: name of a public data set and the folder it was unpacked into.
    label_kind : {"classes", "instances", "annotation"} or None
        What the numbers of the label images mean; data sets know theirs.
    class_values : str or None
        For "classes": ``"0=membrane,255=cell"``.
    separation : {"border", "gap"}
        For "instances": how objects that touch are kept apart.
    classes : tuple of str or None
        Classes of the new model, in order; None = the parent's, or those of the labels. Classes of
        the parent are matched by name; those left out are dropped, new ones are learnt.
    rename : dict
        Names of parent's classes -> their new names.
    colors : dict
        Class names -> ``#rrggbb``.
    parent : str or None
        Model to fine-tune (``--from``): a name or a file; None = from random weights.
    output : str
        Name of the new model in the user's store, or path of the ``.safetensors`` file to write.
    run : str or None
        Run folder; None = beside the output file, or in the user's data folder.
    steps : int or None
        Changes of the weights.
    minutes : float or None
        Time budget instead of steps, validation and the gate included, imports not.
    validation : str
        "auto" holds out parts of what is annotated, "none" holds out nothing, ``IMAGE:LABELS``
        gives another pair.
    axes, channel, level, time
        Which part of the image files is the image, as in `SegmentJob`.
    rescale : {"auto", "off"} or float
        As in `SegmentJob`: with "auto", a parent is shown the images at the voxel size that it
        knows; a number is learnt voxels per voxel of the images.
    context : int or None
        Neighboring slices on each side that the model sees; None = the parent's, or 0.
    device, threads, precision, seed
        Where, and from which chance.
    network, loop, sampler : dict
        Settings of `Architecture`, `LoopSettings` and `SamplerSettings` that differ from the
        defaults for this kind of training.
    """

    images: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    dataset: str | None = None
    root: str | None = None
    label_kind: LabelKind | None = None
    class_values: str | None = None
    separation: Separation = "border"
    classes: tuple[ClassName, ...] | None = None
    rename: dict[ClassName, ClassName] = Field(default_factory=dict)
    colors: dict[ClassName, Color] = Field(default_factory=dict)
    parent: str | None = None
    output: str
    run: str | None = None
    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    minutes: Annotated[float, Field(gt=0, le=100_000)] | None = None
    validation: str = "auto"
    axes: str | None = None
    channel: Channels | None = None
    level: Annotated[int, Field(ge=0)] = 0
    time: Annotated[int, Field(ge=0)] | None = None
    rescale: Rescale = "auto"
    context: Annotated[int, Field(ge=0, le=MAX_CONTEXT)] | None = None
    device: DeviceName = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    precision: TrainPrecision = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    network: dict[str, Any] = Field(default_factory=dict)
    loop: dict[str, Any] = Field(default_factory=dict)
    sampler: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> TrainJob:
        if self.dataset is None:
            self._check_pairs()
        elif self.images or self.labels or self.label_kind or self.class_values:
            raise ValueError(
                f"the data set {self.dataset!r} brings its own images and labels; leave out "
                "--image, --labels, --label-kind and --class-values"
            )
        if (self.dataset is None) != (self.root is None):
            raise ValueError("a data set needs both its name (--dataset) and its folder (--root)")
        if self.steps is not None and self.minutes is not None:
            raise ValueError(
                f"steps {self.steps} and minutes {self.minutes:g} are both given; give one of them"
            )
        if self.rename and self.parent is None:
            raise ValueError("classes can only be renamed in a model to start --from")
        return self

    def _check_pairs(self) -> None:
        if not self.images:
            raise ValueError("there is no image; give --image and --labels, or --dataset")
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"{len(self.images)} images and {len(self.labels)} label images do not make pairs; "
                "give --labels once for each --image"
            )
        if self.label_kind is None:
            raise ValueError("--label-kind is missing; say classes, instances or annotation")
