"""Tables of shared pixels equal pixels counted one by one, in blocks or at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from skimage.metrics import contingency_table

from napari_unet.errors import ConfigError
from napari_unet.metrics import contingency
from napari_unet.metrics.contingency import Contingency

if TYPE_CHECKING:
    from collections.abc import Iterator


def rows(table: Contingency) -> list[tuple[int, int, int]]:
    """Return (true, predicted, pixels) of each pair, in the order of the table."""
    return list(
        zip(table.true.tolist(), table.predicted.tolist(), table.counts.tolist(), strict=True)
    )


def by_hand(
    predicted: np.ndarray, true: np.ndarray, ignore: np.ndarray | None = None
) -> list[tuple[int, int, int]]:
    skipped = np.zeros(true.shape, bool) if ignore is None else ignore
    pixels = zip(true.flat, predicted.flat, skipped.flat, strict=True)
    counted = Counter((int(t), int(p)) for t, p, gone in pixels if not gone)
    return [(t, p, n) for (t, p), n in sorted(counted.items())]


def blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the arrays in blocks of (2, 3, 5), those at the end cut short."""
    shape = arrays[0].shape
    for corner in np.ndindex(*(-(-n // b) for n, b in zip(shape, (2, 3, 5), strict=True))):
        box = tuple(slice(c * b, (c + 1) * b) for c, b in zip(corner, (2, 3, 5), strict=True))
        yield tuple(array[box] for array in arrays)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
def test_equals_pixels_counted_one_by_one(dtype: str, rng: np.random.Generator) -> None:
    true = rng.integers(0, 4, (3, 7, 11)).astype(dtype)
    predicted = rng.integers(0, 90, (3, 7, 11)).astype(dtype)
    ignore = rng.random(true.shape) < 0.3
    assert rows(Contingency.of(predicted, true)) == by_hand(predicted, true)
    assert rows(Contingency.of(predicted, true, ignore)) == by_hand(predicted, true, ignore)


def test_agrees_with_scikit_image(rng: np.random.Generator) -> None:
    true, predicted = rng.integers(0, 12, (2, 30, 30))
    table = Contingency.of(predicted, true)
    dense = contingency_table(true, predicted).toarray()
    assert np.array_equal(dense[table.true, table.predicted], table.counts)
    assert table.pixels == dense.sum() == 900


def test_ids_as_large_as_int64_keep_their_order() -> None:
    most = np.iinfo(np.int64).max
    true = np.array([most, 1, most, 0], np.uint64)
    predicted = np.array([3, most, 2, most])
    expected = [(0, most, 1), (1, most, 1), (most, 2, 1), (most, 3, 1)]
    assert rows(Contingency.of(predicted, true)) == expected


def test_sizes_are_those_of_the_objects(rng: np.random.Generator) -> None:
    true, predicted = rng.integers(0, 9, (2, 20, 20)) * 13
    table = Contingency.of(predicted, true)
    for labels, (ids, sizes) in (
        (predicted, table.predicted_sizes()),
        (true, table.true_sizes()),
    ):
        expected, counts = np.unique(labels, return_counts=True)
        assert np.array_equal(ids, expected)
        assert np.array_equal(sizes, counts)


@pytest.mark.parametrize("pending", [1, 50, 10**6])
def test_blocks_add_up_to_the_whole(
    pending: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contingency, "_PENDING_ROWS", pending)
    true, predicted = rng.integers(0, 20, (2, 5, 8, 12))
    ignore = rng.random(true.shape) < 0.1
    parts = [Contingency.of(*some) for some in blocks(predicted, true, ignore)]
    whole = Contingency.of(predicted, true, ignore)
    assert Contingency.total(parts) == whole == Contingency.total(reversed(parts))
    assert sum(parts, start=Contingency.empty()) == whole
    assert whole != Contingency.of(predicted, true)


def test_no_pixels_make_an_empty_table() -> None:
    nothing = np.zeros((0, 5), np.uint8)
    everything = np.ones((4, 5), bool)
    empty = Contingency.of(nothing, nothing)
    labels = np.ones((4, 5), int)
    assert empty == Contingency.empty() == Contingency.total([])
    assert Contingency.of(labels, labels, everything) == empty
    assert empty.pixels == 0
    assert [part.size for part in (*empty.true_sizes(), *empty.predicted_sizes())] == [0] * 4


def test_pairs_can_be_chosen(rng: np.random.Generator) -> None:
    true, predicted = rng.integers(0, 3, (2, 9, 9))
    table = Contingency.of(predicted, true)
    assert table.where(table.true != 0) == Contingency.of(predicted, true, true == 0)


def test_what_is_no_pair_of_label_images_is_refused() -> None:
    labels = np.ones((3, 3), int)
    with pytest.raises(ConfigError, match=r"predicted labels are float64; give a label image"):
        Contingency.of(labels / 2, labels)
    with pytest.raises(ConfigError, match=r"true labels are bool; give a label image"):
        Contingency.of(labels, labels > 0)
    with pytest.raises(ConfigError, match=r"shape \(3, 2\) and \(3, 3\).*give equal shapes"):
        Contingency.of(labels[:, :2], labels)
    with pytest.raises(ConfigError, match=r"give a mask of bool of shape \(3, 3\)"):
        Contingency.of(labels, labels, labels)
    with pytest.raises(ConfigError, match="has the id -1; number objects from 1"):
        Contingency.of(-labels, labels)
    with pytest.raises(ConfigError, match="has the id 9223372036854775808; number objects"):
        Contingency.of(labels, np.full((3, 3), 2**63, np.uint64))
