"""What a person painted: sparse, 0 = nothing said, k = the k-th class."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.boxes import Box
from napari_unet.core.class_labels import check_class_labels, check_class_names
from napari_unet.core.classes import FIRST_CLASS
from napari_unet.core.connected import connect_runs, find_runs
from napari_unet.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Shape

BLOCK_SHAPE: Shape = (1, 256, 256)
"""Edges (z, y, x) of what is kept together: one slice thin, as people paint in slices."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedPlace:
    """A connected part of what is annotated, such as a stroke; its classes do not matter.

    Parameters
    ----------
    box : Box
        The smallest box around it, (z, y, x).
    counts : tuple of int
        Its voxels of each class.
    runs : numpy.ndarray
        (n, 4) int64: z, y, x0, x1 of its runs along x, half-open; read-only.
    """

    box: Box
    counts: tuple[int, ...]
    runs: npt.NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of voxels."""
        return sum(self.counts)

    def mask(self) -> npt.NDArray[np.bool_]:
        """Return which voxels of `box` belong to it, as a dense array."""
        z, y, x = self.box.start
        depth, height, width = self.box.shape
        steps = np.zeros((depth, height, width + 1), dtype=np.int8)
        rows = (self.runs[:, 0] - z, self.runs[:, 1] - y)
        np.add.at(steps, (*rows, self.runs[:, 2] - x), 1)
        np.add.at(steps, (*rows, self.runs[:, 3] - x), -1)
        return np.cumsum(steps, axis=2, dtype=np.int8)[:, :, :-1].astype(bool)


class Annotation:
    """Painted labels of an image of any size; only blocks with some label take memory.

    It owns its labels: arrays given to it and taken from it are copies, or read-only. One thread
    at a time may write.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image, (z, y, x); a plane has z = 1.
    class_names : sequence of str
        The classes in order; the k-th has the label k.
    block_shape : tuple of int
        Edges of the blocks that are kept, (z, y, x).

    Raises
    ------
    AnnotationError
        If shapes are not three positive numbers, or class names are missing, empty, repeated or
        too many.

    Examples
    --------
    >>> annotation = Annotation((1, 4, 4), ["cell", "membrane"])
    >>> annotation.write(Box((0, 1, 1), (1, 2, 3)), np.array([[[1, 2]]]))
    >>> annotation.counts
    (1, 1)
    """

    def __init__(
        self, shape: Shape, class_names: Sequence[str], *, block_shape: Shape = BLOCK_SHAPE
    ) -> None:
        self.shape: Shape = _checked_shape(shape, "an annotation")
        self.block_shape: Shape = _checked_shape(block_shape, "a block of an annotation")
        self.class_names: tuple[str, ...] = check_class_names(class_names)
        self._blocks: dict[Shape, npt.NDArray[np.uint8]] = {}

    @classmethod
    def from_array(
        cls,
        labels: npt.NDArray[Any],
        class_names: Sequence[str],
        *,
        block_shape: Shape = BLOCK_SHAPE,
    ) -> Annotation:
        """Return the annotation that a dense array (z, y, x) or (y, x) of whole numbers holds.

        Raises
        ------
        AnnotationError
            As `write` does.
        """
        dense = labels[np.newaxis] if labels.ndim == 2 else labels
        if dense.ndim != 3:
            raise AnnotationError(
                f"labels of shape {labels.shape} have {labels.ndim} axes; give (z, y, x) or (y, x)"
            )
        return cls.from_blocks(
            dense.shape, class_names, lambda box: dense[box.slices], block_shape=block_shape
        )

    @classmethod
    def from_source(
        cls,
        source: ImageSource,
        class_names: Sequence[str],
        *,
        block_shape: Shape = BLOCK_SHAPE,
    ) -> Annotation:
        """Return the annotation that a label image of any size holds, read block by block.

        Raises
        ------
        AnnotationError
            If it has several channels, or as `write` does.
        InputError
            If stored data is damaged.
        """
        if source.num_channels != 1:
            raise AnnotationError(
                f"{source.name}: a label image has one channel, this one has "
                f"{source.num_channels}; choose one"
            )
        return cls.from_blocks(
            source.shape, class_names, lambda box: source.read(box)[0], block_shape=block_shape
        )

    @classmethod
    def from_blocks(
        cls,
        shape: Shape,
        class_names: Sequence[str],
        read: Callable[[Box], npt.NDArray[Any]],
        *,
        block_shape: Shape = BLOCK_SHAPE,
    ) -> Annotation:
        """Return the annotation whose labels in a box are ``read(box)``; asks block by block.

        Raises
        ------
        AnnotationError
            As `write` does.
        """
        annotation = cls(shape, class_names, block_shape=block_shape)
        for box in annotation.boxes_touching(Box.of_shape(shape)):
            annotation.write(box, read(box))
        return annotation

    def __repr__(self) -> str:
        return (
            f"<Annotation of {self.shape}: "
            + ", ".join(f"{n} {c}" for n, c in zip(self.class_names, self.counts, strict=True))
            + f" voxels in {len(self._blocks)} block(s)>"
        )

    def __eq__(self, other: object) -> bool:
        """Whether shape, class names and every label agree; blocks may differ."""
        if not isinstance(other, Annotation):
            return NotImplemented
        facts = (self.shape, self.class_names, self.counts)
        if facts != (other.shape, other.class_names, other.counts):
            return False
        # With equal counts, `other` has nothing outside these blocks if it agrees inside them.
        return all(np.array_equal(labels, other.read(box)) for box, labels in self.blocks())

    __hash__ = None  # type: ignore[assignment]  # it can change

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of voxels of each class."""
        length = len(self.class_names) + FIRST_CLASS
        total = np.zeros(length, dtype=np.int64)
        for labels in self._blocks.values():
            total += np.bincount(labels.ravel(), minlength=length)
        return tuple(int(n) for n in total[FIRST_CLASS:])

    @property
    def is_empty(self) -> bool:
        """Whether nothing is annotated."""
        return not self._blocks

    def copy(self) -> Annotation:
        """Return an equal annotation that changes on its own; unchanged blocks are shared."""
        other = Annotation(self.shape, self.class_names, block_shape=self.block_shape)
        other._blocks = dict(self._blocks)
        return other

    def read(self, box: Box) -> npt.NDArray[np.uint8]:
        """Return the labels of a box of the image as a dense array of its shape.

        Raises
        ------
        AnnotationError
            If the box leaves the image.
        """
        self._check_box(box)
        dense = np.zeros(box.shape, dtype=np.uint8)
        for position in self._positions(box):
            labels = self._blocks.get(position)
            if labels is not None:
                block = self._box_at(position)
                common = block.intersection(box)
                dense[common.relative_to(box.start).slices] = labels[
                    common.relative_to(block.start).slices
                ]
        return dense

    def write(self, box: Box, labels: npt.NDArray[Any]) -> None:
        """Replace the labels of a box; 0 erases. Nothing changes if an error is raised.

        Parameters
        ----------
        box : Box
            Part of the image, (z, y, x).
        labels : numpy.ndarray
            Whole numbers of the box's shape: 0 = not annotated, k = the k-th class.

        Raises
        ------
        AnnotationError
            If the box leaves the image, the shapes differ, or the labels are not whole numbers
            from 0 to the number of classes.
        """
        self._check_box(box)
        if labels.shape != box.shape:
            raise AnnotationError(
                f"labels of shape {labels.shape} do not fit a box of shape {box.shape}; give one "
                "label per voxel"
            )
        check_class_labels(labels, self.class_names)
        for position in self._positions(box):
            block = self._box_at(position)
            common = block.intersection(box)
            self._put(
                position,
                common.relative_to(block.start).slices,
                labels[common.relative_to(box.start).slices],
            )

    def blocks(self) -> Iterator[tuple[Box, npt.NDArray[np.uint8]]]:
        """Yield box and labels (read-only) of every annotated block, in C order."""
        for position in sorted(self._blocks):
            yield self._box_at(position), self._blocks[position]

    def block_boxes(self) -> tuple[Box, ...]:
        """Return the boxes of the annotated blocks, cut to the image, in C order."""
        return tuple(box for box, _ in self.blocks())

    def boxes_touching(self, box: Box) -> Iterator[Box]:
        """Yield the boxes of all blocks, annotated or not, that overlap a box of the image."""
        self._check_box(box)
        for position in self._positions(box):
            yield self._box_at(position)

    def bounding_box(self) -> Box:
        """Return the smallest box that holds everything annotated.

        Raises
        ------
        AnnotationError
            If nothing is annotated.
        """
        self.check_annotated()
        corners = []
        for box, labels in self.blocks():
            where = np.nonzero(labels)
            corners.append(
                [(w.min() + a, w.max() + a + 1) for w, a in zip(where, box.start, strict=True)]
            )
        found = np.array(corners)
        return _box(found[:, :, 0].min(axis=0), found[:, :, 1].max(axis=0))

    def check_annotated(self) -> None:
        """Refuse an annotation without any label.

        Raises
        ------
        AnnotationError
            If nothing is annotated.
        """
        if self.is_empty:
            raise AnnotationError(
                f"nothing is annotated in the labels of shape {self.shape}: all are 0; paint some "
                f"voxels of {', '.join(self.class_names)}, or check the kind of the label image"
            )

    def places(self) -> tuple[AnnotatedPlace, ...]:
        """Return the connected parts of what is annotated, whatever their class, in C order.

        Voxels that share a face, an edge or a corner are connected, across blocks too. Together
        the parts hold every annotated voxel exactly once; none = nothing is annotated.
        """
        if self.is_empty:
            return ()
        runs, counts = self._runs()
        parts = connect_runs(runs, self.shape)
        order = np.argsort(parts, kind="stable")
        ends = np.flatnonzero(np.diff(parts[order])) + 1
        return tuple(_place(runs[some], counts[some]) for some in np.split(order, ends))

    def _runs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return all runs along x, cut at blocks, and their voxels of each class."""
        classes = len(self.class_names)
        runs, counts = [], []
        for box, labels in self.blocks():
            mask = labels > 0
            found = find_runs(mask, box.start)
            number = np.repeat(np.arange(len(found)), found[:, 3] - found[:, 2])
            # Indexing by a mask goes through the voxels in C order, as the runs do.
            cells = number * classes + labels[mask] - FIRST_CLASS
            each = np.bincount(cells, minlength=len(found) * classes)
            runs.append(found)
            counts.append(each.reshape(len(found), classes))
        return np.concatenate(runs), np.concatenate(counts)

    def _put(self, position: Shape, where: tuple[slice, ...], labels: npt.NDArray[Any]) -> None:
        old = self._blocks.get(position)
        if old is None and not labels.any():
            return
        new = np.zeros(self._box_at(position).shape, np.uint8) if old is None else old.copy()
        new[where] = labels
        if new.any():
            # Copies share blocks, so a block never changes: it is replaced.
            new.flags.writeable = False
            self._blocks[position] = new
        else:
            self._blocks.pop(position, None)

    def _positions(self, box: Box) -> Iterable[Shape]:
        if box.is_empty:
            return ()
        return itertools.product(
            *(
                range(a // edge, -(-b // edge))
                for a, b, edge in zip(box.start, box.stop, self.block_shape, strict=True)
            )
        )

    def _box_at(self, position: Shape) -> Box:
        start = tuple(i * edge for i, edge in zip(position, self.block_shape, strict=True))
        stop = tuple(
            min(a + edge, n) for a, edge, n in zip(start, self.block_shape, self.shape, strict=True)
        )
        return Box(start, stop)

    def _check_box(self, box: Box) -> None:
        if len(box.start) != 3 or not Box.of_shape(self.shape).contains(box):
            raise AnnotationError(
                f"{box} leaves the image, whose shape is {self.shape}; give a box (z, y, x) "
                "inside it"
            )


def _place(runs: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> AnnotatedPlace:
    runs.flags.writeable = False
    first, last = runs.min(axis=0), runs.max(axis=0)
    box = _box(first[:3], (last[0] + 1, last[1] + 1, last[3]))
    return AnnotatedPlace(box, tuple(int(n) for n in counts.sum(axis=0)), runs)


def _box(start: Iterable[Any], stop: Iterable[Any]) -> Box:
    return Box(tuple(int(a) for a in start), tuple(int(b) for b in stop))


def _checked_shape(shape: Sequence[int], what: str) -> Shape:
    if len(shape) != 3 or any(int(n) < 1 for n in shape):
        raise AnnotationError(
            f"the shape {tuple(shape)} of {what} is not (z, y, x) with positive numbers; a plane "
            "has z = 1"
        )
    return tuple(int(n) for n in shape)
