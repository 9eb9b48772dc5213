"""A prediction, opened: classes, objects or probabilities, in the classes of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.evaluation.stored import find_stored_labels
from napari_unet.app.evaluation.truth import checked_objects
from napari_unet.core.class_labels import check_class_labels
from napari_unet.core.classes import FIRST_CLASS
from napari_unet.core.label_kinds import ClassValues, parse_class_values
from napari_unet.errors import AnnotationError, AxesError, ConfigError
from napari_unet.io.image import Selection, open_image

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.app.evaluation.truth import TruthRules
    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Box
    from napari_unet.core.evaluate_job import EvaluateJob, PredictionKind


@dataclass(frozen=True, slots=True)
class PredictionRules:
    """What a prediction is.

    Parameters
    ----------
    kind : {"classes", "instances", "probabilities"}
        What its values are.
    values : ClassValues or None
        Which value is which class; None = the k-th class is k, 0 = not computed.
    class_names : tuple of str or None
        Its classes in order, if it or the job names them.
    path : Path
        The label image, or the image of probabilities.
    probabilities : Path or None
        Probabilities beside a label image.
    """

    kind: PredictionKind
    values: ClassValues | None
    class_names: tuple[str, ...] | None
    path: Path
    probabilities: Path | None


def prediction_rules(job: EvaluateJob, path: Path, truth: TruthRules) -> PredictionRules:
    """Return what a prediction is: by the file, by the job, or else as its truth is.

    Raises
    ------
    ConfigError
        If there are several label images and none is chosen.
    """
    wanted = "instances" if truth.holds_objects and not job.components else "classes"
    given = None if job.prediction_values is None else parse_class_values(job.prediction_values)
    stored = find_stored_labels(path, job.name, wanted)  # type: ignore[arg-type]  # one of the two
    if stored is not None:
        if job.prediction_kind not in (None, stored.kind, "probabilities"):
            raise ConfigError(
                f"{path} says that it holds {stored.kind}, but --prediction-kind "
                f"{job.prediction_kind} was given; leave it out"
            )
        names = stored.class_names or None
        return PredictionRules(
            stored.kind, given, given.class_names if given else names, stored.path,
            stored.probabilities,
        )  # fmt: skip
    kind: PredictionKind = job.prediction_kind or (
        "instances" if truth.holds_objects else "classes"
    )
    values = given or (truth.values if kind == "classes" else None)
    names = values.class_names if values else job.classes
    return PredictionRules(kind, values, names, path, None)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A prediction read box by box.

    Parameters
    ----------
    rules : PredictionRules
        What it is.
    labels : ImageSource or None
        Classes or objects; None = they follow from the probabilities.
    probabilities : ImageSource or None
        (c, z, y, x), one channel per class, or of one class alone.
    class_names : tuple of str
        The classes of the evaluation, in order; empty for objects alone.
    channels : tuple of int
        For each channel of the probabilities, its class: 1, 2, ...
    """

    rules: PredictionRules
    labels: ImageSource | None
    probabilities: ImageSource | None
    class_names: tuple[str, ...]
    channels: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """For messages."""
        source = self.labels or self.probabilities
        return self.rules.path.name if source is None else source.name

    def classes(self, box: Box) -> npt.NDArray[np.uint8]:
        """Return the classes of a box, 0 = not computed.

        Raises
        ------
        AnnotationError
            If the numbers are no classes; names the image.
        """
        if self.labels is None:
            return self._likeliest(box)
        numbers, values = self.labels.read(box)[0], self.rules.values
        try:
            if values is not None:
                return values.to_classes(numbers, self.class_names)
            own = self.rules.class_names or self.class_names
            check_class_labels(numbers, own)
        except AnnotationError as error:
            raise AnnotationError(f"{self.name}: {error}") from error
        order = [0, *(self.class_names.index(name) + FIRST_CLASS for name in own)]
        classes: npt.NDArray[np.uint8] = np.array(order, dtype=np.uint8)[numbers]
        return classes

    def objects(self, box: Box) -> npt.NDArray[Any]:
        """Return the numbered objects of a box, 0 = background.

        Raises
        ------
        AnnotationError
            If the numbers are no objects; names the image.
        """
        if self.labels is None:
            raise AnnotationError(f"{self.name}: probabilities number no objects")
        return checked_objects(self.labels.read(box)[0], self.name)

    def class_probabilities(self, box: Box) -> npt.NDArray[Any]:
        """Return (class, z, y, x) the probability of each class of the evaluation, 0 to 1.

        Raises
        ------
        AnnotationError
            If there are none, or they are not between 0 and 1.
        """
        if self.probabilities is None:
            raise AnnotationError(f"{self.name}: the prediction holds no probabilities")
        read = _unit_scale(self.probabilities.read(box))
        if not ((read >= 0) & (read <= 1)).all():
            raise AnnotationError(
                f"{self.probabilities.name}: values from {read.min():g} to {read.max():g} are no "
                "probabilities; give numbers from 0 to 1, or 8 or 16 bit images whose largest "
                "number means 1"
            )
        result = np.zeros((len(self.class_names), *read.shape[1:]), read.dtype)
        if len(self.channels) == 1 and len(self.class_names) == 2:
            result[:] = 1 - read
        result[[k - FIRST_CLASS for k in self.channels]] = read
        return result

    def close(self) -> None:
        """Release files."""
        for source in (self.labels, self.probabilities):
            if source is not None:
                source.close()

    def _likeliest(self, box: Box) -> npt.NDArray[np.uint8]:
        values = self.class_probabilities(box)
        classes: npt.NDArray[np.uint8] = (values.argmax(axis=0) + FIRST_CLASS).astype(np.uint8)
        classes[values.max(axis=0) == 0] = 0
        return classes


