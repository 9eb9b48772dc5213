"""The truth of a pair, opened: what its numbers mean is said, or the file says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.evaluation.stored import find_stored_labels
from napari_unet.app.pairing import is_annotation_store
from napari_unet.core.class_labels import check_class_labels
from napari_unet.core.label_kinds import ClassValues, parse_class_values
from napari_unet.errors import AnnotationError, ConfigError
from napari_unet.io.annotation_store import open_annotation_store
from napari_unet.labels.objects import check_objects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.boxes import Box
    from napari_unet.core.evaluate_job import EvaluateJob
    from napari_unet.core.label_kinds import LabelKind


@dataclass(frozen=True, slots=True)
class TruthRules:
    """What the numbers of a truth mean.

    Parameters
    ----------
    kind : {"classes", "instances", "annotation"}
        As in `LabelKind`.
    values : ClassValues or None
        Which value is which class; None = the k-th class is k, 0 counts nowhere.
    class_names : tuple of str or None
        The classes in order; None for objects, and where the prediction is to name them.
    path : Path
        Of the label image itself.
    """

    kind: LabelKind
    values: ClassValues | None
    class_names: tuple[str, ...] | None
    path: Path

    @property
    def holds_objects(self) -> bool:
        """Whether its numbers are objects."""
        return self.kind == "instances"


def truth_rules(job: EvaluateJob, path: Path) -> TruthRules:
    """Return what the numbers of a truth mean, by the job or by the file itself.

    Raises
    ------
    ConfigError
        If neither says it, or they contradict each other.
    AnnotationError
        If the class values cannot be read.
    """
    if is_annotation_store(path):
        _check_agrees(job, path, "annotation")
        return TruthRules("annotation", None, open_annotation_store(path).class_names, path)
    wanted = {"classes": "classes", "instances": "instances"}.get(job.truth_kind or "")
    stored = find_stored_labels(path, None, wanted)  # type: ignore[arg-type]  # one of the two
    if stored is not None:
        _check_agrees(job, path, stored.kind)
        if job.class_values is None:
            return TruthRules(stored.kind, None, stored.class_names or None, stored.path)
        path = stored.path
    kind = job.truth_kind or ("classes" if job.class_values else None)
    if kind is None:
        raise ConfigError(
            f"{path} does not say what its numbers mean; say --truth-kind classes (with "
            "--class-values 0=interior,1=membrane), instances, or annotation"
        )
    if kind == "classes":
        values = parse_class_values(job.class_values or "")
        return TruthRules(kind, values, values.class_names, path)
    return TruthRules(kind, None, job.classes if kind == "annotation" else None, path)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """A truth read box by box.

    Parameters
    ----------
    rules : TruthRules
        What its numbers mean.
    name : str
        For messages.
    numbers : callable
        Gives the stored numbers (z, y, x) of a box.
    class_names : tuple of str
        The classes of the evaluation, in order; empty for objects.
    """

    rules: TruthRules
    name: str
    numbers: Callable[[Box], npt.NDArray[Any]]
    class_names: tuple[str, ...]

    def classes(self, box: Box) -> npt.NDArray[np.uint8]:
        """Return the classes of a box, 0 = counts nowhere.

        Raises
        ------
        AnnotationError
            If the numbers are not of the kind; names the image.
        """
        numbers = self.numbers(box)
        try:
            if self.rules.values is not None:
                return self.rules.values.to_classes(numbers, self.class_names)
            check_class_labels(numbers, self.class_names)
        except AnnotationError as error:
            raise AnnotationError(f"{self.name}: {error}") from error
        classes: npt.NDArray[np.uint8] = numbers.astype(np.uint8)
        return classes

    def objects(self, box: Box) -> npt.NDArray[Any]:
        """Return the numbered objects of a box, 0 = background.

        Raises
        ------
        AnnotationError
            If the numbers are no objects; names the image.
        """
        numbers = self.numbers(box)
        return checked_objects(numbers, self.name)


def checked_objects(numbers: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return numbered objects as they are.

    Raises
    ------
    AnnotationError
        If they are not whole numbers from 0; names the image.
    """
    try:
        check_objects(numbers)
    except AnnotationError as error:
        raise AnnotationError(f"{name}: {error}") from error
    return numbers


def _check_agrees(job: EvaluateJob, path: Path, kind: str) -> None:
    if job.truth_kind is not None and job.truth_kind != kind:
        raise ConfigError(
            f"{path} says that it is a truth of the kind {kind}, but --truth-kind "
            f"{job.truth_kind} was given; leave it out, or give another file"
        )
