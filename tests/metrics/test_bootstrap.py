"""Verdicts are symmetric, silent where nothing differs, and right as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, norm, t

from napari_unet.errors import ConfigError
from napari_unet.metrics.bootstrap import (
    MIN_BLOCKS,
    class_differences,
    f1_of,
    mean_f1,
    paired_difference,
    standard_error,
)
from napari_unet.metrics.classes import Confusion

Blocks = list[Confusion]


def blocks_of(rng: np.random.Generator, count: int, gain: float) -> tuple[Blocks, Blocks]:
    """Return simulated counts of blocks of unequal size and difficulty, before and after."""
    before, after = [], []
    for _ in range(count):
        quality = np.clip(rng.normal(0.8, 0.08), 0.3, 0.98)
        sizes = rng.integers(10, 50), rng.integers(30, 150)
        for parts, shift in ((before, 0.0), (after, gain + rng.normal(0, 0.04))):
            share = float(np.clip(quality + shift, 0.05, 0.99))
            right = [int(rng.binomial(n, share)) for n in sizes]
            wrong = [int(n) - r for n, r in zip(sizes, right, strict=True)]
            parts.append(Confusion(np.array([[right[0], wrong[0]], [wrong[1], right[1]]])))
    return before, after


def test_the_interval_holds_the_truth_as_often_as_it_says(rng: np.random.Generator) -> None:
    """Ten blocks, 100 experiments: 95 % less what few blocks cost; never far below 90 %."""
    large = blocks_of(rng, 4000, 0.03)
    truth = Confusion.total(large[1]).mean_f1 - Confusion.total(large[0]).mean_f1
    held = []
    for seed in range(100):
        found = paired_difference(*blocks_of(rng, 10, 0.03), resamples=120, seed=seed)
        held.append(found.low <= truth <= found.high)
    assert 0.87 <= np.mean(held) <= 0.99


def test_without_a_true_difference_verdicts_are_rare(rng: np.random.Generator) -> None:
    verdicts = [
        paired_difference(*blocks_of(rng, 10, 0.0), resamples=120, seed=seed).verdict
        for seed in range(100)
    ]
    assert verdicts.count("no difference shown") >= 88


def test_a_clear_difference_is_shown(rng: np.random.Generator) -> None:
    found = paired_difference(*blocks_of(rng, 12, 0.12), seed=1)
    assert found.verdict == "better"
    assert 0 < found.low < found.difference < found.high
    assert found.difference == found.after - found.before
    assert (found.blocks, found.reason) == (12, "")


@pytest.mark.parametrize("gain", [-0.1, 0.0, 0.02, 0.1])
def test_exchanging_the_two_mirrors_everything(rng: np.random.Generator, gain: float) -> None:
    before, after = blocks_of(rng, 9, gain)
    forth = paired_difference(before, after, resamples=500, seed=3)
    back = paired_difference(after, before, resamples=500, seed=3)
    assert (back.before, back.after) == (forth.after, forth.before)
    assert (-back.high, -back.low) == pytest.approx((forth.low, forth.high))
    mirrored = {"better": "worse", "worse": "better"}
    assert back.verdict == mirrored.get(forth.verdict, forth.verdict)


def test_identical_weights_differ_nowhere(rng: np.random.Generator) -> None:
    blocks, _ = blocks_of(rng, 20, 0.0)
    found = paired_difference(blocks, blocks, resamples=200, seed=0)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert found.verdict == "no difference shown"


def test_the_same_seed_gives_the_same_interval(rng: np.random.Generator) -> None:
    before, after = blocks_of(rng, 8, 0.05)
    one, same, other = (
        paired_difference(before, after, resamples=200, seed=seed) for seed in (4, 4, 5)
    )
    assert one == same != other


def test_the_interval_is_that_of_scipy_at_the_widened_level(rng: np.random.Generator) -> None:
    before, after = blocks_of(rng, 15, 0.05)
    found = paired_difference(before, after, resamples=4000, seed=0)

    def difference(index: np.ndarray, axis: int) -> np.ndarray:
        pools = [
            [Confusion.total([parts[i] for i in row]) for row in np.atleast_2d(index)]
            for parts in (before, after)
        ]
        return np.array([b.mean_f1 - a.mean_f1 for a, b in zip(*pools, strict=True)])

    level = 1 - 2 * norm.sf(np.sqrt(15 / 14) * t.ppf(0.975, 14))
    expected = bootstrap(
        (np.arange(15),),
        difference,
        n_resamples=2000,
        confidence_level=level,
        method="percentile",
        vectorized=True,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.012)


def test_too_few_blocks_allow_no_verdict(rng: np.random.Generator) -> None:
    found = paired_difference(*blocks_of(rng, MIN_BLOCKS - 1, 0.3), seed=0)
    assert found.verdict == "no difference shown"
    assert (found.low, found.high) == (None, None)
    assert found.difference == pytest.approx(found.after - found.before)
    assert "4 judging block(s)" in found.reason
    assert paired_difference(*blocks_of(rng, MIN_BLOCKS, 0.3), seed=0).low is not None


def test_blocks_without_the_class_do_not_count_for_it() -> None:
    """One block knows the class, however many others there are: no claim about it."""
    plain = Confusion(np.array([[9, 0], [0, 0]]))
    poor, good = (Confusion(np.array(c)) for c in ([[5, 0], [4, 1]], [[5, 0], [0, 5]]))
    first, second = class_differences([poor] + [plain] * 30, [good] + [plain] * 30, seed=0)
    assert (second.before, second.after) == (pytest.approx(2 / 6), 1)
    assert second.verdict == "no difference shown"
    assert "1 judging block(s)" in second.reason
    assert first.blocks == 31


def test_a_class_that_is_absent_has_no_difference() -> None:
    plain = [Confusion(np.array([[9, 0], [0, 0]]))] * 6
    found = class_differences(plain, plain, seed=0)[1]
    assert (found.before, found.after, found.difference, found.low) == (None,) * 4
    assert "no label in the judging blocks" in found.reason
    nothing = paired_difference([], [], seed=0)
    assert (nothing.blocks, nothing.verdict) == (0, "no difference shown")


def test_each_class_is_compared_by_itself(rng: np.random.Generator) -> None:
    before, after = blocks_of(rng, 8, 0.05)
    for k, found in enumerate(class_differences(before, after, resamples=100, seed=2), start=1):
        assert found == paired_difference(before, after, f1_of(k), resamples=100, seed=2)
        assert found.before == Confusion.total(before).f1[k - 1]
    assert mean_f1(Confusion.total(before)) == Confusion.total(before).mean_f1


def test_the_standard_error_is_that_of_repeated_experiments(rng: np.random.Generator) -> None:
    """Eight blocks: the spread over 250 experiments, and what each experiment says of it."""
    experiments = [blocks_of(rng, 8, 0.0)[0] for _ in range(250)]
    scores = [Confusion.total(blocks).mean_f1 for blocks in experiments]
    errors = [standard_error(blocks, resamples=50, seed=k) for k, blocks in enumerate(experiments)]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(scores), rel=0.12)


def test_the_standard_error_is_that_of_scipy(rng: np.random.Generator) -> None:
    blocks, _ = blocks_of(rng, 9, 0.0)

    def score(index: np.ndarray, axis: int) -> np.ndarray:
        return np.array(
            [Confusion.total([blocks[i] for i in row]).mean_f1 for row in np.atleast_2d(index)]
        )

    expected = bootstrap((np.arange(9),), score, n_resamples=1000, vectorized=True).standard_error
    found = standard_error(blocks, resamples=2000, seed=1)
    assert found == pytest.approx(float(expected) * np.sqrt(9 / 8), rel=0.1)
    assert found == standard_error(blocks, resamples=2000, seed=1)


def test_without_two_blocks_there_is_no_standard_error(rng: np.random.Generator) -> None:
    blocks, _ = blocks_of(rng, 1, 0.0)
    nothing = Confusion(np.zeros((2, 2), np.int64))
    assert standard_error([], seed=0) == standard_error(blocks, seed=0) == 0
    assert standard_error([*blocks, nothing, nothing], seed=0) == 0
    assert standard_error(blocks * 5, seed=0) == pytest.approx(0)
    with pytest.raises(ConfigError, match="cannot be compared"):
        standard_error(blocks, resamples=0, seed=0)


def test_blocks_that_do_not_pair_are_refused(rng: np.random.Generator) -> None:
    before, after = blocks_of(rng, 6, 0.0)
    with pytest.raises(ConfigError, match="the same blocks"):
        paired_difference(before, after[:-1], seed=0)
    with pytest.raises(ConfigError, match="the same blocks"):
        paired_difference(before, [Confusion(np.ones((3, 3), int))] * 6, seed=0)
    with pytest.raises(ConfigError, match="at least one resample"):
        paired_difference(before, after, resamples=0, seed=0)
