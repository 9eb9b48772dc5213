"""Scores of class images, from one table of counts per class that adds up over blocks.

Conventions:

- A pixel counts if it is labeled: 0 in the truth is "not annotated" and counts nowhere. 0 in the
  prediction, "not computed", is a wrong answer wherever the truth speaks: its true class misses
  the pixel, and no class claims it.
- Ratios are taken from the summed counts, never averaged over images or blocks.
- A class that is neither in the truth nor in the prediction has no score: it is None, and means
  leave it out. A class that is in one of them only scores 0 (and an error above 0). Nothing is ever
  a NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    import numpy.typing as npt

    Counts = npt.NDArray[np.int64]
    Scores = tuple[float | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """How often each true class was predicted as each class.

    Parameters
    ----------
    counts : numpy.ndarray
        (K, K + 1) int64, read-only: true class down, predicted class across, and what was not
        predicted in the last column; index k - 1 is the k-th class. A table (K, K) is taken too:
        then everything was predicted.

    Raises
    ------
    ConfigError
        If it is no such table of counts.

    Examples
    --------
    >>> blocks = [confusion([1, 2, 0], [1, 1, 2], 2), confusion([2, 2], [2, 0], 2)]
    >>> total = Confusion.total(blocks)
    >>> total.counts.tolist()
    [[1, 0, 0], [1, 1, 1]]
    >>> total.recall
    (1.0, 0.3333333333333333)
    """

    counts: Counts

    def __post_init__(self) -> None:
        table = np.array(self.counts)
        rows, columns = table.shape if table.ndim == 2 else (0, 0)
        fits = 0 < rows <= columns <= rows + 1
        if not fits or table.dtype.kind not in "ui" or (table < 0).any():
            raise ConfigError(
                f"an array of shape {table.shape} and type {table.dtype} is no table of counts; "
                "give whole numbers >= 0, true class down, predicted class across"
            )
        if columns == rows:
            table = np.pad(table, ((0, 0), (0, 1)))
        table = table.astype(np.int64, copy=False)
        table.flags.writeable = False
        object.__setattr__(self, "counts", table)

    @classmethod
    def total(cls, parts: Iterable[Confusion]) -> Confusion:
        """Return the sum of at least one table.

        Raises
        ------
        ConfigError
            If there is none, or their classes differ in number.
        """
        tables = [part.counts for part in parts]
        if not tables or len({table.shape for table in tables}) > 1:
            raise ConfigError(
                f"tables of {sorted({len(t) for t in tables})} classes cannot be added; give at "
                "least one, all of the same classes"
            )
        return cls(np.sum(tables, axis=0))

    def __add__(self, other: Confusion) -> Confusion:
        """Return the counts of both."""
        return Confusion.total((self, other))

    def __eq__(self, other: object) -> bool:
        """Whether all counts agree."""
        if not isinstance(other, Confusion):
            return NotImplemented
        return np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        """Return a number that is the same for equal counts."""
        return hash((self.counts.shape, self.counts.tobytes()))

    @property
    def pixels(self) -> int:
        """Number of pixels that count: the labeled ones."""
        return int(self.counts.sum())

    @property
    def true(self) -> tuple[int, ...]:
        """Pixels of each class in the truth."""
        return tuple(int(n) for n in self.counts.sum(axis=1))

    @property
    def predicted(self) -> tuple[int, ...]:
        """Pixels of each class in the prediction."""
        return tuple(int(n) for n in self.counts.sum(axis=0)[:-1])

    @property
    def unpredicted(self) -> tuple[int, ...]:
        """Pixels of each class in the truth that have no prediction; they are wrong."""
        return tuple(int(n) for n in self.counts[:, -1])

    @property
    def right(self) -> tuple[int, ...]:
        """Pixels of each class that were predicted as that class."""
        return tuple(int(n) for n in np.diagonal(self.counts))

    @property
    def precision(self) -> Scores:
        """Per class: share of the prediction that is right; 0 if the class was never predicted."""
        return self._ratios(1, self.predicted)

    @property
    def recall(self) -> Scores:
        """Per class: share of the truth that was found; 0 if the class is not in the truth."""
        return self._ratios(1, self.true)

    @property
    def f1(self) -> Scores:
        """Per class: harmonic mean of precision and recall, which is also the Dice coefficient."""
        both = (t + p for t, p in zip(self.true, self.predicted, strict=True))
        return self._ratios(2, both)

    @property
    def dice(self) -> Scores:
        """Per class: Dice coefficient of truth and prediction; another name of `f1`."""
        return self.f1

    @property
    def iou(self) -> Scores:
        """Per class: intersection of truth and prediction over their union."""
        rows = zip(self.true, self.predicted, self.right, strict=True)
        return self._ratios(1, (t + p - r for t, p, r in rows))

    @property
    def error(self) -> Scores:
        """Per class: share of all pixels that are of the class or taken for it, but not both."""
        rows = zip(self.true, self.predicted, self.right, strict=True)
        return tuple((t + p - 2 * r) / self.pixels if t or p else None for t, p, r in rows)

    @property
    def mean_f1(self) -> float | None:
        """Mean of `f1` over the classes that have one; None if no pixel counts."""
        return _mean(self.f1)

    @property
    def mean_iou(self) -> float | None:
        """Mean of `iou` over the classes that have one; None if no pixel counts."""
        return _mean(self.iou)

    @property
    def accuracy(self) -> float | None:
        """Share of the pixels whose class is right; None if no pixel counts."""
        return sum(self.right) / self.pixels if self.pixels else None

    @property
    def overall_error(self) -> float | None:
        """Share of the pixels whose class is wrong; None if no pixel counts."""
        return (self.pixels - sum(self.right)) / self.pixels if self.pixels else None

    @property
    def balanced_error(self) -> float | None:
        """1 - mean recall of the classes in the truth; None if no pixel counts.

        A rare class weighs as much as a common one. A class that is only predicted has no part in
        it (its false alarms lower the recall of others).
        """
        recalls = [right / true for right, true in zip(self.right, self.true, strict=True) if true]
        return 1 - sum(recalls) / len(recalls) if recalls else None

    def _ratios(self, factor: int, whole: Iterable[int]) -> Scores:
        rows = zip(self.true, self.predicted, self.right, whole, strict=True)
        return tuple(
            (factor * right / n if n else 0.0) if true or predicted else None
            for true, predicted, right, n in rows
        )


def confusion(true: npt.ArrayLike, predicted: npt.ArrayLike, num_classes: int) -> Confusion:
    """Return the counts of the pixels that are labeled.

    Parameters
    ----------
    true, predicted : array of int
        Class labels of one shape: k = the k-th class. A true 0 is not annotated: left out. A
        predicted 0 is not computed: wrong.
    num_classes : int
        K.

    Raises
    ------
    ConfigError
        If shapes differ, or a label is no whole number from 0 to `num_classes`.
    """
    t, p = np.asarray(true), np.asarray(predicted)
    if t.shape != p.shape:
        raise ConfigError(
            f"classes of shape {p.shape} cannot be compared with labels of shape {t.shape}; give "
            "one predicted class per label"
        )
    for labels, what in ((t, "true"), (p, "predicted")):
        _check_classes(labels, num_classes, what)
    counted = t != UNLABELED
    rows = t[counted].astype(np.int64) - FIRST_CLASS
    # Not predicted, 0, becomes the last column.
    columns = (p[counted].astype(np.int64) - FIRST_CLASS) % (num_classes + 1)
    width = num_classes + 1
    cells = np.bincount(rows * width + columns, minlength=num_classes * width)
    return Confusion(cells.reshape(num_classes, width))


def _check_classes(labels: npt.NDArray[Any], num_classes: int, what: str) -> None:
    legal = num_classes >= 1 and (not labels.size or labels.dtype.kind in "ui")
    if not legal or (labels.size and not 0 <= labels.min() <= labels.max() <= num_classes):
        raise ConfigError(
            f"{what} classes of type {labels.dtype} do not fit {num_classes} classes; give whole "
            f"numbers from 0 (nothing said) to {num_classes}"
        )


def _mean(scores: Scores) -> float | None:
    present = [score for score in scores if score is not None]
    return sum(present) / len(present) if present else None
