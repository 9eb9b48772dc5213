"""Which classes a new model gets, and how those of the labels become them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.annotation import Annotation
from napari_unet.core.class_labels import check_class_names
from napari_unet.core.classes import FIRST_CLASS, ClassInfo
from napari_unet.core.label_kinds import LabelRules
from napari_unet.errors import AnnotationError, ConfigError
from napari_unet.model.head import renamed_classes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_unet.core.header import ModelHeader
    from napari_unet.core.train_job import TrainJob

PALETTE = (
    "#3a86c8",
    "#ffb000",
    "#d1495b",
    "#2a9d8f",
    "#8d5fd3",
    "#9c6b30",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
"""Colors of classes that have none: the first ones are those of the model em-membranes."""


def parent_class_names(job: TrainJob, parent: ModelHeader | None) -> tuple[str, ...]:
    """Return the parent's classes as the job calls them; none without a parent.

    Raises
    ------
    ConfigError
        If a class that does not exist is renamed, or two get the same name.
    """
    if parent is None:
        return ()
    return renamed_classes([item.name for item in parent.classes], job.rename)


def choose_class_names(
    job: TrainJob, parent: ModelHeader | None, labels: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the classes of the new model, in order.

    Those of the job; else the parent's; else those of the labels.

    Parameters
    ----------
    job : TrainJob
        What is wanted.
    parent : ModelHeader or None
        Of the model to start from.
    labels : sequence of str or None
        Classes that the labels name themselves; None = they only have numbers.

    Raises
    ------
    ConfigError
        If nobody names them, or two have one name.
    """
    if job.classes is not None:
        try:
            return check_class_names(job.classes)
        except AnnotationError as error:
            raise ConfigError(f"--classes {','.join(job.classes)}: {error}") from error
    if parent is not None:
        return parent_class_names(job, parent)
    if labels:
        return check_class_names(labels)
    raise ConfigError(
        "the classes have no names: an annotation holds numbers only; give --classes with the "
        "names of 1, 2, ... in order"
    )


def make_classes(
    job: TrainJob, parent: ModelHeader | None, names: Sequence[str], painted: Iterable[ClassInfo]
) -> tuple[ClassInfo, ...]:
    """Return classes with colors: the job's, the parent's, those that were painted with, new ones.

    Raises
    ------
    ConfigError
        If a color is given to a class that there is not.
    """
    for name in job.colors:
        if name not in names:
            raise ConfigError(
                f"the color {job.colors[name]} is for a class {name!r}, but the classes are "
                f"{', '.join(names)}"
            )
    known = {item.name: item.color for item in painted}
    if parent is not None:
        called = parent_class_names(job, parent)
        known |= {n: item.color for n, item in zip(called, parent.classes, strict=True)}
    known |= job.colors
    taken = {known[name].lower() for name in names if name in known}
    free = [color for color in PALETTE if color not in taken]
    colors = {}
    for k, name in enumerate(name for name in names if name not in known):
        colors[name] = (free or list(PALETTE))[k % len(free or PALETTE)]
    return tuple(ClassInfo(name=n, color=known.get(n) or colors[n]) for n in names)


def label_rules(job: TrainJob, names: Sequence[str]) -> LabelRules:
    """Return how label images are read, given the classes of the new model.

    The classes of the rules may be some of `names` only, or in another order; see `with_classes`.

    Raises
    ------
    ConfigError, AnnotationError
        If the labels' classes are none of the model's.
    """
    if job.label_kind is None:
        raise ConfigError("--label-kind is missing; say classes, instances or annotation")
    values = {"kind": job.label_kind, "separation": job.separation}
    if job.label_kind == "annotation":
        return LabelRules.parse({**values, "class_names": tuple(names)}, source="labels")
    if job.label_kind == "classes":
        return LabelRules.parse({**values, "class_values": job.class_values}, source="labels")
    rules = LabelRules.parse(values, source="labels")
    if set(rules.names) <= set(names):
        return rules
    if job.classes is not None and len(names) == len(rules.names):
        return LabelRules.parse({**values, "class_names": tuple(names)}, source="labels")
    raise ConfigError(
        f"objects become the classes {', '.join(rules.names)}, but the model has "
        f"{', '.join(names)}; give --classes with {', '.join(rules.names)} among them"
    )


def with_classes(annotation: Annotation, names: Sequence[str], source: str) -> Annotation:
    """Return the same annotation in other numbers: classes are matched by name.

    Parameters
    ----------
    annotation : Annotation
        Its classes may be some of `names`, in any order. Unknown ones that are not used anywhere
        do not matter.
    names : sequence of str
        The classes wanted.
    source : str
        What to call it in the message.

    Raises
    ------
    AnnotationError
        If a class that is used is none of `names`.
    """
    old, counts = annotation.class_names, annotation.counts
    if old == tuple(names):
        return annotation
    missing = [n for n, count in zip(old, counts, strict=True) if count and n not in names]
    if missing:
        raise AnnotationError(
            f"{source}: the class {missing[0]!r} is none of the model's classes "
            f"{', '.join(names)}; add it to --classes, or use their names"
        )
    table = np.zeros(len(old) + FIRST_CLASS, dtype=np.uint8)
    for k, name in enumerate(old, start=FIRST_CLASS):
        table[k] = names.index(name) + FIRST_CLASS if name in names else 0
    result = Annotation(annotation.shape, names, block_shape=annotation.block_shape)
    for box, labels in annotation.blocks():
        result.write(box, table[labels])
    return result
