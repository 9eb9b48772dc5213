"""Blocks are stitched by any rule, in any order, with little memory, and can be stopped."""

from __future__ import annotations

import threading
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.errors import InputError, TilingError
from napari_unet.labels.block_grid import BlockGrid, Schedule
from napari_unet.labels.components import label_components, same_voxels
from napari_unet.labels.stitching import BlockStitched, finish, object_type, stitch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_unet.core.boxes import Box

Labels = npt.NDArray[np.uint32]


def into(found: npt.NDArray[Any]) -> Callable[[int], Callable[[Box, npt.NDArray[Any]], None]]:
    """Return an output that lies in memory."""
    return lambda count: lambda box, objects: found.__setitem__(box.slices, objects)


@st.composite
def grids(draw: st.DrawFn) -> BlockGrid:
    shape = tuple(draw(st.integers(1, n)) for n in (4, 9, 9))
    edges = tuple(draw(st.integers(1, n + 1)) for n in shape)
    margin = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in shape)
    return BlockGrid(shape, edges, margin)


@dataclass(frozen=True)
class Given:
    """Gives each block the objects of a known whole under numbers of its own, in disorder."""

    whole: npt.NDArray[np.int64]

    def label(self, box: Box) -> Labels:
        part = self.whole[box.slices]
        ids = np.unique(part[part > 0])
        own = np.random.default_rng(abs(hash(box))).permutation(len(ids)) + 1
        labels = np.zeros(part.shape, dtype=np.uint32)
        for k, number in zip(ids, own, strict=True):
            labels[part == k] = number
        return labels

    def join(self, box: Box, lower: Labels, upper: Labels) -> npt.NDArray[np.int64]:
        assert lower.shape == upper.shape == box.shape
        return same_voxels(lower, upper)


