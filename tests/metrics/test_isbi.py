"""The challenge's scores are what its own program printed, and do what their definitions say."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet.errors import ConfigError
from napari_unet.metrics.isbi import (
    CHALLENGE_THRESHOLDS,
    cell_scores,
    pixel_scores,
    warping_scores,
)
from napari_unet.metrics.thinning import connected_cells

DATA = Path(__file__).resolve().parents[1] / "data" / "metrics_ref"
PREDICTIONS = ("identical", "eroded", "shift1px", "gaps", "splits", "smooth_prob")
SECTIONS = (DATA / "expected.txt").read_text(encoding="utf-8").split("\n== ")[1:]


def slices(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    true = tifffile.imread(DATA / "gt.tif") > 0
    return list(zip(tifffile.imread(DATA / f"{name}.tif"), true, strict=True))


def at(name: str) -> tuple[float, ...]:
    return (0.5,) if name == "smooth_prob" else (0.0,)


def swept(name: str) -> tuple[float, ...]:
    return CHALLENGE_THRESHOLDS if name == "smooth_prob" else (0.0,)


def numbers(name: str, line: str) -> list[float]:
    """Return the numbers of the line that begins so, in the sections of a prediction."""
    lines = [
        row
        for section in SECTIONS
        if section.startswith(f"{name}.tif")
        for row in section.splitlines()
        if row.startswith(line)
    ]
    assert len(lines) == 1, lines
    words = lines[0].removeprefix(line).split()
    return [float(word) for word in words if word.replace(".", "", 1).replace("-", "").isdigit()]


@pytest.mark.parametrize("name", PREDICTIONS)
def test_pixels_equal_the_programs(name: str) -> None:
    score = pixel_scores(slices(name), at(name))[0]
    assert [score.error] == pytest.approx(numbers(name, "pixelError"), abs=1e-10)
    found = [score.precision, score.recall, score.f1]
    assert found == pytest.approx(numbers(name, "pixelPRF"), abs=1e-10)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_restricted_scores_equal_the_programs(name: str) -> None:
    score = cell_scores(slices(name), at(name), thin=False)[0]
    assert [score.rand_error] == pytest.approx(numbers(name, "fgRandError"), abs=1e-10)
    rand = [score.rand.precision, score.rand.recall, score.rand.v_rand(), score.rand_index]
    assert rand == pytest.approx(numbers(name, "fgRandIndexStats"), abs=1e-10)
    # The other number of both lines is unrestricted, and wrong even for identical input.
    assert score.voi_nats == pytest.approx(numbers(name, "VI ")[1], abs=1e-10)
    assert score.v_info == pytest.approx(numbers(name, "VInfo")[1], abs=1e-10)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_thinned_scores_equal_the_programs(name: str) -> None:
    score = cell_scores(slices(name), at(name), thin=True)[0]
    found = [score.rand.precision, score.rand.recall, score.v_rand]
    assert found == pytest.approx(numbers(name, "VRandThinned"), abs=1e-10)
    assert score.v_info == pytest.approx(numbers(name, "VInfo")[2], abs=1e-10)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_best_over_thresholds_equals_the_programs(name: str) -> None:
    scores = cell_scores(slices(name), swept(name), thin=True)
    pixels = pixel_scores(slices(name), swept(name))
    found = [
        max(score.v_rand for score in scores),
        max(score.v_info for score in scores),
        max(score.f1 for score in pixels),
    ]
    assert found == pytest.approx(numbers(name, "official max"), abs=1e-10)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_warping_equals_the_programs(name: str) -> None:
    score = warping_scores(slices(name), at(name))[0]
    assert score.error == pytest.approx(numbers(name, "warping(")[0], abs=1e-12)
    found = [score.error, score.clustered_error]
    assert found == pytest.approx(numbers(name, "warping no"), abs=1e-12)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_least_splits_and_mergers_equal_the_programs(name: str) -> None:
    scores = warping_scores(slices(name), swept(name))
    least = min(score.splits_and_mergers for score in scores)
    printed = numbers(name, "official minSplitsMergers")
    assert least == pytest.approx(printed[-1], abs=1e-12)


def test_v_rand_equals_pairs_counted_one_by_one(rng: np.random.Generator) -> None:
    evidence, true = rng.random((9, 8)), rng.random((9, 8)) < 0.7
    cells, objects = connected_cells(evidence > 0.3), connected_cells(true)
    ids = np.where(cells == 0, -1 - np.arange(72).reshape(9, 8), cells)[true].tolist()
    both = predicted = joined = different = 0
    for (p, t), (q, u) in itertools.product(
        zip(ids, objects[true].tolist(), strict=True), repeat=2
    ):
        both += p == q and t == u
        predicted += p == q
        joined += t == u
        different += (p == q) != (t == u)
    score = cell_scores([(evidence, true)], [0.3], thin=False)[0]
    assert score.v_rand == pytest.approx(2 * both / (predicted + joined))
    assert score.rand_error == pytest.approx(different / (len(ids) * (len(ids) - 1)))
    assert score.rand_index == pytest.approx(1 - different / len(ids) ** 2)


def test_stacks_are_read_once_and_any_part_counts(rng: np.random.Generator) -> None:
    evidence, true = rng.random((4, 30, 30)), rng.random((4, 30, 30)) < 0.7
    whole = cell_scores(zip(evidence, true, strict=True), [0.3, 0.6], thin=True)
    single = [cell_scores([pair], [0.6], thin=True)[0] for pair in zip(evidence, true, strict=True)]
    assert whole[1].v_rand == pytest.approx(np.mean([score.v_rand for score in single]))
    assert whole[1].v_info == pytest.approx(np.mean([score.v_info for score in single]))
    assert whole[1].rand.both == pytest.approx(sum(score.rand.both for score in single))
    warped = warping_scores(zip(evidence, true, strict=True), [0.6])[0]
    parts = [warping_scores([pair], [0.6])[0] for pair in zip(evidence, true, strict=True)]
    assert warped.error == pytest.approx(np.mean([part.error for part in parts]))
    assert warped.total == evidence.size


def test_slices_without_a_true_cell_do_not_count_for_cells(rng: np.random.Generator) -> None:
    evidence, true = rng.random((20, 20)), rng.random((20, 20)) < 0.7
    nothing = np.zeros_like(true)
    both = [(evidence, true), (evidence, nothing)]
    assert cell_scores(both, [0.5], thin=True) == cell_scores(both[:1], [0.5], thin=True)
    assert pixel_scores(both, [0.5])[0].total == 800


def test_width_of_borders_counts_only_before_thinning() -> None:
    true = np.ones((20, 21), bool)
    true[:, 10] = False
    wide = np.ones_like(true)
    wide[:, 8:13] = False
    plain = cell_scores([(wide, true)], [0.5], thin=False)[0]
    thinned = cell_scores([(wide, true)], [0.5], thin=True)[0]
    assert plain.v_rand < 1 == thinned.v_rand == thinned.v_info
    assert thinned.voi_nats == 0


def test_values_without_any_cell_are_numbers() -> None:
    nothing, everything = np.zeros((5, 5)), np.ones((5, 5), bool)
    thinned = cell_scores([(nothing, everything)], [0.5], thin=True)[0]
    assert thinned.v_rand == thinned.v_info == 1
    plain = cell_scores([(nothing, everything)], [0.5], thin=False)[0]
    assert plain.v_rand == pytest.approx(2 * 25 / (25 + 625))
    assert (plain.v_info, plain.voi_nats) == (0, pytest.approx(math.log(25)))
    pixels = pixel_scores([(nothing, ~everything)], [0.5])[0]
    assert (pixels.error, pixels.precision, pixels.recall, pixels.f1) == (0, 1, 1, 1)


def test_thresholds_are_those_of_the_leaderboard() -> None:
    assert len(CHALLENGE_THRESHOLDS) == 11
    assert pytest.approx(np.linspace(0, 1, 11)) == CHALLENGE_THRESHOLDS
    # 0.9 + 0.1 in steps: below 1, so a pixel of 1 is cell at every threshold.
    assert CHALLENGE_THRESHOLDS[-1] < 1


def test_what_cannot_be_scored_is_refused() -> None:
    mask, numbers_ = np.ones((3, 3), bool), np.ones((3, 3))
    for function in (
        lambda pairs, at=(0.5,): cell_scores(pairs, at, thin=True),
        warping_scores,
        pixel_scores,
    ):
        with pytest.raises(ConfigError, match="there is no threshold; give at least one"):
            function([(numbers_, mask)], ())
        with pytest.raises(ConfigError, match="cannot be compared; give equal shapes"):
            function([(numbers_[:2], mask)], (0.5,))
        with pytest.raises(ConfigError, match="cells are float64"):
            function([(numbers_, numbers_)], (0.5,))
    with pytest.raises(ConfigError, match="no slice of the truth has a cell"):
        cell_scores([(numbers_, ~mask)], thin=True)
    for function in (warping_scores, pixel_scores):
        with pytest.raises(ConfigError, match="there is no pixel to score"):
            function([])
