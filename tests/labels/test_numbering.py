"""Numbers that chains of pairs connect are one object, and objects are counted without a gap."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.labels.numbering import NOWHERE, final_numbers, join_pairs

pair_lists = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=20)


def parts_by_hand(pairs: list[tuple[int, int]], ids: set[int]) -> set[frozenset[int]]:
    """Return the sets of numbers that pairs connect, by merging sets one pair at a time."""
    parts = {frozenset({i}) for i in ids}
    for one, other in pairs:
        touched = {part for part in parts if one in part or other in part}
        parts = (parts - touched) | {frozenset().union(*touched)}
    return parts


@given(pair_lists, st.integers(0, 2**40))
def test_pairs_join_what_chains_connect(pairs: list[tuple[int, int]], offset: int) -> None:
    ids, groups = join_pairs(np.array(pairs, dtype=np.int64).reshape(-1, 2) + offset)
    assert ids.tolist() == sorted({i + offset for pair in pairs for i in pair})
    found = {frozenset((ids[groups == g] - offset).tolist()) for g in np.unique(groups)}
    assert found == parts_by_hand(pairs, {i for pair in pairs for i in pair})
    assert set(groups.tolist()) == set(range(len(found)))


@given(pair_lists, st.permutations(range(16)), st.sets(st.integers(0, 15)))
def test_objects_are_numbered_by_their_first_voxel(
    pairs: list[tuple[int, int]], firsts: list[int], missing: set[int]
) -> None:
    voxels = np.array([NOWHERE if i in missing else 100 * firsts[i] for i in range(16)])
    numbers, count = final_numbers(voxels, np.array(pairs, dtype=np.int64).reshape(-1, 2))
    parts = parts_by_hand(pairs, set(range(16)))
    seen = [part for part in parts if not part <= missing]
    seen.sort(key=lambda part: min(voxels[list(part)]))
    assert count == len(seen)
    expected = np.zeros(16, dtype=int)
    for number, part in enumerate(seen, start=1):
        expected[list(part)] = number
    assert np.array_equal(numbers, expected)


def test_many_numbers_in_one_chain_are_one_object() -> None:
    chain = np.arange(200_000)
    pairs = np.stack([chain[:-1], chain[1:]], axis=1)
    numbers, count = final_numbers(chain[::-1].copy(), pairs)
    assert count == 1
    assert (numbers == 1).all()


def test_nothing_is_no_object() -> None:
    numbers, count = final_numbers(np.empty(0, dtype=np.int64), np.empty((0, 2), dtype=np.int64))
    assert (numbers.size, count) == (0, 0)
