"""Ranking: the worst first, never two neighbors while others are left; chance is even."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.app.suggesting.places import PlaceGrid, centers
from napari_unet.app.suggesting.ranking import RankingRules, rank_places, spread_places
from napari_unet.core.boxes import Box
from napari_unet.core.suggest_events import SuggestedPlace

GRID = PlaceGrid(Box((0, 0, 0), (5, 80, 60)), 10)


def places_of(grid: PlaceGrid, rng: np.random.Generator) -> list[SuggestedPlace]:
    boxes = [grid.box(k) for k in range(len(grid))]
    worth = rng.random((len(boxes), 3))
    return [
        SuggestedPlace(0, box, 0.5, float(e), float(m), float(d), "")
        for box, (e, m, d) in zip(boxes, worth, strict=True)
    ]


def gaps(boxes: list[Box], anisotropy: float = 1.0) -> np.ndarray:
    """Return the distance of each from the nearest other one."""
    middles = centers(boxes) * (anisotropy, 1, 1)
    distance = np.abs(middles[:, None] - middles[None]).max(axis=2)
    np.fill_diagonal(distance, np.inf)
    return distance.min(axis=1)


@pytest.mark.parametrize("ranking", ["entropy", "margin", "disagreement"])
def test_without_a_distance_the_order_is_that_of_the_measure(
    ranking: str, rng: np.random.Generator
) -> None:
    places = places_of(GRID, rng)
    ranked = rank_places(places, RankingRules(ranking, 12, 0.0), rng)  # type: ignore[arg-type]
    expected = sorted(places, key=lambda place: -float(getattr(place, ranking)))[:12]
    assert [place.box for place in ranked] == [place.box for place in expected]
    assert [place.rank for place in ranked] == list(range(1, 13))


def test_places_stay_apart_and_each_is_the_worst_that_may_follow(rng: np.random.Generator) -> None:
    places = places_of(GRID, rng)
    ranked = rank_places(places, RankingRules("entropy", 8, 20.0), rng)
    boxes = [place.box for place in ranked]
    assert gaps(boxes).min() >= 20
    for k, place in enumerate(ranked):
        earlier = centers(boxes[:k])
        allowed = [
            p.entropy
            for p in places
            if p.box not in boxes[:k]
            and (k == 0 or np.abs(earlier - centers([p.box])).max(axis=1).min() >= 20)
        ]
        assert place.entropy == max(allowed)


def test_slices_count_by_the_length_of_their_voxels(rng: np.random.Generator) -> None:
    deep = PlaceGrid(Box((0, 0, 0), (30, 10, 10)), 10)
    near = rank_places(places_of(deep, rng), RankingRules("entropy", 3, 20.0, 4.0), rng)
    assert gaps([place.box for place in near], 4.0).min() >= 20


def test_where_there_are_too_few_they_come_nearer(rng: np.random.Generator) -> None:
    places = places_of(GRID, rng)
    ranked = rank_places(places, RankingRules("margin", len(places) + 5, 20.0), rng)
    assert sorted(p.box.start for p in ranked) == sorted(p.box.start for p in places)
    assert rank_places([], RankingRules("margin", 3, 20.0), rng) == ()


def test_mixed_takes_the_worst_and_chance_in_turn(rng: np.random.Generator) -> None:
    places = places_of(GRID, rng)
    ranked = rank_places(places, RankingRules("mixed", 6, 0.0), np.random.default_rng(3))
    again = rank_places(places, RankingRules("mixed", 6, 0.0), np.random.default_rng(4))
    worst = sorted((p.entropy for p in places), reverse=True)
    assert [p.entropy for p in ranked[::2]] == worst[:3]
    assert [p.box for p in ranked[1::2]] != [p.box for p in again[1::2]]
    assert len({p.box for p in ranked}) == 6


def test_random_places_keep_their_order(rng: np.random.Generator) -> None:
    places = places_of(GRID, rng)
    ranked = rank_places(places, RankingRules("random", 5, 20.0), rng)
    assert [p.box for p in ranked] == [p.box for p in places[:5]]


def test_chance_finds_every_free_place_once(rng: np.random.Generator) -> None:
    def is_free(box: Box) -> bool:
        return box.start[0] != 2

    found = spread_places(GRID, len(GRID), is_free, rng)
    free = [GRID.box(k) for k in range(len(GRID)) if is_free(GRID.box(k))]
    assert sorted(box.start for box in found) == sorted(box.start for box in free)
    assert spread_places(GRID, 3, lambda _: False, rng) == []


def test_chance_spreads_places_over_slices_and_planes() -> None:
    nearest, by_chance = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = spread_places(GRID, 10, lambda _: True, rng)
        assert {box.start[0] for box in found} == set(range(5))
        nearest.append(gaps(found, 16).min())
        drawn = [GRID.box(int(k)) for k in rng.choice(len(GRID), 10, replace=False)]
        by_chance.append(gaps(drawn, 16).min())
    assert np.mean(nearest) > 1.3 * np.mean(by_chance)


def test_each_place_is_as_likely_as_others() -> None:
    grid = PlaceGrid(Box((0, 0, 0), (2, 40, 30)), 10)
    counts = np.zeros(len(grid))
    numbers = {grid.box(k): k for k in range(len(grid))}
    for seed in range(1200):
        (box,) = spread_places(grid, 1, lambda _: True, np.random.default_rng(seed))
        counts[numbers[box]] += 1
    # 24 places, 50 times each: five standard deviations.
    assert np.abs(counts - 50).max() < 5 * 50**0.5


def test_huge_images_are_not_listed() -> None:
    grid = PlaceGrid(Box((0, 0, 0), (100_000, 10**6, 10**6)), 96)
    found = spread_places(grid, 5, lambda _: True, np.random.default_rng(0))
    assert len(set(found)) == 5
    plane = PlaceGrid(Box((7, 0, 0), (8, 10, 10)), 96)
    assert spread_places(plane, 5, lambda _: True, np.random.default_rng(0)) == [plane.region]