@given(grids(), st.data())
def test_a_known_whole_comes_back_from_its_blocks(grid: BlockGrid, data: st.DataObject) -> None:
    """Tiles, slanted layers, one object, none: with margins on one side or on both."""
    margin = tuple((max(low, 1), high) for low, high in grid.margin)
    grid = BlockGrid(grid.shape, grid.block_shape, margin)
    z, y, x = np.indices(grid.shape)
    whole: Any = data.draw(st.sampled_from([y // 2 * 10 + x // 3, z + y, x * 0 + 1, x * 0]))
    found = np.zeros(grid.shape, dtype=np.uint32)
    workers = data.draw(st.integers(1, 3))
    order = tuple(data.draw(st.permutations(range(grid.count)))) if grid.count < 50 else None
    count = finish(
        stitch(
            grid,
            Given(whole),
            open_output=into(found),
            scratch=np.zeros(grid.shape, dtype=np.uint32),
            schedule=Schedule(workers, order),
        )
    )
    ids, firsts = np.unique(np.append(0, whole), return_index=True)
    ids = ids[np.argsort(firsts)]
    assert count == np.count_nonzero(ids)
    expected = np.searchsorted(np.sort(ids), whole)
    table = np.zeros(len(ids), dtype=int)
    table[np.searchsorted(np.sort(ids), ids[ids > 0])] = np.arange(1, count + 1)
    assert np.array_equal(found, table[expected])


@dataclass(frozen=True)
class ByRule:
    """One object per block, joined where the rule says so; its margin holds one of no one's."""

    joined: set[int]

    def label(self, box: Box) -> Labels:
        labels = np.ones(box.shape, dtype=np.uint32)
        labels[:, :, -1] = 2
        return labels

    def join(self, box: Box, lower: Labels, upper: Labels) -> npt.NDArray[np.int64]:
        pairs = [[1, 1]] if box.start[2] in self.joined else []
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def test_the_rule_decides_and_what_lies_only_in_margins_is_no_object() -> None:
    grid = BlockGrid((1, 2, 9), (1, 2, 3), ((0, 0), (0, 0), (0, 1)))
    found = np.zeros(grid.shape, dtype=np.uint32)
    count = finish(stitch(grid, ByRule({3}), open_output=into(found)))
    assert count == 3
    assert found[0, 0].tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 3]


def test_scratch_and_output_may_be_zarr_and_several_threads_write(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    classes = rng.integers(0, 2, (4, 40, 30), dtype=np.uint8)
    arrays = [
        zarr.create_array(tmp_path / name, shape=classes.shape, chunks=(2, 8, 8), dtype="uint32")
        for name in ("scratch", "output")
    ]
    plain = np.zeros(classes.shape, dtype=np.uint32)
    results = [
        finish(
            label_components(
                lambda box: classes[box.slices],
                BlockGrid(classes.shape, (2, 16, 16)),
                open_output=into(output),
                scratch=scratch,
                schedule=Schedule(workers),
            )
        )
        for output, scratch, workers in ((arrays[1], arrays[0], 3), (plain, None, 1))
    ]
    assert results[0] == results[1] > 10
    assert np.array_equal(np.asarray(arrays[1][:]), plain)


def test_every_block_of_both_passes_is_told_and_the_count_comes_between() -> None:
    told: list[Any] = []
    grid = BlockGrid((1, 4, 5), (1, 3, 3))

    def open_output(count: int) -> Callable[[Box, npt.NDArray[Any]], None]:
        told.append(count)
        return lambda box, objects: None

    for step in stitch(grid, Given(np.ones(grid.shape, dtype=int)), open_output=open_output):
        assert isinstance(step, BlockStitched)
        told.append((step.box, step.done))
        assert step.total == 8
    boxes = [grid.box(block) for block in range(4)]
    first = [(box, i) for i, box in enumerate(boxes, start=1)]
    second = [(box, i) for i, box in enumerate(boxes, start=5)]
    # Without a margin nothing shows that the blocks hang together.
    assert told == [*first, 4, *second]


@pytest.mark.parametrize("workers", [1, 2])
def test_closing_ends_the_work_and_leaves_no_thread(workers: int) -> None:
    calls: list[Box] = []

    def read(box: Box) -> npt.NDArray[np.uint8]:
        calls.append(box)
        return np.ones(box.shape, dtype=np.uint8)

    written = np.zeros((1, 1, 100), dtype=np.uint32)
    steps = label_components(
        read,
        BlockGrid((1, 1, 100), (1, 1, 1)),
        open_output=into(written),
        schedule=Schedule(workers),
    )
    next(steps)
    steps.close()
    assert len(calls) <= 2 * workers + 1
    assert not written.any()
    assert not [t for t in threading.enumerate() if t.name.startswith("napari-unet-blocks")]


@pytest.mark.parametrize("workers", [1, 3])
def test_what_reading_raises_comes_through(workers: int) -> None:
    def read(box: Box) -> npt.NDArray[np.uint8]:
        if box.start[2] == 5:
            raise InputError("chunk 5 is damaged")
        return np.ones(box.shape, dtype=np.uint8)

    grid = BlockGrid((1, 1, 20), (1, 1, 1))
    found = np.zeros(grid.shape, dtype=np.uint32)
    steps = label_components(
        read, grid, open_output=into(found), scratch=found, schedule=Schedule(workers)
    )
    with pytest.raises(InputError, match="chunk 5"):
        finish(steps)
    assert not [t for t in threading.enumerate() if t.name.startswith("napari-unet-blocks")]


def test_memory_is_that_of_some_blocks_and_a_row_of_faces() -> None:
    """The labels of the image would take 16 MiB."""
    grid = BlockGrid((1, 2048, 2048), (1, 128, 128))

    def read(box: Box) -> npt.NDArray[np.uint8]:
        y, x = (np.arange(a, b) % 32 < 31 for a, b in zip(box.start[1:], box.stop[1:], strict=True))
        return (y[:, None] & x).astype(np.uint8)[np.newaxis]

    highest = [0]

    def open_output(count: int) -> Callable[[Box, npt.NDArray[Any]], None]:
        assert count == 4096
        return lambda box, objects: highest.append(int(objects.max()))

    tracemalloc.start()
    try:
        assert finish(label_components(read, grid, open_output=open_output)) == 4096
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(highest) == 4096
    assert peak < 2**20


def test_ids_are_uint32_until_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert object_type(2**32 - 1) == np.uint32
    assert object_type(2**32) == np.uint64
    monkeypatch.setattr(
        "napari_unet.labels.stitching.object_type", lambda count: np.dtype(np.uint64)
    )
    types = []
    grid = BlockGrid((1, 2, 4), (1, 2, 2))
    whole = Given(np.arange(8).reshape(grid.shape))
    finish(
        stitch(grid, whole, open_output=lambda count: lambda box, objs: types.append(objs.dtype))
    )
    assert types == [np.uint64, np.uint64]


@dataclass(frozen=True)
class Wrong:
    labels: npt.NDArray[Any]
    pairs: tuple[tuple[int, int], ...] = ()

    def label(self, box: Box) -> npt.NDArray[Any]:
        return self.labels

    def join(self, box: Box, lower: Labels, upper: Labels) -> npt.NDArray[np.int64]:
        return np.array(self.pairs, dtype=np.int64)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Wrong(np.ones((1, 1, 2), np.int32)), r"labeled with int32 .* unsigned numbers of shape"),
        (Wrong(np.ones((1, 1, 3), np.uint32)), r"of shape \(1, 1, 3\); .* of shape \(1, 1, 2\)"),
        (Wrong(np.ones((1, 1, 2), np.uint32), ((0, 1),)), "numbers from 0 to 1; .* 0 is backgr"),
        (Wrong(np.ones((1, 1, 2), np.uint32), ((1, 2),)), r"have the numbers 1\.\.1 and 1\.\.1"),
    ],
)
def test_a_method_that_breaks_its_promise_is_named(wrong: Wrong, message: str) -> None:
    grid = BlockGrid((1, 1, 2), (1, 1, 1), ((0, 0), (0, 0), (1, 1)))
    found = np.zeros(grid.shape, dtype=np.uint32)
    with pytest.raises(TilingError, match=message):
        finish(stitch(grid, wrong, open_output=into(found)))
