"""From a label image of any kind and size to the one type that training takes: `Annotation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.annotation import BLOCK_SHAPE, Annotation
from napari_unet.core.class_labels import check_class_labels
from napari_unet.core.classes import UNLABELED
from napari_unet.core.label_kinds import parse_class_values
from napari_unet.errors import AnnotationError
from napari_unet.labels.objects import read_object_classes

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.label_kinds import LabelRules


def annotate(
    labels: ImageSource,
    rules: LabelRules,
    *,
    ignore: ImageSource | None = None,
    block_shape: Shape = BLOCK_SHAPE,
) -> Annotation:
    """Return what a label image says, read block by block.

    Parameters
    ----------
    labels : ImageSource
        Label image of one channel.
    rules : LabelRules
        What its numbers mean.
    ignore : ImageSource or None
        Image of the same shape; voxels that are not 0 there are not annotated.
    block_shape : tuple of int
        Edges of the blocks of the annotation, which are also what is read at a time.

    Returns
    -------
    Annotation
        Its classes are ``rules.names``.

    Raises
    ------
    AnnotationError
        If an image has several channels, shapes differ, or the labels are not of the kind.
    InputError
        If stored data is damaged.
    """
    _check_fit(labels, ignore)

    def read(box: Box) -> npt.NDArray[np.uint8]:
        classes = read_classes(labels, rules, box)
        if ignore is not None:
            classes[ignore.read(box)[0] != 0] = UNLABELED
        return classes

    return Annotation.from_blocks(labels.shape, rules.names, read, block_shape=block_shape)


def read_classes(labels: ImageSource, rules: LabelRules, box: Box) -> npt.NDArray[np.uint8]:
    """Return the class labels of a box of a label image; the same as of the whole image there.

    Parameters
    ----------
    labels : ImageSource
        Label image of one channel.
    rules : LabelRules
        What its numbers mean.
    box : Box
        Part of the image, (z, y, x).

    Returns
    -------
    numpy.ndarray
        (z, y, x) uint8: 0 = not annotated, k = the k-th of ``rules.names``.

    Raises
    ------
    AnnotationError
        If the labels are not of the kind; names the image.
    InputError
        If stored data is damaged.
    """

    def read(part: Box) -> npt.NDArray[Any]:
        numbers: npt.NDArray[Any] = labels.read(part)[0]
        return numbers

    try:
        if rules.class_values is not None:
            return parse_class_values(rules.class_values).to_classes(read(box), rules.names)
        if rules.kind == "instances":
            return read_object_classes(read, box, labels.shape, (rules.separation, rules.width))
        painted = read(box)
        check_class_labels(painted, rules.names)
        classes: npt.NDArray[np.uint8] = painted.astype(np.uint8)
    except AnnotationError as error:
        raise AnnotationError(f"{labels.name}: {error}") from error
    return classes


def _check_fit(labels: ImageSource, ignore: ImageSource | None) -> None:
    for image in (labels, ignore):
        if image is not None and image.num_channels != 1:
            raise AnnotationError(
                f"{image.name}: a label image has one channel, this one has {image.num_channels}; "
                "choose one"
            )
    if ignore is not None and ignore.shape != labels.shape:
        raise AnnotationError(
            f"{ignore.name}: the image of what to ignore has the shape {ignore.shape}, the labels "
            f"{labels.name} have {labels.shape}; give images of one shape"
        )
