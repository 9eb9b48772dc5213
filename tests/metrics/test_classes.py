"""Scores of classes equal their definitions, counted pixel by pixel, and add up over blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
)

from napari_unet.errors import ConfigError
from napari_unet.metrics.classes import Confusion, confusion

labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40)


def ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def by_hand(pairs: list[tuple[int, int]], k: int) -> tuple[float, float, float, float] | None:
    """Return precision, recall, F1 and IoU of a class, as scikit-learn defines them."""
    counted = [(t, p) for t, p in pairs if t]
    hit = sum(t == p == k for t, p in counted)
    false_alarm = sum(p == k != t for t, p in counted)
    missed = sum(t == k != p for t, p in counted)
    if not hit + false_alarm + missed:
        return None
    precision, recall = ratio(hit, hit + false_alarm), ratio(hit, hit + missed)
    harmonic = 2 * precision * recall / (precision + recall) if hit else 0.0
    return precision, recall, harmonic, hit / (hit + false_alarm + missed)


def table(pairs: list[tuple[int, int]]) -> Confusion:
    true, predicted = np.array(pairs, dtype=np.uint8).reshape(-1, 2).T
    return confusion(true, predicted, 3)


@given(labels)
def test_every_score_is_its_definition(pairs: list[tuple[int, int]]) -> None:
    counts = table(pairs)
    expected = [by_hand(pairs, k) for k in (1, 2, 3)]
    rows = zip(counts.precision, counts.recall, counts.f1, counts.iou, strict=True)
    for found, wanted in zip(rows, expected, strict=True):
        if wanted is None:
            assert found == (None,) * 4
        else:
            assert found == pytest.approx(wanted)
    present = [row for row in expected if row is not None]
    if present:
        assert counts.mean_f1 == pytest.approx(np.mean([row[2] for row in present]))
        assert counts.mean_iou == pytest.approx(np.mean([row[3] for row in present]))
        counted = [t == p for t, p in pairs if t]
        assert counts.accuracy == pytest.approx(np.mean(counted))
        assert counts.overall_error == pytest.approx(1 - np.mean(counted))
    else:
        assert (counts.mean_f1, counts.mean_iou, counts.accuracy) == (None, None, None)
        assert (counts.overall_error, counts.balanced_error) == (None, None)
    assert counts.dice == counts.f1


@given(labels, labels)
def test_counts_of_blocks_add_up_to_the_counts_of_the_whole(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    assert table(one) + table(other) == table(one + other)
    assert Confusion.total([table(one), table(other)]).pixels == sum(
        bool(t) for t, _ in one + other
    )


def test_a_known_table() -> None:
    """Worked out by hand: 3 of 4 membrane pixels found, one false alarm; a class that is absent."""
    counts = Confusion(np.array([[3, 1, 0], [1, 5, 0], [0, 0, 0]]))
    assert counts.f1 == (6 / 8, 10 / 12, None)
    assert counts.iou == (3 / 5, 5 / 7, None)
    assert counts.accuracy == 8 / 10
    assert (counts.true, counts.predicted, counts.right) == ((4, 6, 0), (4, 6, 0), (3, 5, 0))


def test_what_is_not_predicted_is_wrong_where_the_truth_speaks() -> None:
    """Three pixels of class 1, one of them without prediction; none of class 2 is claimed."""
    counts = confusion([1, 1, 1, 2, 0], [1, 1, 0, 2, 0], 2)
    assert counts.counts.tolist() == [[2, 0, 1], [0, 1, 0]]
    assert (counts.unpredicted, counts.predicted, counts.true) == ((1, 0), (2, 1), (3, 1))
    assert counts.precision == (1, 1)
    assert counts.recall == (2 / 3, 1)
    assert counts.iou == (2 / 3, 1)
    assert counts.f1 == (4 / 5, 1)
    assert counts.accuracy == 3 / 4
    assert counts.error == (1 / 4, 0)
    nothing = confusion([1, 1], [0, 0], 2)
    assert nothing.f1 == (0, None)
    assert (nothing.accuracy, nothing.balanced_error) == (0, 1)


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    """With 0 as one more class of the prediction, whose own scores are not asked for."""
    rng = np.random.default_rng(seed)
    true = rng.integers(1, 5, 300)
    predicted = np.where(rng.random(300) < 0.5, true, rng.integers(0, 5, 300))
    counts = confusion(true, predicted, 4)
    kinds = {"labels": [1, 2, 3, 4], "average": None}
    assert counts.precision == pytest.approx(precision_score(true, predicted, **kinds))
    assert counts.recall == pytest.approx(recall_score(true, predicted, **kinds))
    assert counts.f1 == pytest.approx(f1_score(true, predicted, **kinds))
    assert counts.iou == pytest.approx(jaccard_score(true, predicted, **kinds))
    assert counts.accuracy == pytest.approx(accuracy_score(true, predicted))
    recalls = recall_score(true, predicted, labels=[1, 2, 3, 4], average="macro")
    assert counts.balanced_error == pytest.approx(1 - recalls)
    table = confusion_matrix(true, predicted, labels=[1, 2, 3, 4, 0])
    assert counts.counts.tolist() == table[:4].tolist()


@given(labels)
def test_the_error_of_a_class_is_that_of_its_mask(pairs: list[tuple[int, int]]) -> None:
    counted = [(t, p) for t, p in pairs if t]
    for k, found in enumerate(table(pairs).error, start=1):
        present = any(k in pair for pair in counted)
        wrong = sum((t == k) != (p == k) for t, p in counted)
        assert found == (pytest.approx(wrong / len(counted)) if present else None)


def test_a_class_that_is_only_predicted_has_no_part_in_the_balanced_error() -> None:
    counts = confusion([1, 1, 1, 1, 2], [1, 1, 1, 3, 1], 3)
    assert counts.balanced_error == pytest.approx(1 - (3 / 4 + 0) / 2)


def test_a_square_table_says_that_everything_was_predicted() -> None:
    square = Confusion(np.array([[3, 1], [2, 4]]))
    assert square == Confusion(np.array([[3, 1, 0], [2, 4, 0]]))
    assert square.unpredicted == (0, 0)
    assert square != Confusion(np.array([[3, 1, 1], [2, 4, 0]]))


def test_a_class_that_is_only_predicted_scores_zero() -> None:
    assert confusion([1, 1], [1, 2], 2).f1 == (2 / 3, 0)


def test_counts_cannot_be_changed_afterwards() -> None:
    source = np.ones((2, 2), int)
    counts = Confusion(source)
    source[0, 0] = 9
    assert counts.pixels == 4
    with pytest.raises(ValueError, match="read-only"):
        counts.counts[0, 0] = 9
    assert len({counts, Confusion(np.ones((2, 2), np.uint8))}) == 1


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([1, 2], [1], "one predicted class per label"),
        ([1, 3], [1, 1], "true classes of type int64 do not fit 2 classes"),
        ([1, 2], [1, -1], "predicted classes"),
        ([1.0, 2.0], [1, 1], "whole numbers from 0"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    true: list[float], predicted: list[float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        confusion(true, predicted, 2)


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="no table of counts"):
        Confusion(np.ones((2, 4), int))
    with pytest.raises(ConfigError, match="no table of counts"):
        Confusion(np.ones((3, 2), int))
    with pytest.raises(ConfigError, match="no table of counts"):
        Confusion(-np.ones((2, 2), int))
    with pytest.raises(ConfigError, match="no table of counts"):
        Confusion(np.ones((2, 2)))
    with pytest.raises(ConfigError, match="cannot be added"):
        Confusion(np.ones((2, 2), int)) + Confusion(np.ones((3, 3), int))
    with pytest.raises(ConfigError, match="cannot be added"):
        Confusion.total([])