def open_probabilities(
    path: Path, num_classes: int, spatial_axes: str, positive: int | None
) -> tuple[ImageSource, tuple[int, ...]]:
    """Return an image of probabilities opened, and the class of each of its channels.

    Parameters
    ----------
    path : Path
        One channel per class in their order, or one channel of the class `positive`.
    num_classes : int
        How many classes there are.
    spatial_axes : {"zyx", "yx"}
        Of the labels beside it, for files that do not say what their axes are.
    positive : int or None
        The class of a single channel, from 1.

    Raises
    ------
    AxesError
        If the axes are not known.
    ConfigError
        If the channels are neither one per class nor one of a named class.
    """
    count = _channel_count(path, spatial_axes)
    axes = None if count.axes is None else count.axes
    if count.channels == 1:
        if positive is None:
            raise ConfigError(
                f"{path} holds one probability, and does not say of which class; say --positive "
                "NAME"
            )
        return open_image(path, Selection(axes=axes)), (positive,)
    if count.channels != num_classes:
        raise ConfigError(
            f"{path} holds {count.channels} channels, but there are {num_classes} classes; give "
            "one channel per class in their order, or one of the class named by --positive"
        )
    chosen = Selection(axes=axes, channel=",".join(str(k) for k in range(num_classes)))
    return open_image(path, chosen), tuple(range(FIRST_CLASS, FIRST_CLASS + num_classes))


@dataclass(frozen=True, slots=True)
class _Channels:
    channels: int
    axes: str | None


def _channel_count(path: Path, spatial_axes: str) -> _Channels:
    """Return how many channels an image has, and the axes it is to be opened with."""
    refused: AxesError | None = None
    for axes in (None, spatial_axes, f"c{spatial_axes}"):
        channels = 0
        try:
            open_image(path, Selection(axes=axes)).close()
        except AxesError as error:
            refused = refused or error
        else:
            return _Channels(1, axes)
        # The only way to ask: a channel that is not there is refused.
        while channels < _MAX_CHANNELS:
            try:
                open_image(path, Selection(axes=axes, channel=str(channels))).close()
            except AxesError:
                break
            channels += 1
        if channels:
            return _Channels(channels, axes)
    raise refused or AxesError(f"{path}: its axes are not known")


_MAX_CHANNELS = 65
"""More than there can be classes."""


def _unit_scale(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return stored probabilities as floating point numbers, 0 to 1."""
    if values.dtype.kind == "u":
        return (values / np.iinfo(values.dtype).max).astype(np.float64)
    return values if values.dtype.kind == "f" else values.astype(np.float32)
