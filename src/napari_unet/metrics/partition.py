"""How well two partitions of an image into objects agree.

Everything follows from the table of shared pixels (`Contingency`), so the scores stream over
blocks: add up the tables of the blocks, and score the sum. Conventions, the same for all scores
here unless said otherwise:

- Pixels whose *true* id is 0 do not count: membrane, or not annotated (the "foreground
  restriction" of the ISBI 2012 challenge).
- A *predicted* 0 where the truth speaks is a number like any other: all such pixels form one
  object. `UnmatchedPixels` names the other conventions.
- A volume is scored with one table, so ids must hold across slices; the score of slices is the mean
  over those that have a counted pixel, and their ids need not be unique across slices.
- Entropies are in bits.

The scores of the ISBI 2012 challenge, which takes other conventions, are in `isbi`.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from napari_unet.errors import ConfigError
from napari_unet.metrics.agreement import InformationScore, PartitionScore, RandScore
from napari_unet.metrics.contingency import BACKGROUND, Contingency

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    import numpy.typing as npt

UnmatchedPixels = Literal["object", "singletons", "ignore"]
"""What a predicted 0 is where the truth has an object: all of them one ``"object"`` (scikit-image),
each pixel an object of its own (``"singletons"``, the challenge), or not counted (``"ignore"``)."""

IGNORED = BACKGROUND
"""True id of pixels that do not count."""


def rand_score(
    table: Contingency,
    *,
    unmatched: UnmatchedPixels = "object",
    background: bool = False,
    self_pairs: bool = False,
) -> RandScore:
    """Return the pairs of pixels joined in both partitions, and in either.

    Parameters
    ----------
    table : Contingency
        Shared pixels of the image.
    unmatched : {"object", "singletons", "ignore"}
        What a predicted 0 is where the truth has an object.
    background : bool
        True counts the pixels whose true id is 0 too, as one object.
    self_pairs : bool
        True counts ordered pairs, and each pixel with itself as one: n * n pairs of n pixels, as
        the challenge's V_Rand does; False counts the n * (n - 1) / 2 pairs of different pixels, as
        scikit-image does. The difference vanishes for large objects.

    Raises
    ------
    ConfigError
        If no pixel counts, or `unmatched` is none of the three.
    """
    matched, alone = _counted(table, unmatched, background=background)
    true_sizes = (matched + alone).true_sizes()[1]

    def joined(sizes: npt.NDArray[np.int64]) -> float:
        exact = sizes.astype(np.float64)
        # An exact sum: renumbered objects score the same to the last bit.
        return math.fsum(exact * exact if self_pairs else exact * (exact - 1) / 2)

    singles = float(alone.pixels) if self_pairs else 0.0
    return RandScore(
        both=joined(matched.counts) + singles,
        predicted=joined(matched.predicted_sizes()[1]) + singles,
        true=joined(true_sizes),
        pairs=joined(true_sizes.sum(keepdims=True)),
    )


def information_score(
    table: Contingency, *, unmatched: UnmatchedPixels = "object", background: bool = False
) -> InformationScore:
    """Return the entropies of both partitions, and of each when the other is known.

    Parameters
    ----------
    table : Contingency
        Shared pixels of the image.
    unmatched : {"object", "singletons", "ignore"}
        What a predicted 0 is where the truth has an object.
    background : bool
        True counts the pixels whose true id is 0 too, as one object.

    Raises
    ------
    ConfigError
        If no pixel counts, or `unmatched` is none of the three.
    """
    matched, alone = _counted(table, unmatched, background=background)
    true_ids, true_sizes = (matched + alone).true_sizes()
    ids, predicted_sizes = matched.predicted_sizes()
    of_true = true_sizes[np.searchsorted(true_ids, matched.true)]
    of_alone = true_sizes[np.searchsorted(true_ids, alone.true)]
    of_predicted = predicted_sizes[np.searchsorted(ids, matched.predicted)]
    pixels = int(true_sizes.sum())
    split = _bits(matched.counts, of_true / matched.counts) + _bits(alone.counts, of_alone)
    entropy = _bits(predicted_sizes, pixels / predicted_sizes) + alone.pixels * math.log2(pixels)
    return InformationScore(
        split=split / pixels,
        merge=_bits(matched.counts, of_predicted / matched.counts) / pixels,
        predicted=entropy / pixels,
        true=_bits(true_sizes, pixels / true_sizes) / pixels,
    )


def table_score(table: Contingency, *, unmatched: UnmatchedPixels = "object") -> PartitionScore:
    """Return the agreement of one image, or of one volume taken as a whole.

    Parameters
    ----------
    table : Contingency
        Shared pixels; those of blocks of an image add up with `Contingency.total`.
    unmatched : {"object", "singletons", "ignore"}
        What a predicted 0 is where the truth has an object.

    Raises
    ------
    ConfigError
        If no pixel counts, or `unmatched` is none of the three.
    """
    pairs = rand_score(table, unmatched=unmatched)
    bits = information_score(table, unmatched=unmatched)
    return PartitionScore(
        bits.split, bits.merge, pairs.adapted_error, pairs.precision, pairs.recall
    )


def mean_score(
    tables: Iterable[Contingency], *, unmatched: UnmatchedPixels = "object"
) -> PartitionScore:
    """Return the mean agreement over slices, one table each; slices without truth are left out.

    Raises
    ------
    ConfigError
        If no pixel counts in any slice, or `unmatched` is none of the three.
    """
    scores = [
        table_score(table, unmatched=unmatched)
        for table in tables
        if _has_counted(table, unmatched)
    ]
    if not scores:
        raise ConfigError(_nothing_counts(unmatched))
    columns = [field.name for field in fields(PartitionScore)]
    means = (float(np.mean([getattr(score, name) for score in scores])) for name in columns)
    return PartitionScore(*means)


def slice_tables(
    predicted: npt.NDArray[np.integer[Any]],
    true: npt.NDArray[np.integer[Any]],
    ignore: npt.NDArray[np.bool_] | None = None,
) -> Iterator[Contingency]:
    """Yield the table of each slice.

    Parameters
    ----------
    predicted, true : numpy.ndarray
        Label images, (Y, X) or (Z, Y, X).
    ignore : numpy.ndarray of bool, optional
        Of the same shape: True where pixels count nowhere.

    Raises
    ------
    ConfigError
        If shapes differ or arrays are not 2D or 3D, or as `Contingency.of` does.
    """
    if predicted.shape != true.shape or true.ndim not in (2, 3):
        raise ConfigError(
            f"partitions of shape {predicted.shape} and {true.shape} cannot be compared; "
            "give equal shapes (y, x) or (z, y, x)"
        )
    volume = (-1, *true.shape[-2:])
    masks = None if ignore is None else ignore.reshape(volume)
    pairs = zip(predicted.reshape(volume), true.reshape(volume), strict=True)
    for z, (p, t) in enumerate(pairs):
        yield Contingency.of(p, t, None if masks is None else masks[z])


def partition_score(
    predicted: npt.NDArray[np.integer[Any]],
    true: npt.NDArray[np.integer[Any]],
    *,
    unmatched: UnmatchedPixels = "object",
) -> PartitionScore:
    """Return the mean agreement over slices; see the module for what counts.

    Parameters
    ----------
    predicted, true : numpy.ndarray
        Numbered objects, (Y, X) or (Z, Y, X).
    unmatched : {"object", "singletons", "ignore"}
        What a predicted 0 is where the truth has an object.

    Raises
    ------
    ConfigError
        If shapes differ, arrays are not 2D or 3D, or no pixel counts.
    """
    return mean_score(slice_tables(predicted, true), unmatched=unmatched)


def _counted(
    table: Contingency, unmatched: UnmatchedPixels, *, background: bool
) -> tuple[Contingency, Contingency]:
    """Return the pairs of objects that count, and those whose pixels are each an object."""
    if unmatched not in get_args(UnmatchedPixels):
        raise ConfigError(
            f"unmatched pixels cannot be {unmatched!r}; choose one of "
            f"{', '.join(get_args(UnmatchedPixels))}"
        )
    matched, alone = table, Contingency.empty()
    if not background:
        matched = matched.where(matched.true != BACKGROUND)
    if unmatched != "object":
        empty = matched.predicted == BACKGROUND
        if unmatched == "singletons":
            alone = matched.where(empty)
        matched = matched.where(~empty)
    if not matched.counts.size and not alone.counts.size:
        raise ConfigError(_nothing_counts(unmatched))
    return matched, alone


def _has_counted(table: Contingency, unmatched: UnmatchedPixels) -> bool:
    counted = table.true != BACKGROUND
    if unmatched == "ignore":
        counted &= table.predicted != BACKGROUND
    return bool(counted.any())


def _nothing_counts(unmatched: UnmatchedPixels) -> str:
    also = " or have no predicted object" if unmatched == "ignore" else ""
    return (
        f"no pixel of the true objects counts: all are {IGNORED}{also}; "
        "number the objects from 1, and compare images that overlap"
    )


def _bits(counts: npt.NDArray[np.int64], ratios: npt.NDArray[Any]) -> float:
    """Return the exact sum of counts times the binary logarithm of ratios."""
    return math.fsum(counts * np.log2(ratios))
