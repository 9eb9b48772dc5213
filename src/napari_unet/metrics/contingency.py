"""How many pixels each pair of a predicted and a true object shares, block by block.

All scores of objects and partitions follow from these counts. A table holds the pairs that occur
and no others, so its size grows with the objects and not with the image; tables of blocks of an
image add up to the table of the image, whatever the blocks are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    import numpy.typing as npt

    Ids = npt.NDArray[np.int64]
    Counts = npt.NDArray[np.int64]

BACKGROUND = 0
"""Id of pixels that belong to no object; it is in the table as any other id."""

_LARGEST = np.iinfo(np.int64).max

_PENDING_ROWS = 2_000_000
"""Rows that `Contingency.total` gathers before it merges them (48 bytes each, so about 0.1 GB)."""


@dataclass(frozen=True, slots=True, eq=False)
class Contingency:
    """Pixels shared by pairs of a predicted and a true object, one entry for each pair that occurs.

    Parameters
    ----------
    predicted, true : numpy.ndarray of int64, (n,)
        Ids of each pair, 0 = background; sorted by `true`, then by `predicted`.
    counts : numpy.ndarray of int64, (n,)
        Pixels of each pair, at least 1.

    Examples
    --------
    >>> table = Contingency.of(np.array([0, 7, 7, 7]), np.array([0, 0, 1, 1]))
    >>> list(zip(table.true.tolist(), table.predicted.tolist(), table.counts.tolist()))
    [(0, 0, 1), (0, 7, 1), (1, 7, 2)]
    """

    predicted: Ids
    true: Ids
    counts: Counts

    @classmethod
    def of(
        cls,
        predicted: npt.NDArray[np.integer[Any]],
        true: npt.NDArray[np.integer[Any]],
        ignore: npt.NDArray[np.bool_] | None = None,
    ) -> Contingency:
        """Return the table of two label images, or of one block of them.

        Parameters
        ----------
        predicted, true : numpy.ndarray of integers
            Label images of the same shape, 0 = background.
        ignore : numpy.ndarray of bool, optional
            Of the same shape: True where pixels count nowhere.

        Raises
        ------
        ConfigError
            If shapes differ, labels are not integers, `ignore` is not a mask, or an id is negative
            or too large for int64.
        """
        _check(predicted, true, ignore)
        flat_predicted, flat_true = predicted.reshape(-1), true.reshape(-1)
        if ignore is not None:
            counted = ~ignore.reshape(-1)
            flat_predicted, flat_true = flat_predicted[counted], flat_true[counted]
        if not flat_true.size:
            return cls.empty()
        # Objects are long runs of equal pixels: sorting runs is far quicker than sorting pixels.
        changes = (flat_predicted[1:] != flat_predicted[:-1]) | (flat_true[1:] != flat_true[:-1])
        starts = np.concatenate(([0], np.flatnonzero(changes) + 1))
        lengths = np.diff(starts, append=flat_true.size)
        return _merged(_ids(flat_predicted[starts]), _ids(flat_true[starts]), lengths)

    @classmethod
    def empty(cls) -> Contingency:
        """Return the table of no pixels."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, nothing)

    @classmethod
    def total(cls, parts: Iterable[Contingency]) -> Contingency:
        """Return the sum of any number of tables; that of no tables is empty.

        Memory grows with the pairs of the sum, not with the number of parts.
        """
        pending: list[Contingency] = [cls.empty()]
        rows, limit = 0, _PENDING_ROWS
        for part in parts:
            pending.append(part)
            rows += len(part.counts)
            if rows > limit:
                pending = [_joined(pending)]
                rows = len(pending[0].counts)
                # Twice the rows of the sum: so each row is merged a few times, however many parts.
                limit = max(_PENDING_ROWS, 2 * rows)
        return _joined(pending)

    def __add__(self, other: Contingency) -> Contingency:
        """Return the table of both sets of pixels taken as one; use `total` for many."""
        return _joined([self, other])

    def __eq__(self, other: object) -> bool:
        """Return whether both tables hold the same pairs and counts."""
        if not isinstance(other, Contingency):
            return NotImplemented
        return (
            np.array_equal(self.predicted, other.predicted)
            and np.array_equal(self.true, other.true)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays cannot be keys of a dictionary

    @property
    def pixels(self) -> int:
        """Pixels counted, those of the background included."""
        return int(self.counts.sum())

    def predicted_sizes(self) -> tuple[Ids, Counts]:
        """Return the predicted ids that occur, ascending, and their pixels."""
        return _sizes(self.predicted, self.counts)

    def true_sizes(self) -> tuple[Ids, Counts]:
        """Return the true ids that occur, ascending, and their pixels."""
        return _sizes(self.true, self.counts)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Contingency:
        """Return the table of the chosen pairs alone, one truth value for each pair.

        ``table.where(table.true != BACKGROUND)`` is the table of the pixels of true objects.
        """
        return Contingency(self.predicted[chosen], self.true[chosen], self.counts[chosen])


def _check(
    predicted: npt.NDArray[np.integer[Any]],
    true: npt.NDArray[np.integer[Any]],
    ignore: npt.NDArray[np.bool_] | None,
) -> None:
    for name, labels in (("predicted", predicted), ("true", true)):
        if not np.issubdtype(labels.dtype, np.integer):
            raise ConfigError(
                f"the {name} labels are {labels.dtype}; give a label image of integers, "
                "one id for each object and 0 for the background"
            )
    if predicted.shape != true.shape:
        raise ConfigError(
            f"labels of shape {predicted.shape} and {true.shape} cannot be compared; "
            "give equal shapes"
        )
    if ignore is not None and (ignore.dtype != np.bool_ or ignore.shape != true.shape):
        raise ConfigError(
            f"the pixels to ignore are {ignore.dtype} of shape {ignore.shape}; "
            f"give a mask of bool of shape {true.shape}"
        )


def _ids(labels: npt.NDArray[np.integer[Any]]) -> Ids:
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most > _LARGEST:
        raise ConfigError(
            f"an object has the id {least if least < 0 else most}; number objects from 1 to at "
            f"most {_LARGEST}, 0 is the background"
        )
    return labels.astype(np.int64)


def _joined(parts: list[Contingency]) -> Contingency:
    return _merged(
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.true for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


def _merged(predicted: Ids, true: Ids, counts: Counts) -> Contingency:
    """Return the table of rows in any order, in which pairs may recur."""
    if not counts.size:
        return Contingency.empty()
    span = int(predicted.max()) + 1
    if (int(true.max()) + 1) * span <= _LARGEST:
        order = np.argsort(true * span + predicted)
    else:
        order = np.lexsort((predicted, true))
    predicted, true, counts = predicted[order], true[order], counts[order]
    news = (predicted[1:] != predicted[:-1]) | (true[1:] != true[:-1])
    first = np.concatenate(([0], np.flatnonzero(news) + 1))
    return Contingency(predicted[first], true[first], np.add.reduceat(counts, first))


def _sizes(ids: Ids, counts: Counts) -> tuple[Ids, Counts]:
    if not counts.size:
        return ids, counts
    order = np.argsort(ids)
    ids, counts = ids[order], counts[order]
    first = np.concatenate(([0], np.flatnonzero(ids[1:] != ids[:-1]) + 1))
    return ids[first], np.add.reduceat(counts, first)
