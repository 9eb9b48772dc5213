"""Which blocks are held out: a seeded search for parts with every class and room between them.

All three parts keep the gap from each other. What lies in a gap between training and a held-out
block is in no part, so blocks are chosen that cost little: neighbors of chosen ones, or blocks with
empty space around them. The search prefers many separate groups of blocks to few large ones.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.training.blocks import Pieces

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]

NOWHERE, TRAIN, SELECTION, JUDGING = -1, 0, 1, 2
"""The parts of a split; what lies in a gap is nowhere."""

HELD_OUT = (SELECTION, JUDGING)

GROUPS = (8, 4, 2, 1)
"""Separate groups of blocks per held-out part that are tried, in this order."""

TRIALS = 6
"""Random trials for each number of groups; the best is taken."""

MANY_BLOCKS = 64
"""Of fewer blocks, in proportion, more trials are made: each costs less, and few are legal."""

LEFT_OUT = 0.5
"""How often a class that can hardly be spared has no say in where the first blocks are."""

LEAST_OF_CLASS = 0.6
"""Of the voxels of each class, in training: a class that is rare is needed there most. One in two
places, or in three alike, is then in no, or only one, held-out part."""

MOST_UNEVEN = 0.1
"""How much further from the middle than need be two halves may be cut."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a split has to fulfill.

    Parameters
    ----------
    share : float
        Of all annotated voxels that each held-out part aims at.
    least_train, least_share, most_share : float
        Bounds of the shares of training and of each held-out part.
    least_blocks : int
        Blocks of each held-out part.
    least_of_class : float
        Bound of the share of each class that training keeps; it keeps some of it in any case.
    all_classes : bool
        Whether each held-out part must hold each class of which training keeps enough then, see
        `Conflicts.wanted`.
    many_groups : bool
        Whether many separate groups of blocks matter more than labels lost in gaps.
    """

    share: float
    least_train: float
    least_share: float
    most_share: float
    least_blocks: int
    least_of_class: float = LEAST_OF_CLASS
    all_classes: bool = True
    many_groups: bool = True


@dataclass(frozen=True, eq=False)
class Conflicts:
    """Pieces in blocks, and which are too near to be in different parts.

    Parameters
    ----------
    near : numpy.ndarray
        (B, n) bool: whether a piece is nearer than the gap to some piece of the block. True for
        the block's own.
    block : numpy.ndarray
        (n,) int64, ascending: the block of each piece.
    counts : numpy.ndarray
        (n, K) voxels of each class.
    """

    near: Bools
    block: Ints
    counts: Ints

    @cached_property
    def starts(self) -> Ints:
        """First piece of each block."""
        starts: Ints = np.searchsorted(self.block, np.arange(len(self.near)))
        return starts

    @cached_property
    def near_numbers(self) -> Floats:
        """`near` as numbers, for products."""
        return self.near.astype(np.float64)

    @cached_property
    def block_counts(self) -> Ints:
        """(B, K) voxels of each class in each block."""
        counts: Ints = np.add.reduceat(self.counts, self.starts)
        return counts

    @cached_property
    def total(self) -> Ints:
        """(K,) voxels of each class."""
        total: Ints = self.counts.sum(axis=0)
        return total

    def wanted(self, least_of_class: float) -> Bools:
        """Return, (K,), whether each part could hold the class while training keeps that share.

        There are blocks for all three, and what the two poorest hold can be spared.
        """
        blocks = np.sort(np.where(self.block_counts > 0, self.block_counts, self.total + 1), axis=0)
        enough = (self.block_counts > 0).sum(axis=0) >= 3
        spare = self.total - blocks[:2].sum(axis=0) >= least_of_class * self.total
        return np.asarray(enough & spare, dtype=bool)


def find_conflicts(pieces: Pieces, gap: int, gap_slices: int) -> Conflicts:
    """Return which pieces are too near to others to be in another part.

    Two pieces are far enough apart if at least `gap` pixels lie between their boxes along y or x,
    or `gap_slices` slices along z, or they are in different volumes. That is the shape of what a
    network sees, a box, too.
    """
    reach = np.array([0, gap_slices, gap, gap])
    near = np.zeros((pieces.num_blocks, len(pieces.block)), bool)
    starts = np.searchsorted(pieces.block, np.arange(pieces.num_blocks + 1))
    for b, (start, stop) in enumerate(itertools.pairwise(starts)):
        low, high = pieces.low[start:stop], pieces.high[start:stop]
        bounds = low.min(axis=0) - reach, high.max(axis=0) + reach
        some = np.flatnonzero(((pieces.low < bounds[1]) & (pieces.high > bounds[0])).all(axis=1))
        found = np.ones((stop - start, len(some)), bool)
        for axis in range(4):
            found &= pieces.low[some, axis] < (high[:, axis] + reach[axis])[:, np.newaxis]
            found &= pieces.high[some, axis] > (low[:, axis] - reach[axis])[:, np.newaxis]
        near[b, some] = found.any(axis=0)
    return Conflicts(near, pieces.block, pieces.counts)


def hold_out(conflicts: Conflicts, rules: Rules, rng: np.random.Generator) -> Ints | None:
    """Return the part of each piece, or None if no split was found.

    Parameters
    ----------
    conflicts : Conflicts
        At least one piece.
    rules : Rules
        What is asked of it.
    rng : numpy.random.Generator
        Chance.
    """
    if len(conflicts.near) <= 2 * rules.least_blocks:
        return None
    best, least = None, np.inf
    for groups in GROUPS:
        for _ in range(TRIALS * max(1, MANY_BLOCKS // len(conflicts.near))):
            trial = _Trial(conflicts, rules, rng)
            score = trial.run(groups)
            if score < least:
                best, least = trial.part_of_piece, score
        if best is not None and rules.many_groups:
            break
    return best


def halve(conflicts: Conflicts, pieces: Pieces) -> Ints:
    """Return the part of each piece: one half of the blocks selects, the other judges.

    The blocks are cut in two where they lie: along the axis and at the place, near the middle, that
    leave both halves the most. Pieces that select but are too near to the others are nowhere. A
    single block selects.
    """
    best = np.full(len(pieces.block), SELECTION)
    most = 0.0
    number = np.diff(conflicts.starts, append=len(pieces.block))
    middle = np.add.reduceat(pieces.low + pieces.high, conflicts.starts) / number[:, np.newaxis]
    size = conflicts.block_counts.sum(axis=1)
    for axes in ((0, 1, 2, 3), (3, 0, 1, 2), (2, 0, 1, 3), (1, 0, 2, 3)):
        order = np.lexsort(middle[:, axes[::-1]].T)
        share = np.cumsum(size[order])[:-1] / size.sum()
        near_middle = np.abs(share - 0.5) <= np.abs(share - 0.5).min(initial=1) + MOST_UNEVEN
        for first in np.flatnonzero(near_middle) + 1:
            judges = np.zeros(len(size), bool)
            judges[order[first:]] = True
            part = np.where(judges[conflicts.block], JUDGING, SELECTION)
            part[(part == SELECTION) & conflicts.near[judges].any(axis=0)] = NOWHERE
            held = np.stack([conflicts.counts[part == p].sum(axis=0) for p in HELD_OUT])
            classes = np.count_nonzero((held > 0).all(axis=0))
            gain = held.sum(axis=1).min() / size.sum()
            if gain > 0 and classes + gain > most:
                best, most = part, classes + gain
    return best


class _Trial:
    """One attempt: blocks are added to the two held-out parts until they have their share."""

    def __init__(self, conflicts: Conflicts, rules: Rules, rng: np.random.Generator) -> None:
        self.conflicts = conflicts
        self.rules = rules
        self.rng = rng
        self.part = np.zeros(len(conflicts.near), np.int64)
        self.near = np.zeros((3, len(conflicts.block)), bool)
        self.have = np.zeros((3, len(conflicts.total)))
        self.all = float(conflicts.total.sum())

    def run(self, groups: int) -> float:
        """Choose blocks and return how good the choice is: lower is better, inf = illegal."""
        self._add_classes()
        for _ in range(groups - 1):
            for part in HELD_OUT:
                self._add_random(part)
        while any(self._add_cheapest(part) for part in self._lacking()):
            pass
        return self._score()

    @property
    def part_of_piece(self) -> Ints:
        """The part of each piece."""
        part: Ints = self.part[self.conflicts.block]
        part[(part == TRAIN) & self.near[list(HELD_OUT)].any(axis=0)] = NOWHERE
        return part

    def _add_classes(self) -> None:
        """Give each held-out part a block of each class, the rarest first."""
        holds = self.conflicts.block_counts > 0
        wanted = self.conflicts.wanted(self.rules.least_of_class)
        for k in np.argsort(holds.sum(axis=0), kind="stable"):
            if not wanted[k] and self.rng.random() < LEFT_OUT:
                continue
            for part in self.rng.permutation(HELD_OUT):
                if self.have[part, k] == 0:
                    cost = np.where(holds[:, k], self._costs(part), np.inf)
                    legal = np.flatnonzero(np.isfinite(cost))
                    if len(legal):
                        # Often one of the cheaper half, but each has its chance.
                        few = -(-len(legal) // self.rng.integers(1, 3))
                        cheap = legal[np.argsort(cost[legal])][:few]
                        self._add(int(self.rng.choice(cheap)), part)

    def _add_random(self, part: int) -> None:
        if self._share(part) < self.rules.share:
            legal = np.flatnonzero(np.isfinite(self._costs(part)))
            if len(legal):
                self._add(int(self.rng.choice(legal)), part)

    def _add_cheapest(self, part: int) -> bool:
        """Give a part the block that costs least; return whether there was any."""
        costs = self._costs(part) * self.rng.uniform(1, 1.2, len(self.part))
        best = int(np.argmin(costs))
        found = bool(np.isfinite(costs[best]))
        if found:
            self._add(best, part)
        return found

    def _lacking(self) -> list[int]:
        """Return the held-out parts that have too little, the poorest first."""
        lacking = [
            part
            for part in HELD_OUT
            if self._share(part) < self.rules.share
            or np.count_nonzero(self.part == part) < self.rules.least_blocks
        ]
        return sorted(lacking, key=self._share)

    def _share(self, part: int) -> float:
        return float(self.have[part].sum()) / self.all

    def _costs(self, part: int) -> Floats:
        """Return, per block, the voxels lost in gaps for one voxel gained; inf = not allowed."""
        conflicts, rules = self.conflicts, self.rules
        other = SELECTION + JUDGING - part
        free = (self.part[conflicts.block] == TRAIN) & ~self.near.any(axis=0)
        left = conflicts.counts * free[:, np.newaxis]
        taken = conflicts.near_numbers @ left
        own = np.add.reduceat(left, conflicts.starts).sum(axis=1)
        gain = conflicts.block_counts.sum(axis=1)
        train = left.sum(axis=0) - taken
        allowed = self.part == TRAIN
        allowed &= ~np.logical_or.reduceat(self.near[other], conflicts.starts)
        allowed &= self._keeps_classes(train)
        allowed &= train.sum(axis=1) >= rules.least_train * self.all
        allowed &= self.have[part].sum() + gain <= rules.most_share * self.all
        return np.where(allowed, (taken.sum(axis=1) - own + 1e-3 * gain) / gain, np.inf)

    def _keeps_classes(self, train: Floats) -> Bools:
        """Return whether training has enough of each class, for (..., K) voxels of it."""
        least = np.maximum(self.rules.least_of_class * self.conflicts.total, 1)
        return np.asarray(((train >= least) | (self.conflicts.total == 0)).all(axis=-1))

    def _add(self, block: int, part: int) -> None:
        self.part[block] = part
        self.near[part] |= self.conflicts.near[block]
        self.have[part] += self.conflicts.block_counts[block]

    def _score(self) -> float:
        conflicts, rules = self.conflicts, self.rules
        held = self.have[list(HELD_OUT)]
        blocks = [np.count_nonzero(self.part == part) for part in HELD_OUT]
        part = self.part_of_piece
        train = conflicts.counts[part == TRAIN].sum(axis=0)
        wanted = conflicts.wanted(rules.least_of_class)
        missing = np.count_nonzero(held[:, wanted] == 0)
        legal = (
            min(blocks) >= rules.least_blocks
            and held.sum(axis=1).min() >= rules.least_share * self.all
            and train.sum() >= rules.least_train * self.all
            and not (rules.all_classes and missing)
        )
        if not legal:
            return np.inf
        shares = held / np.maximum(conflicts.total, 1)
        uneven = np.abs(shares - rules.share)[:, conflicts.total > 0].mean()
        lost = conflicts.counts[part == NOWHERE].sum() / self.all
        outweighed = np.count_nonzero((train < held).any(axis=0))
        return float(missing + outweighed + lost + uneven)
