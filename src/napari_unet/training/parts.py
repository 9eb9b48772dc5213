"""What a split is: three annotations per volume, and the held-out blocks they consist of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.annotation import Annotation
from napari_unet.core.boxes import Box
from napari_unet.training.blocks import VOLUME, X0, X1, Y, Z
from napari_unet.training.hold_out import JUDGING, NOWHERE, SELECTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from napari_unet.training.blocks import AnnotatedRuns, Pieces

    Ints = npt.NDArray[np.int64]
    Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class VolumeSplit:
    """Three annotations of one volume that have no voxel in common."""

    train: Annotation
    selection: Annotation
    judging: Annotation


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutBlock:
    """Held-out labels that are resampled together.

    Parameters
    ----------
    volume : int
        Which of the volumes.
    box : Box
        The smallest box around its labels, (z, y, x). Boxes of two blocks may overlap.
    annotation : Annotation
        Its labels alone: read `box` of it, not of the whole part.
    """

    volume: int
    box: Box
    annotation: Annotation


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Annotations in three parts.

    Parameters
    ----------
    volumes : tuple of VolumeSplit
        In the order in which the annotations were given.
    selection_blocks, judging_blocks : tuple of HeldOutBlock
        The held-out labels, each once.
    gap : int
        Pixels along y or x that lie at least between labels of different parts of a volume; 0 if
        no volume holds labels of two parts.
    gap_slices : int
        Slices that lie between them at least where the gap is along z instead.
    note : str
        What was held out, or why nothing was, in a few sentences.
    """

    volumes: tuple[VolumeSplit, ...]
    selection_blocks: tuple[HeldOutBlock, ...]
    judging_blocks: tuple[HeldOutBlock, ...]
    gap: int
    gap_slices: int
    note: str

    @property
    def has_selection(self) -> bool:
        """Whether there are labels to choose weights by."""
        return bool(self.selection_blocks)

    @property
    def has_claim(self) -> bool:
        """Whether there are labels to judge weights by."""
        return bool(self.judging_blocks)


def nothing_held_out(annotations: Sequence[Annotation], note: str) -> Split:
    """Return a split in which copies of all annotations are learnt from."""
    volumes = []
    for annotation in annotations:
        shape, names = annotation.shape, annotation.class_names
        empty = [Annotation(shape, names, block_shape=annotation.block_shape) for _ in range(2)]
        volumes.append(VolumeSplit(annotation.copy(), *empty))
    return Split(tuple(volumes), (), (), 0, 0, note)


def assemble(
    annotations: Sequence[Annotation], pieces: Pieces, part: Ints
) -> tuple[tuple[VolumeSplit, ...], tuple[HeldOutBlock, ...], tuple[HeldOutBlock, ...]]:
    """Return the three annotations of each volume, and the blocks of selection and of judging.

    Parameters
    ----------
    annotations : sequence of Annotation
        Where the labels are.
    pieces : Pieces
        All of their labels.
    part : numpy.ndarray
        (n,) int64: the part of each piece.
    """
    volumes = []
    blocks: dict[int, list[HeldOutBlock]] = {SELECTION: [], JUDGING: []}
    of_run = part[pieces.piece]
    for number, annotation in enumerate(annotations):
        here = pieces.runs[:, VOLUME] == number
        split = _extract(annotation, pieces.runs[here], of_run[here] - NOWHERE, 3)
        volumes.append(VolumeSplit(*split))
        for held_out, found in blocks.items():
            found += _blocks(annotation, pieces, number, part == held_out)
    return tuple(volumes), tuple(blocks[SELECTION]), tuple(blocks[JUDGING])


def _blocks(
    annotation: Annotation, pieces: Pieces, volume: int, wanted: npt.NDArray[np.bool_]
) -> list[HeldOutBlock]:
    """Return the blocks of one volume that the wanted pieces make."""
    wanted = wanted & (pieces.low[:, 0] == volume)
    names, code_of_piece = np.unique(pieces.block[wanted], return_inverse=True)
    codes = np.zeros(len(wanted), np.int64)
    codes[wanted] = code_of_piece + 1
    here = pieces.runs[:, VOLUME] == volume
    labels = _extract(annotation, pieces.runs[here], codes[pieces.piece[here]], len(names))
    result = []
    for code, own in enumerate(labels, start=1):
        low = pieces.low[codes == code, 1:].min(axis=0)
        high = pieces.high[codes == code, 1:].max(axis=0)
        box = Box(tuple(int(a) for a in low), tuple(int(b) for b in high))
        result.append(HeldOutBlock(volume, box, own))
    return result


def extract_part(
    annotations: Sequence[Annotation], found: AnnotatedRuns, wanted: npt.NDArray[np.bool_]
) -> list[Annotation]:
    """Return what the wanted runs hold of each volume."""
    result = []
    for number, annotation in enumerate(annotations):
        runs = found.runs[wanted & (found.runs[:, VOLUME] == number)]
        result += _extract(annotation, runs, np.ones(len(runs), np.int64), 1)
    return result


def _extract(annotation: Annotation, runs: Ints, codes: Ints, count: int) -> list[Annotation]:
    """Return the annotations that hold only the voxels of the codes 1 to `count`.

    Parameters
    ----------
    annotation : Annotation
        Where the labels are.
    runs : numpy.ndarray
        (r, 6) its runs, as in `AnnotatedRuns`.
    codes : numpy.ndarray
        (r,) int64: code of each run; 0 = in none.
    count : int
        Number of annotations wanted.
    """
    parts = [
        Annotation(annotation.shape, annotation.class_names, block_shape=annotation.block_shape)
        for _ in range(count)
    ]
    if not codes.any():
        return parts
    wanted = codes > 0
    for box, labels, voxels, code in _coded_blocks(annotation, runs[wanted], codes[wanted]):
        for k in np.unique(code):
            own = np.zeros(labels.size, labels.dtype)
            own[voxels[code == k]] = labels.ravel()[voxels[code == k]]
            parts[k - 1].write(box, own.reshape(labels.shape))
    return parts


def _coded_blocks(
    annotation: Annotation, runs: Ints, codes: Ints
) -> Iterator[tuple[Box, Labels, Ints, Ints]]:
    """Yield box, labels, which voxels of them the runs hold, and the codes of these."""
    edges = np.array(annotation.block_shape)
    grid = -(-np.array(annotation.shape) // edges)
    position = np.ravel_multi_index(tuple((runs[:, Z : X0 + 1] // edges).T), tuple(grid))
    order = np.argsort(position, kind="stable")
    names, starts = np.unique(position[order], return_index=True)
    groups = dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
    for box, labels in annotation.blocks():
        group = groups.get(int(np.ravel_multi_index(tuple(box.start // edges), tuple(grid))))
        if group is None:
            continue
        first = np.ravel_multi_index(
            tuple((runs[group][:, [Z, Y, X0]] - np.array(box.start)).T), labels.shape
        )
        length = runs[group, X1] - runs[group, X0]
        step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        yield box, labels, np.repeat(first, length) + step, np.repeat(codes[group], length)
