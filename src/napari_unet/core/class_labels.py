"""Checks of class names and class labels that every kind of label image shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.classes import MAX_CLASSES, UNLABELED
from napari_unet.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

MAX_NAME_LENGTH = 64
"""Characters of a class name, as in a model's header."""


def check_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes as they were given.

    Raises
    ------
    AnnotationError
        If there is none, too many, or one that is empty, too long or repeated.
    """
    checked = tuple(names)
    if not 1 <= len(checked) <= MAX_CLASSES:
        raise AnnotationError(f"{len(checked)} classes were given; give 1 to {MAX_CLASSES}")
    for name in checked:
        if not name or name != name.strip() or len(name) > MAX_NAME_LENGTH:
            raise AnnotationError(
                f"{name!r} is not a class name; give 1 to {MAX_NAME_LENGTH} characters without "
                "spaces at the ends"
            )
        if checked.count(name) > 1:
            raise AnnotationError(f"the class {name!r} is named twice; give each class one name")
    return checked


def check_whole_numbers(labels: npt.NDArray[Any]) -> None:
    """Refuse labels that are not whole numbers.

    Raises
    ------
    AnnotationError
        Naming the type.
    """
    if labels.dtype.kind not in "ui":
        remedy = (
            "number its objects or classes first"
            if labels.dtype.kind == "b"
            else "convert them to a whole number type such as uint8"
        )
        raise AnnotationError(f"labels of type {labels.dtype} are not whole numbers; {remedy}")


def check_class_labels(labels: npt.NDArray[Any], class_names: Sequence[str]) -> None:
    """Refuse labels that are not 0 (not annotated) or the number of a class.

    Raises
    ------
    AnnotationError
        Naming the type, or the first value that is no class.
    """
    check_whole_numbers(labels)
    if not labels.size:
        return
    for value in (int(np.min(labels)), int(np.max(labels))):
        if not UNLABELED <= value <= len(class_names):
            raise AnnotationError(
                f"the label {value} is none of the {len(class_names)} classes "
                f"({', '.join(class_names)}); use 1 to {len(class_names)}, or 0 for not annotated"
            )
