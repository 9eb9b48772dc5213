"""Which pixels are annotated: a sparse index from which each is drawn equally often.

::

    class 1   block 0: 3 pixels   block 1: 5   block 2: 2      ends: 3, 8, 10
    number 6 of class 1 = the 4th of its pixels in block 1

The index keeps one number per class and annotated block, and shares the blocks themselves with the
annotation; so it is never larger than what is annotated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.errors import TrainingError

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.annotation import Annotation


class AnnotatedPixels:
    """The pixels of each class of an annotation, as it was when this was made.

    Parameters
    ----------
    annotation : Annotation
        What was painted; it may change later, these pixels do not.

    Attributes
    ----------
    annotation : Annotation
        A copy that does not change.

    Raises
    ------
    AnnotationError
        If nothing is annotated.
    """

    def __init__(self, annotation: Annotation) -> None:
        annotation.check_annotated()
        self.annotation = annotation.copy()
        self._blocks = tuple(self.annotation.blocks())
        length = len(annotation.class_names) + FIRST_CLASS
        counts = [np.bincount(labels.ravel(), minlength=length) for _, labels in self._blocks]
        self._ends = np.cumsum(counts, axis=0, dtype=np.int64)[:, FIRST_CLASS:]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Number of pixels of each class, (classes,)."""
        return np.asarray(self._ends[-1])

    def locate(self, label: int, number: int) -> tuple[int, int, int]:
        """Return the place (z, y, x) of one pixel of a class.

        Parameters
        ----------
        label : int
            The class, from 1.
        number : int
            Which of its pixels: each one has exactly one of the numbers from 0 to its count - 1.

        Raises
        ------
        TrainingError
            If the class has no such pixel.
        """
        ends = self._ends[:, label - FIRST_CLASS]
        if not 0 <= number < ends[-1]:
            raise TrainingError(
                f"class {label} has {ends[-1]} annotated pixels, so there is no number {number}; "
                f"choose one from 0 to {ends[-1] - 1}"
            )
        index = int(np.searchsorted(ends, number, side="right"))
        box, labels = self._blocks[index]
        before = int(ends[index - 1]) if index else 0
        flat = np.flatnonzero(labels.ravel() == label)[number - before]
        z, y, x = np.unravel_index(flat, labels.shape)
        return int(z) + box.start[0], int(y) + box.start[1], int(x) + box.start[2]
