"""A prediction and its truth, opened and read block by block in the same terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.boxes import Box
from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    import numpy.typing as npt

    from napari_unet.core.axes import VoxelSize
    from napari_unet.core.boxes import Shape

    Labels = npt.NDArray[Any]
    Reader = Callable[[Box], Labels]


OBJECT_CLASSES = ("background", "object")
"""Classes of the pixels of numbered objects."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Prediction and truth of a box, read with a margin.

    Parameters
    ----------
    box : Box
        What counts, in the image.
    inner : Box
        The same in the arrays.
    counted : numpy.ndarray of bool
        (z, y, x) where the truth speaks and nothing is ignored, with the margin.
    true_classes, predicted_classes : numpy.ndarray or None
        Classes with the margin: 0 in the truth where nothing counts, in the prediction where
        nothing was computed. None = the pair holds no classes.
    true_objects, predicted_objects : numpy.ndarray or None
        Numbered objects with the margin. None = the pair holds no objects.
    probabilities : numpy.ndarray or None
        (class, z, y, x) without the margin.
    """

    box: Box
    inner: Box
    counted: npt.NDArray[np.bool_]
    true_classes: Labels | None
    predicted_classes: Labels | None
    true_objects: Labels | None
    predicted_objects: Labels | None
    probabilities: Labels | None

    def inside(self, array: Labels) -> Labels:
        """Return the part of an array with the margin that counts."""
        return array[self.inner.slices]


@dataclass(frozen=True, slots=True, eq=False)
class OpenedPair:
    """A pair read block by block.

    Parameters
    ----------
    name : str
        Of the pair.
    shape : tuple of int
        Of both images, (z, y, x).
    region : Box
        What counts.
    voxel_size : VoxelSize
        Of the prediction, or of the truth if only that knows it.
    class_names : tuple of str
        Classes that pixels are compared by; empty = they are not.
    readers : dict
        Of the parts of `Block` that there are.
    counted : callable
        Whether voxels count, for pairs without true classes.
    notes : tuple of str
        What the report says of the pair.
    files : ExitStack
        What is to be released.
    """

    name: str
    shape: Shape
    region: Box
    voxel_size: VoxelSize
    class_names: tuple[str, ...]
    readers: dict[str, Reader]
    counted: Reader
    notes: tuple[str, ...]
    files: ExitStack

    @property
    def holds_objects(self) -> bool:
        """Whether objects are compared."""
        return "true_objects" in self.readers

    @property
    def holds_probabilities(self) -> bool:
        """Whether there are probabilities."""
        return "probabilities" in self.readers

    def class_number(self, name: str) -> int:
        """Return the number of a class.

        Raises
        ------
        ConfigError
            If there is no such class.
        """
        if name not in self.class_names:
            raise ConfigError(
                f"--boundary {name} is none of the classes {', '.join(self.class_names)}"
            )
        return self.class_names.index(name) + FIRST_CLASS

    def read(self, box: Box, margin: tuple[int, int] = (0, 0)) -> Block:
        """Return a box of the region, with a margin in y and x as far as the image reaches.

        Raises
        ------
        AnnotationError
            If values are not what they are said to be; names the image.
        InputError
            If stored data is damaged.
        """
        reach = (0, *margin)
        around = Box(
            tuple(a - r for a, r in zip(box.start, reach, strict=True)),
            tuple(b + r for b, r in zip(box.stop, reach, strict=True)),
        ).intersection(Box.of_shape(self.shape))
        parts = {
            name: read(box if name == "probabilities" else around)
            for name, read in self.readers.items()
        }
        counted = self.counted(around)
        classes = parts.get("true_classes")
        if classes is not None:
            counted = counted & (classes != UNLABELED)
            parts["true_classes"] = np.where(counted, classes, UNLABELED)
        return Block(
            box,
            box.relative_to(around.start),
            counted,
            *(parts.get(each) for each in _PARTS),
        )

    def close(self) -> None:
        """Release files and temporary data."""
        self.files.close()


_PARTS = (
    "true_classes",
    "predicted_classes",
    "true_objects",
    "predicted_objects",
    "probabilities",
)
"""Of `Block`, in its order."""
