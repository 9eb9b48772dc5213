"""An evaluation job: every option, as the command line and Python give it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from napari_unet.core.classes import ClassName
from napari_unet.core.job import DEFAULT_BLOCK_EDGE
from napari_unet.core.label_kinds import LabelKind
from napari_unet.core.settings import Settings

PredictionKind = Literal["classes", "instances", "probabilities"]
"""How an image that is no output of ours is to be read as a prediction."""

PaperName = Literal["isbi2012", "ctc", "drive"]
"""Data sets with published values to compare with."""

TOLERANCE_PATTERN = r"^\s*\d+(\.\d*)?\s*(px|pixels?|[A-Za-zµμÅå]+)?\s*$"
"""A number, and perhaps a unit of length."""


class EvaluateJob(Settings):
    """What to measure against what, how, and where the report goes.

    Parameters
    ----------
    predictions, truths : tuple of str
        Paths, pair by pair; two folders are paired file by file, by their names.
    truth_kind : {"classes", "instances", "annotation"} or None
        What the numbers of the truth mean; None = the file says it.
    class_values : str or None
        For a truth of kind "classes": ``"0=interior,1=membrane"``.
    classes : tuple of str or None
        For a truth of kind "annotation": names of the classes 1, 2, ...; None = the prediction's.
    prediction_kind : {"classes", "instances", "probabilities"} or None
        How a prediction is read that does not say what it is; None = as the truth is.
    prediction_values : str or None
        Which class each number of the prediction is, as `class_values`; None = what the file says,
        or `class_values`.
    name : str or None
        Name of the label image inside the predictions that are outputs of ours; None = the only
        one.
    probabilities : str or None
        Image, or folder of images, with the probability of each class (c, z, y, x), or of
        `positive` alone.
    positive : str or None
        The class that an image with one probability is of.
    components : tuple of str
        Classes whose connected parts are taken for objects, on each side that holds classes.
    components_dimension : {"3d", "2d"}
        Whether connected parts go through the slices of a stack, or each slice has its own.
    ignore, valid : str or None
        Masks, or folders of masks: what is not 0 in `ignore`, or is 0 in `valid`, counts nowhere.
    images : str or None
        Image, or folder of images, that the crops of the report show.
    region : str or None
        Part that counts, ``"z0:z1,y0:y1,x0:x1"`` in voxels; None = all.
    axes, channel, level, time
        Which part of the files of images, as in `SegmentJob`; `axes` hold for labels as far as
        they can.
    tolerance : str
        Greatest distance of a boundary pixel from a true one: pixels, or a length as ``"20 nm"``.
    boundary : str or None
        The class that is itself a drawn boundary, such as a membrane; None = the outlines of
        classes or objects are compared.
    compare : tuple of str
        More predictions of the same truth.
    compare_paper : {"isbi2012", "ctc", "drive"} or None
        Put published values beside the measured ones.
    allow_missing : bool
        Leave out files of the truth's folder that have no prediction, and say how many.
    output : str or None
        Folder of the report; None = only the table is made.
    overwrite : bool
        Replace a report that is there.
    block_size : int
        Edge in y and x of what is read at a time, in pixels.
    resamples, seed : int
        Of the bootstrap.
    """

    predictions: tuple[str, ...]
    truths: tuple[str, ...]
    truth_kind: LabelKind | None = None
    class_values: str | None = None
    classes: tuple[ClassName, ...] | None = None
    prediction_kind: PredictionKind | None = None
    prediction_values: str | None = None
    name: str | None = None
    probabilities: str | None = None
    positive: str | None = None
    components: tuple[ClassName, ...] = ()
    components_dimension: Literal["3d", "2d"] = "3d"
    ignore: str | None = None
    valid: str | None = None
    images: str | None = None
    region: str | None = None
    axes: str | None = None
    channel: Annotated[str, Field(pattern=r"^\d+(,\d+)*$")] | None = None
    level: Annotated[int, Field(ge=0)] = 0
    time: Annotated[int, Field(ge=0)] | None = None
    tolerance: Annotated[str, Field(pattern=TOLERANCE_PATTERN)] = "2"
    boundary: str | None = None
    compare: tuple[str, ...] = ()
    compare_paper: PaperName | None = None
    allow_missing: bool = False
    output: str | None = None
    overwrite: bool = False
    block_size: Annotated[int, Field(ge=16, le=16384)] = DEFAULT_BLOCK_EDGE
    resamples: Annotated[int, Field(ge=1, le=100_000)] = 2000
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _consistent(self) -> EvaluateJob:
        if not self.predictions or len(self.predictions) != len(self.truths):
            raise ValueError(
                f"{len(self.predictions)} predictions and {len(self.truths)} truths do not make "
                "pairs; give PREDICTION TRUTH, once for each pair"
            )
        if self.class_values is not None and self.truth_kind not in (None, "classes"):
            raise ValueError(
                f"--class-values {self.class_values} is for a truth of classes, but its kind is "
                f"{self.truth_kind}; leave it out, or say --truth-kind classes"
            )
        if self.truth_kind == "classes" and self.class_values is None:
            raise ValueError(
                "--class-values is missing: a truth of the kind classes needs to know which value "
                "is which class; write for example --class-values 0=interior,1=membrane"
            )
        single = {
            "--probabilities": self.probabilities,
            "--ignore": self.ignore,
            "--valid": self.valid,
            "--images": self.images,
            "--compare": self.compare,
        }
        for option, value in single.items():
            if value and len(self.truths) > 1:
                raise ValueError(
                    f"{option} needs one PREDICTION TRUTH, which may be two folders; "
                    f"{len(self.truths)} pairs are given"
                )
        return self
