"""What the numbers of a label image mean. The kind is always said, never guessed.

========== ============================================ ==================================
kind       a voxel is                                   becomes
========== ============================================ ==================================
classes    a value that `class_values` maps to a class  that class
instances  0 = background, k = the k-th object          background, border, interior
annotation 0 = not annotated, k = the k-th class        the same
========== ============================================ ==================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from napari_unet.core.class_labels import check_class_names, check_whole_numbers
from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.core.settings import Settings
from napari_unet.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

LabelKind = Literal["classes", "instances", "annotation"]
"""How a label image is to be read."""

Separation = Literal["border", "gap"]
"""How objects that touch are kept apart: by a class of their own, or by background."""

IGNORE = "ignore"
"""In the place of a class name: voxels of this value are not annotated."""

DEFAULT_WIDTH = 1.0
"""Pixels on each side: a line of two pixels between objects that touch."""

_EXAMPLE = "write for example 0=membrane,255=cell"


@dataclass(frozen=True, slots=True)
class ClassValues:
    """Which class each value of a label image of kind "classes" stands for.

    Parameters
    ----------
    names : tuple of (int, str)
        Value and class name; `IGNORE` = not annotated.

    Raises
    ------
    AnnotationError
        If a value is given twice, or no class is named.
    """

    names: tuple[tuple[int, str], ...]

    def __post_init__(self) -> None:
        values = [value for value, _ in self.names]
        for value in values:
            if values.count(value) > 1:
                raise AnnotationError(f"the value {value} is given twice; map each value once")
        check_class_names(self.class_names)

    def __str__(self) -> str:
        return ",".join(f"{value}={name}" for value, name in self.names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order in which they are named first."""
        return tuple(dict.fromkeys(name for _, name in self.names if name != IGNORE))

    def to_classes(
        self, labels: npt.NDArray[Any], class_names: Sequence[str] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Return class labels of the same shape: k = the k-th of `class_names`, 0 = ignored.

        Parameters
        ----------
        labels : numpy.ndarray
            Whole numbers or bool, any shape.
        class_names : sequence of str or None
            The classes in the order wanted, such as a model's; None = the order of first mention.

        Raises
        ------
        AnnotationError
            If a value stands for nothing, a class is not among `class_names`, or the labels are
            not whole numbers.
        """
        numbers = labels.view(np.uint8) if labels.dtype == np.bool_ else labels
        check_whole_numbers(numbers)
        order = self.class_names if class_names is None else tuple(class_names)
        self._check_known(order)
        result = np.zeros(labels.shape, dtype=np.uint8)
        left = np.ones(labels.shape, dtype=bool)
        for value, name in self.names:
            # Compared as Python compares: -1 and 300 are legal beside uint8 and match nothing.
            here = np.equal(numbers, value)
            result[here] = UNLABELED if name == IGNORE else order.index(name) + FIRST_CLASS
            left &= ~here
        if left.any():
            value = numbers[left][0].item()
            raise AnnotationError(
                f"the value {value} ({np.count_nonzero(numbers == value)} voxels or more) stands "
                f"for no class in {self}; add {value}=NAME, or {value}={IGNORE} to leave it out"
            )
        return result

    def _check_known(self, order: Sequence[str]) -> None:
        for name in self.class_names:
            if name not in order:
                raise AnnotationError(
                    f"the class {name!r} of {self} is none of the classes {', '.join(order)}; use "
                    "their names, or name the classes anew"
                )


def parse_class_values(text: str) -> ClassValues:
    """Return what a text such as ``"0=membrane,255=cell"`` says.

    Parameters
    ----------
    text : str
        ``VALUE=NAME`` pairs, separated by commas. Several values may share one name. The name
        "ignore" means not annotated.

    Raises
    ------
    AnnotationError
        If a part is no such pair, a value is given twice, or no class is named.

    Examples
    --------
    >>> parse_class_values("0=membrane, 255=cell").class_names
    ('membrane', 'cell')
    """
    pairs = []
    for part in text.split(","):
        value, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise AnnotationError(f"class values {text!r}: {part!r} is not VALUE=NAME; {_EXAMPLE}")
        try:
            pairs.append((int(value), name))
        except ValueError:
            raise AnnotationError(
                f"class values {text!r}: {value!r} is not a whole number; {_EXAMPLE}"
            ) from None
    return ClassValues(tuple(pairs))


class LabelRules(Settings):
    """How a label image becomes an annotation.

    Parameters
    ----------
    kind : {"classes", "instances", "annotation"}
        What its numbers mean.
    class_names : tuple of str or None
        The classes in order, such as a model's. Needed for "annotation". None = for "classes" the
        order of first mention; for "instances" "background", "border", "interior", or
        "background", "interior" with a gap.
    class_values : str or None
        For "classes", and needed there: see `parse_class_values`.
    separation : {"border", "gap"}
        For "instances": "border" gives the outermost pixels of every object a class of their own;
        "gap" makes background of the pixels of an object that are near another object.
    width : float
        For "instances": which pixels these are, as the Euclidean distance in a slice, in pixels.
    """

    kind: LabelKind
    class_names: tuple[str, ...] | None = None
    class_values: str | None = None
    separation: Separation = "border"
    width: Annotated[float, Field(ge=1, le=64)] = DEFAULT_WIDTH

    @field_validator("class_values")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        if text is not None:
            parse_class_values(text)
        return text

    @model_validator(mode="after")
    def _consistent(self) -> LabelRules:
        if (self.class_values is not None) != (self.kind == "classes"):
            needed = "needs" if self.kind == "classes" else "takes no"
            raise AnnotationError(f"the label kind {self.kind!r} {needed} class values; {_EXAMPLE}")
        if self.kind == "annotation" and self.class_names is None:
            raise AnnotationError(
                "the label kind 'annotation' needs the names of the classes 1, 2, ... in order"
            )
        names = check_class_names(self.names)
        if self.kind == "instances" and len(names) != len(_object_classes(self.separation)):
            raise AnnotationError(
                f"objects with a {self.separation} become the classes "
                f"{', '.join(_object_classes(self.separation))}; the {len(names)} names "
                f"{', '.join(names)} do not fit"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The classes of the annotation, in order."""
        if self.class_names is not None:
            return self.class_names
        if self.class_values is not None:
            return parse_class_values(self.class_values).class_names
        return _object_classes(self.separation)


def _object_classes(separation: Separation) -> tuple[str, ...]:
    if separation == "border":
        return ("background", "border", "interior")
    return ("background", "interior")
