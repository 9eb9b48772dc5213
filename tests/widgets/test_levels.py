"""At any moment each level of a growing label image is the downsampling of what level 0 holds."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.errors import InputError
from napari_unet.io.ome_zarr_writer import OutputImage, OutputSpec, create_output
from napari_unet.io.pyramid import Reduction
from napari_unet.widgets import _levels
from napari_unet.widgets._levels import GrowingLevels, open_levels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLASSES = tuple(ClassInfo(name=f"class {k}", color="#3b6fb6") for k in range(3))
BLOCK = 48


def create(path: Path, shapes: list[tuple[int, ...]], axes: str = "zyx", **options: Any) -> Any:
    levels = tuple(PyramidLevel(shape, VoxelSize()) for shape in shapes)
    spec = OutputSpec(path, "found", axes, levels, CLASSES, BLOCK, 16, **options)
    return create_output(spec, replace=False)


def reference(level_0: np.ndarray[Any, Any], shapes: list[tuple[int, ...]]) -> Iterator[Any]:
    """Yield all levels, each made of the whole of the finer one."""
    made = level_0
    yield made
    for fine, coarse in itertools.pairwise(shapes):
        made = Reduction(fine, coarse).labels(Box.of_shape(coarse), made)
        yield made


def whole(levels: GrowingLevels, number: int) -> Any:
    return levels.read(number, Box.of_shape(levels.shapes[number]))


@pytest.fixture(autouse=True)
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells so small that a test has many, and that blocks and levels do not fit into them."""
    monkeypatch.setattr(_levels, "CELL_SHAPE", (1, 40, 32))


SHAPES = (
    # As we plan them; odd lengths; z reduced too; factors that are no whole numbers.
    [(2, 90, 70), (2, 45, 35), (2, 23, 18)],
    [(3, 61, 77), (3, 31, 39), (3, 16, 20), (3, 8, 10)],
    [(5, 64, 90), (3, 32, 45), (2, 16, 23)],
    [(2, 80, 75), (2, 32, 30), (2, 11, 10)],
)
BOXES = st.lists(
    st.tuples(*[st.floats(0, 1) for _ in range(6)], st.integers(0, 3)), min_size=1, max_size=3
)


def box_of(parts: tuple[Any, ...], shape: tuple[int, ...]) -> Box:
    ends = [
        sorted((int(a * n), int(b * n))) for a, b, n in zip(parts, parts[3:], shape, strict=False)
    ]
    return Box(
        tuple(min(a, n - 1) for (a, _), n in zip(ends, shape, strict=True)),
        tuple(max(b, min(a, n - 1) + 1) for (a, b), n in zip(ends, shape, strict=True)),
    )


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=st.sampled_from(SHAPES), boxes=BOXES, waits=st.booleans())
def test_each_level_is_the_downsampling_of_what_is_stored(
    tmp_path_factory: pytest.TempPathFactory, shapes: Any, boxes: Any, waits: bool
) -> None:
    root = tmp_path_factory.mktemp("levels")
    arrays = [
        zarr.create_array(root / str(k), shape=s, chunks=(1, 32, 32), dtype="u1", compressors=None)
        for k, s in enumerate(shapes)
    ]
    levels = GrowingLevels(arrays, waits=waits)
    rng = np.random.default_rng(7)
    level_0 = np.zeros(shapes[0], np.uint8)
    for parts in boxes:
        box = box_of(parts, shapes[0])
        # Some of it is erased again, as by a run that begins anew.
        level_0[box.slices] = rng.integers(0, 1 + parts[-1], box.shape)
        arrays[0][box.slices] = level_0[box.slices]
        levels.changed(box)
        for number, expected in enumerate(reference(level_0, shapes)):
            if not waits:
                whole(levels, number)
                levels.settle()
            np.testing.assert_array_equal(whole(levels, number), expected)


