"""Painting in memory over a store: the same as a dense array, whatever the disk does meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.errors import AnnotationError, InputError, StorageError
from napari_unet.io import annotation_buffer, annotation_generations
from napari_unet.io.annotation_buffer import AnnotationBuffer
from napari_unet.io.annotation_generations import current_generation, settle, sweep_generations
from napari_unet.io.annotation_store import (
    AnnotationStore,
    create_annotation_store,
    open_annotation_store,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMES = ("cell", "membrane", "nucleus")
CLASSES = tuple(ClassInfo(name=name, color="#0000ff") for name in NAMES)
SHAPE, BLOCK = (3, 21, 10), (1, 8, 4)
ALL = Box.of_shape(SHAPE)


@pytest.fixture
def buffer(tmp_path: Path) -> AnnotationBuffer:
    """An empty buffer of small blocks."""
    store = create_annotation_store(tmp_path / "s.zarr", SHAPE, CLASSES, block_shape=BLOCK)
    return AnnotationBuffer(store)


def random_paint(rng: np.random.Generator, highest: int) -> tuple[Box, Any]:
    """Return a box in the image and labels for it; often they erase."""
    ends = [np.sort(rng.integers(0, n + 1, 2)) for n in SHAPE]
    box = Box(tuple(int(e[0]) for e in ends), tuple(int(e[1]) for e in ends))
    return box, rng.integers(0, rng.choice([1, highest + 1]), box.shape).astype(np.uint8)


def without(label: int, labels: Any) -> Any:
    """Return labels after a class was removed."""
    return np.where(labels == label, 0, labels - (labels > label)).astype(np.uint8)


def on_disk(path: Path) -> Any:
    """Return what a program that knows nothing of the buffer reads."""
    return open_annotation_store(path).read(ALL)


@settings(max_examples=15)
@given(st.integers(0, 2**32))
def test_painting_is_what_a_dense_array_does(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("painted") / "s.zarr"
    dense, names = np.zeros(SHAPE, np.uint8), list(NAMES)
    store = create_annotation_store(path, SHAPE, CLASSES, block_shape=BLOCK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annotation_buffer, "KEPT_BYTES", 2 * 8 * 4)
        buffer = AnnotationBuffer(store)
        for _ in range(8):
            match rng.integers(6):
                case 0:
                    buffer.flush()
                case 1 if names:
                    label = int(rng.integers(1, len(names) + 1))
                    buffer.remove_class(label)
                    dense = without(label, dense)
                    del names[label - 1]
                case 2:
                    names.append(f"new {len(names)} {rng.integers(1000)}")
                    buffer.set_classes([ClassInfo(name=n, color="#00ff00") for n in names])
                case 3:
                    buffer.flush()
                    buffer = AnnotationBuffer(open_annotation_store(path))
                    names = names or [each.name for each in buffer.classes]
                case _:
                    box, labels = random_paint(rng, len(names))
                    buffer.write(box, labels)
                    dense[box.slices] = labels
            box, _ = random_paint(rng, 1)
            np.testing.assert_array_equal(buffer.read(box), dense[box.slices])
            assert buffer.is_empty == (not dense.any())
        buffer.flush()
    assert not buffer.is_changed
    np.testing.assert_array_equal(buffer.read(ALL), dense)
    np.testing.assert_array_equal(on_disk(path), dense)
    if names:
        assert open_annotation_store(path).class_names == tuple(names)


def test_only_what_has_changed_is_written(
    buffer: AnnotationBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert buffer.flush() == ()
    buffer.write(Box((0, 0, 0), (1, 8, 8)), np.ones((1, 8, 8), np.uint8))
    left, right = Box((0, 0, 0), (1, 8, 4)), Box((0, 0, 4), (1, 8, 8))
    assert buffer.flush() == (left, right)
    puts: list[Box] = []
    put = AnnotationStore.put
    monkeypatch.setattr(
        AnnotationStore, "put", lambda self, box, labels: (puts.append(box), put(self, box, labels))
    )
    # The left half as it is, one voxel of the right one.
    changed = np.ones((1, 8, 8), np.uint8)
    changed[0, 3, 7] = 2
    buffer.write(Box((0, 0, 0), (1, 8, 8)), changed)
    assert buffer.flush() == (right,) == tuple(puts)
    assert not buffer.is_changed


def test_memory_is_bounded_by_what_is_not_on_disk_yet(
    buffer: AnnotationBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotation_buffer, "KEPT_BYTES", 3 * 8 * 4)
    buffer.write(ALL, np.full(SHAPE, 2, np.uint8))
    assert len(buffer._blocks) == 27
    buffer.flush()
    assert len(buffer._blocks) == 3
    np.testing.assert_array_equal(buffer.read(ALL), np.full(SHAPE, 2))
    assert len(buffer._blocks) == 3


class Killed(BaseException):
    """What happens to a process, as far as one that goes on can play it."""


@pytest.mark.parametrize("moment", range(4))
def test_a_crash_leaves_labels_and_classes_of_one_generation(
    buffer: AnnotationBuffer, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    labels = rng.integers(0, 4, SHAPE, dtype=np.uint8)
    buffer.write(ALL, labels)
    buffer.flush()
    path, moments = buffer.path, iter(range(100))
    replace, write = os.replace, annotation_generations.create_annotation_store

    def step(action: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            if next(moments) == moment:
                raise Killed
            return action(*arguments, **options)

        return guarded

    def replace_folder(source: Any, target: Any) -> None:
        (step(replace) if os.path.isdir(source) else replace)(source, target)

    monkeypatch.setattr(annotation_generations.os, "replace", replace_folder)
    monkeypatch.setattr(annotation_generations, "create_annotation_store", step(write))
    buffer.remove_class(2)
    with pytest.raises(Killed):
        buffer.flush()
    monkeypatch.undo()
    # Also who only looks, without the lock, sees one of them as a whole.
    seen = open_annotation_store(current_generation(path))
    seen_labels = seen.read(ALL)
    settle(path)
    sweep_generations(path)
    again = open_annotation_store(path)
    before, after = (NAMES, labels), (("cell", "nucleus"), without(2, labels))
    for found, found_labels, is_new in (
        (seen, seen_labels, moment > 2),
        (again, again.read(ALL), moment >= 2),
    ):
        expected = after if is_new else before
        assert found.class_names == expected[0]
        np.testing.assert_array_equal(found_labels, expected[1])
    assert [each.name for each in path.parent.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize("moment", range(3))
def test_a_folder_that_cannot_be_renamed_loses_nothing(
    buffer: AnnotationBuffer, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    dense = rng.integers(0, 4, SHAPE, dtype=np.uint8)
    buffer.write(ALL, dense)
    buffer.flush()
    replace, moments = os.replace, iter(range(100))

    def refuse_once(source: Any, target: Any) -> None:
        if os.path.isdir(source) and next(moments) == moment:
            raise PermissionError(13, "a scanner holds it open")
        replace(source, target)

    monkeypatch.setattr(annotation_generations.os, "replace", refuse_once)
    buffer.remove_class(2)
    with pytest.raises(StorageError, match="a scanner holds it open"):
        buffer.flush()
    buffer.remove_class(1)
    buffer.write(Box((0, 0, 0), (1, 1, 1)), np.ones((1, 1, 1), np.uint8))
    dense = without(1, without(2, dense))
    dense[0, 0, 0] = 1
    np.testing.assert_array_equal(buffer.read(ALL), dense)
    buffer.flush()
    np.testing.assert_array_equal(on_disk(buffer.path), dense)
    assert [each.name for each in buffer.path.parent.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize("fault", ["sync", "open"])
def test_labels_are_not_renumbered_twice(
    buffer: AnnotationBuffer, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    dense = rng.integers(0, 4, SHAPE, dtype=np.uint8)
    buffer.write(ALL, dense)
    buffer.flush()
    buffer.remove_class(1)
    dense = without(1, dense)

    def fail(path: Any) -> None:
        # A moment after the generations were exchanged.
        if fault == "open":
            raise InputError("the disk does not answer")
        if len(list(buffer.path.parent.glob("*.old"))):
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        if fault == "open":
            patch.setattr(annotation_buffer, "open_annotation_store", fail)
            with pytest.raises(InputError, match="does not answer"):
                buffer.flush()
        else:
            patch.setattr(annotation_generations, "sync_folder", fail)
            buffer.flush()
    np.testing.assert_array_equal(buffer.read(ALL), dense)
    box = Box((0, 0, 0), (1, 1, 1))
    buffer.write(box, np.full((1, 1, 1), 2, np.uint8))
    dense[0, 0, 0] = 2
    buffer.flush()
    np.testing.assert_array_equal(on_disk(buffer.path), dense)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Event, Event]]:
    """The first block that is written waits: (it has begun, it may go on)."""
    begun, go_on = Event(), Event()
    put = AnnotationStore.put

    def wait_then_put(self: AnnotationStore, block: Box, labels: Any) -> None:
        begun.set()
        assert go_on.wait(30)
        put(self, block, labels)

    monkeypatch.setattr(AnnotationStore, "put", wait_then_put)
    yield begun, go_on
    go_on.set()


@pytest.mark.parametrize("is_exchange", [False, True], ids=["blocks", "generation"])
def test_whoever_paints_does_not_wait_for_the_disk(
    buffer: AnnotationBuffer, rng: np.random.Generator, slow_disk: Any, is_exchange: bool
) -> None:
    begun, go_on = slow_disk
    dense = rng.integers(0, 4, SHAPE, dtype=np.uint8)
    buffer.write(ALL, dense)
    if is_exchange:
        go_on.set()
        buffer.flush()
        begun.clear()
        go_on.clear()
        buffer.remove_class(3)
        dense = without(3, dense)
    with ThreadPoolExecutor(1) as thread:
        flushing = thread.submit(buffer.flush)
        assert begun.wait(30)
        # While the disk hangs: a class goes, strokes come, and all of it is seen at once.
        buffer.remove_class(1)
        dense = without(1, dense)
        for _ in range(5):
            box, labels = random_paint(rng, 1)
            buffer.write(box, labels)
            dense[box.slices] = labels
        np.testing.assert_array_equal(buffer.read(ALL), dense)
        go_on.set()
        flushing.result()
    np.testing.assert_array_equal(buffer.read(ALL), dense)
    assert buffer.is_changed
    buffer.flush()
    np.testing.assert_array_equal(on_disk(buffer.path), dense)
    names = ("membrane",) if is_exchange else ("membrane", "nucleus")
    assert open_annotation_store(buffer.path).class_names == names


@pytest.mark.parametrize("is_exchange", [False, True], ids=["blocks", "generation"])
def test_a_disk_that_refuses_loses_nothing(
    buffer: AnnotationBuffer,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    is_exchange: bool,
) -> None:
    dense = rng.integers(0, 4, SHAPE, dtype=np.uint8)
    buffer.write(ALL, dense)
    if is_exchange:
        buffer.flush()
        buffer.remove_class(2)
        dense = without(2, dense)
    put, puts = AnnotationStore.put, iter(range(100))

    def fill_up(self: AnnotationStore, block: Box, labels: Any) -> None:
        if next(puts) >= 7:
            raise StorageError("the disk is full")
        put(self, block, labels)

    with monkeypatch.context() as patch:
        patch.setattr(AnnotationStore, "put", fill_up)
        with pytest.raises(StorageError, match="the disk is full"):
            buffer.flush()
    assert buffer.is_changed
    np.testing.assert_array_equal(buffer.read(ALL), dense)
    buffer.flush()
    np.testing.assert_array_equal(on_disk(buffer.path), dense)


def test_a_folder_that_is_gone_is_not_taken_for_erased_strokes(
    buffer: AnnotationBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotation_buffer, "KEPT_BYTES", 1)
    dense = np.full(SHAPE, 3, np.uint8)
    buffer.write(ALL, dense)
    buffer.flush()
    away = buffer.path.with_name("away")
    buffer.path.rename(away)
    assert not buffer.read(Box((2, 16, 0), (3, 21, 4))).any()
    (words,) = buffer.take_damage()
    assert "is gone; restore it from a copy" in words
    assert buffer.take_damage() == ()
    with pytest.raises(InputError, match="nothing can be painted there"):
        buffer.write(Box((2, 17, 0), (3, 18, 1)), np.ones((1, 1, 1), np.uint8))
    # A whole block can be painted anew; but it is kept until the folder is back.
    whole = Box((1, 0, 0), (2, 8, 4))
    buffer.write(whole, np.ones(whole.shape, np.uint8))
    with pytest.raises(StorageError, match="the folder of the strokes is gone"):
        buffer.flush()
    assert not buffer.path.exists()
    away.rename(buffer.path)
    dense[whole.slices] = 1
    np.testing.assert_array_equal(buffer.read(ALL), dense)
    buffer.flush()
    np.testing.assert_array_equal(on_disk(buffer.path), dense)


def test_a_damaged_block_is_told_and_left_alone(buffer: AnnotationBuffer) -> None:
    buffer.write(ALL, np.full(SHAPE, 3, np.uint8))
    buffer.flush()
    chunk = buffer.path / "c" / "0" / "1" / "2"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    again = AnnotationBuffer(open_annotation_store(buffer.path))
    assert not again.read(Box((0, 8, 8), (1, 16, 10))).any()
    assert (again.read(Box((0, 8, 0), (1, 16, 8))) == 3).all()
    (words,) = again.take_damage()
    assert "cannot be decoded" in words
    assert again.flush() == ()
    # But it can be erased as a whole, here at the edge of the image.
    erased = Box((0, 8, 8), (1, 16, 10))
    with pytest.raises(InputError, match="nothing can be painted there"):
        again.write(Box((0, 8, 8), (1, 16, 9)), np.zeros((1, 8, 1), np.uint8))
    again.write(erased, np.zeros(erased.shape, np.uint8))
    assert again.flush() == (erased,)
    assert not chunk.exists()
    assert np.count_nonzero(on_disk(buffer.path)) == np.prod(SHAPE) - erased.size


def test_a_copy_has_what_is_painted_so_far(
    buffer: AnnotationBuffer, rng: np.random.Generator, tmp_path: Path
) -> None:
    dense = rng.integers(0, 4, SHAPE, dtype=np.uint8)
    buffer.write(ALL, dense)
    copy = buffer.copy_to(tmp_path / "copy.zarr", CLASSES)
    buffer.write(ALL, np.zeros(SHAPE, np.uint8))
    buffer.flush()
    np.testing.assert_array_equal(copy.read(ALL), dense)
    np.testing.assert_array_equal(on_disk(tmp_path / "copy.zarr"), dense)
    assert buffer.is_empty
    buffer.copy_to(tmp_path / "empty.zarr", CLASSES)
    assert not on_disk(tmp_path / "empty.zarr").any()
    shutil.rmtree(tmp_path / "copy.zarr")


def test_classes_are_not_dropped_with_their_labels_left(buffer: AnnotationBuffer) -> None:
    with pytest.raises(AnnotationError, match="2 classes cannot take the place of 3"):
        buffer.set_classes(CLASSES[:2])
    buffer.set_classes(CLASSES, ("interior", None, None))
    buffer.flush()
    again = AnnotationBuffer(open_annotation_store(buffer.path))
    assert again.origins == ("interior", None, None)
    again.remove_class(2)
    again.flush()
    assert open_annotation_store(buffer.path).origins == ("interior", None)
