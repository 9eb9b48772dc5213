"""Which places come first: the least sure ones, or random ones, but never many of one kind.

Neighbors look alike: painting in one of them tells what there is to know about the others. So the
least sure place comes first, then the least sure one that is some way from it, and so on; only if
there are too few such places does the way become shorter.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.app.suggesting.places import centers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from napari_unet.app.suggesting.places import PlaceGrid
    from napari_unet.core.boxes import Box
    from napari_unet.core.suggest_events import SuggestedPlace
    from napari_unet.core.suggest_job import Ranking

APART = 2.0
"""Least distance of two places, in edges of a place, as long as there are enough others."""

TRIES = 200
"""Places that are tried for each one that is wanted: of a sparse image most may be empty."""

ROOT_STEPS = 60
"""Of a fixed-point iteration that gains a digit in two steps."""


@dataclass(frozen=True, slots=True)
class RankingRules:
    """How places are put into order.

    Parameters
    ----------
    ranking : {"random", "entropy", "margin", "disagreement", "mixed"}
        What decides.
    count : int
        Places wanted.
    apart : float
        Least distance of two of them, in voxels of y and x.
    anisotropy : float
        Length of a voxel in z over that in y and x.
    """

    ranking: Ranking
    count: int
    apart: float
    anisotropy: float = 1.0


def score_of(place: SuggestedPlace, ranking: Ranking) -> float:
    """Return how much a place is worth to be painted in; 0 where chance decides."""
    match ranking:
        case "margin":
            return place.margin
        case "disagreement":
            return place.disagreement or 0.0
        case "entropy" | "mixed":
            return place.entropy
    return 0.0


def rank_places(
    places: Sequence[SuggestedPlace], rules: RankingRules, chance: np.random.Generator
) -> tuple[SuggestedPlace, ...]:
    """Return the best places in order, with their ranks.

    Parameters
    ----------
    places : sequence of SuggestedPlace
        What was looked at; they do not overlap. For the ranking "random" they are in order already.
    rules : RankingRules
        What decides.
    chance : numpy.random.Generator
        For the ranking "mixed".
    """
    if rules.ranking == "random":
        return _numbered(places[: rules.count])
    worth = np.array([score_of(place, rules.ranking) for place in places])
    best = [int(k) for k in np.argsort(-worth, kind="stable")]
    orders = [best]
    if rules.ranking == "mixed":
        orders.append([int(k) for k in chance.permutation(len(places))])
    middles = centers([place.box for place in places]) * (rules.anisotropy, 1, 1)
    chosen: list[int] = []
    apart = rules.apart
    while len(chosen) < min(rules.count, len(places)):
        _take(chosen, orders, middles, (rules.count, apart))
        apart = apart / 2 if apart > 1 else 0.0
    return _numbered([places[k] for k in chosen])


def _take(
    chosen: list[int],
    orders: list[list[int]],
    middles: npt.NDArray[np.float64],
    limits: tuple[int, float],
) -> None:
    """Add places from the orders in turn that lie far enough from those chosen before."""
    count, apart = limits
    ways = [iter(order) for order in orders]
    while len(chosen) < count:
        found = None
        for way in ways[len(chosen) % len(ways) :] + ways[: len(chosen) % len(ways)]:
            found = next((k for k in way if _is_far(k, chosen, middles, apart)), None)
            if found is not None:
                break
        if found is None:
            return
        chosen.append(found)


def _is_far(
    number: int, chosen: Sequence[int], middles: npt.NDArray[np.float64], apart: float
) -> bool:
    if not chosen:
        return True
    gaps = np.abs(middles[list(chosen)] - middles[number]).max(axis=1)
    # 0 is the distance of a place from itself.
    return bool((gaps >= max(apart, 1e-9)).all())


def spread_places(
    grid: PlaceGrid, count: int, is_free: Callable[[Box], bool], chance: np.random.Generator
) -> list[Box]:
    """Return random places, any first few of which are spread evenly; each is as likely as others.

    Parameters
    ----------
    grid : PlaceGrid
        The places.
    count : int
        How many are wanted; fewer come back if no more are found.
    is_free : callable
        Whether a place may be taken.
    chance : numpy.random.Generator
        Decides where the sequence begins.
    """
    chosen: dict[int, Box] = {}
    tried: set[int] = set()
    tries = TRIES * count
    numbers = itertools.islice(_even_numbers(grid, chance), tries)
    # The sequence may pass a few by; where there are not many, all are tried.
    rest = chance.permutation(len(grid)).tolist() if len(grid) <= tries else ()
    for number in itertools.chain(numbers, rest):
        if len(chosen) == count:
            break
        if number in tried:
            continue
        tried.add(number)
        box = grid.box(number)
        if is_free(box):
            chosen[number] = box
    return list(chosen.values())


def _even_numbers(grid: PlaceGrid, chance: np.random.Generator) -> Iterator[int]:
    """Yield numbers of places for ever, such that any first few are spread evenly.

    Notes
    -----
    The additive recurrence of M. Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences"
    (2018), over the axes along which there are several places: its steps are powers of the root of
    x ** (d + 1) = x + 1, the golden ratio for d = 1.
    """
    counts = np.array(grid.counts)
    several = np.flatnonzero(counts > 1)
    root = 1.5
    for _ in range(ROOT_STEPS):
        root = (1 + root) ** (1 / (len(several) + 1))
    steps = np.zeros(len(counts))
    steps[several] = root ** -np.arange(1.0, len(several) + 1)
    start = chance.random(len(counts))
    for k in itertools.count():
        cell = ((start + k * steps) % 1 * counts).astype(np.int64)
        yield int(np.ravel_multi_index(tuple(cell), grid.counts))


def _numbered(places: Sequence[SuggestedPlace]) -> tuple[SuggestedPlace, ...]:
    return tuple(replace(place, rank=k) for k, place in enumerate(places, start=1))