def test_what_was_stored_before_is_seen_and_only_the_part_that_is_looked_at(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = list(SHAPES[0])
    sink = create(tmp_path / "out.zarr", shapes, shards=True)
    level_0 = np.zeros(shapes[0], np.uint8)
    box = Box((1, 0, 0), (2, 48, 48))
    level_0[box.slices] = rng.integers(1, 4, box.shape)
    sink.write_labels(box, np.ascontiguousarray(level_0[box.slices]))
    levels = open_levels(str(sink.labels_path))
    part = Box((1, 10, 5), (2, 30, 30))
    # What is not made yet is 0, and what is made says where.
    assert not levels.read(1, part).any()
    levels.settle()
    expected = list(reference(level_0, shapes))[1]
    np.testing.assert_array_equal(levels.read(1, part), expected[part.slices])
    filled = levels.take_filled()
    assert {cell.start[0] for cell in filled} == {1}
    assert not levels.take_filled()
    # Nothing is made twice.
    monkeypatch.setattr(GrowingLevels, "_read_stored", None)
    levels.read(1, part)
    levels.settle()


def test_a_change_while_a_piece_is_made_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = list(SHAPES[0])
    sink = create(tmp_path / "out.zarr", shapes)
    box = Box((0, 0, 0), (1, 16, 16))
    sink.write_labels(box, np.ones(box.shape, np.uint8))
    levels = open_levels(str(sink.labels_path))
    has_read, may_go_on = threading.Event(), threading.Event()
    read_stored = GrowingLevels._read_stored

    def slow(self: GrowingLevels, level: int, part: Box) -> Any:
        data = read_stored(self, level, part)
        has_read.set()
        may_go_on.wait(10)
        return data

    monkeypatch.setattr(GrowingLevels, "_read_stored", slow)
    levels.read(1, Box((0, 0, 0), (1, 8, 8)))
    assert has_read.wait(10)
    sink.write_labels(box, np.full(box.shape, 2, np.uint8))
    levels.changed(box)
    may_go_on.set()
    levels.settle()
    levels.read(1, Box((0, 0, 0), (1, 8, 8)))
    levels.settle()
    assert (levels.read(1, Box((0, 0, 0), (1, 8, 8))) == 2).all()


def test_the_stored_levels_are_taken_when_they_are_complete(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    shapes: list[tuple[int, ...]] = list(SHAPES[1])
    sink: OutputImage = create(tmp_path / "out.zarr", shapes)
    levels = open_levels(str(sink.labels_path), waits=True)
    level_0 = rng.integers(1, 4, shapes[0], dtype=np.uint8)
    sink.write_labels(Box.of_shape(shapes[0]), level_0)
    levels.changed(Box.of_shape(shapes[0]))
    before = [whole(levels, number) for number in range(4)]
    list(sink.build_pyramid(Box.of_shape(shapes[0])))
    assert not levels.look_whether_complete()
    sink.finish({})
    # Marked, so that it is known which ones are read.
    sink._write(sink._labels[2], Box((0, 0, 0), (1, 1, 1)), np.full((1, 1, 1), 3, np.uint8))
    assert levels.look_whether_complete()
    before[2][0, 0, 0] = 3
    for number in range(4):
        np.testing.assert_array_equal(whole(levels, number), before[number])
    assert open_levels(str(sink.labels_path)).look_whether_complete()


def test_pieces_in_memory_are_bounded(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_levels, "LEVEL_BYTES", 4000)
    shapes: list[tuple[int, ...]] = [(6, 150, 130), (6, 75, 65), (6, 38, 33)]
    sink = create(tmp_path / "out.zarr", shapes)
    level_0 = rng.integers(1, 4, shapes[0], dtype=np.uint8)
    sink.write_labels(Box.of_shape(shapes[0]), level_0)
    levels = open_levels(str(sink.labels_path), waits=True)
    expected = list(reference(level_0, shapes))
    for _ in range(2):
        for number in (1, 2):
            np.testing.assert_array_equal(whole(levels, number), expected[number])
            assert all(size <= 4000 for size in levels._sizes)
    # The count is that of what is there.
    held = [sum(_levels._size(piece) for piece in pieces.values()) for pieces in levels._pieces]
    assert held == levels._sizes


def test_a_plane_is_a_plane_and_damage_is_said(tmp_path: Path, rng: np.random.Generator) -> None:
    shapes: list[tuple[int, ...]] = [(1, 90, 70), (1, 45, 35)]
    sink = create(tmp_path / "out.zarr", shapes, axes="yx")
    level_0 = rng.integers(1, 4, shapes[0], dtype=np.uint8)
    sink.write_labels(Box.of_shape(shapes[0]), level_0)
    levels = open_levels(str(sink.labels_path), waits=True)
    fine, coarse = levels.views()
    assert (fine.shape, coarse.shape) == ((90, 70), (45, 35))
    np.testing.assert_array_equal(np.asarray(fine), level_0[0])
    np.testing.assert_array_equal(
        coarse[3:9, 4:7], list(reference(level_0, shapes))[1][0, 3:9, 4:7]
    )
    (sink.labels_path / "c" / "1" / "1").write_bytes(b"no chunk at all")
    with pytest.raises(InputError, match="cannot be read"):
        open_levels(str(sink.labels_path), waits=True).read(1, Box((0, 0, 0), (1, 45, 35)))
    # In the background it is left out, once.
    quiet = open_levels(str(sink.labels_path))
    whole(quiet, 1)
    quiet.settle()
    assert whole(quiet, 1)[0, 30:, 30:].any()
    with pytest.raises(InputError, match="segment that part again"):
        open_levels(str(tmp_path / "none" / "0"))
