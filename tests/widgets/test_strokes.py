"""Strokes on a layer: painted as on a NumPy array, on disk a moment later, and back again."""

from __future__ import annotations

import itertools
import time
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Labels
from napari.layers._layer_actions import _duplicate_layer
from napari.settings import get_settings
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from napari_unet.app.annotations import STROKES_FOLDER, PaintedImage, create_strokes
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.errors import AnnotationError, StorageError
from napari_unet.io.annotation_store import AnnotationStore, open_annotation_store
from napari_unet.widgets import _strokes_data, _strokes_keeper, _strokes_window
from napari_unet.widgets._annotation_layer import (
    PaintClass,
    check_fits,
    find_strokes,
    new_annotation,
    open_strokes,
    remove_label,
    store_classes,
    stored_classes,
    strokes_path,
)
from napari_unet.widgets._strokes_data import StrokesData
from napari_unet.widgets._strokes_keeper import keeper_of
from napari_unet.widgets._strokes_window import has_left_window, move_window
from napari_unet.widgets._train_files import Strokes, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT_MS = 30_000
CLASSES = (PaintClass("cell", "#0000ff", "interior"), PaintClass("membrane", "#ffb000"))
SHAPE = (4, 300, 400)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Strokes lie in the test's folder."""
    monkeypatch.setenv(STROKES_FOLDER, str(tmp_path / "strokes"))
    return tmp_path / "strokes"


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    """A viewer with an image that is scaled, moved, turned, and of which only some is in view."""
    viewer = make_napari_viewer()
    values = np.random.default_rng(1).integers(0, 255, SHAPE, dtype=np.uint8)
    viewer.add_image(values, name="em", scale=(40, 8, 8), translate=(0, 100, -50))
    return viewer


@pytest.fixture
def layer(viewer: Any) -> Labels:
    """An empty annotation of it."""
    return new_annotation(viewer, viewer.layers["em"], CLASSES)


def on_disk(path: Path | None) -> Any:
    """Return what the engine would read."""
    assert path is not None
    store = open_annotation_store(path)
    return store.read(Box.of_shape(store.shape))


def some_data(shape: tuple[int, ...], window: Box | None = None) -> StrokesData:
    """Return empty strokes that no layer has."""
    full = (*(1,) * (3 - len(shape)), *shape)
    infos = [ClassInfo(name="a", color="#000000"), ClassInfo(name="b", color="#ffffff")]
    image = PaintedImage(name="x", shape=full, dtype="uint8")
    return StrokesData(create_strokes(image, infos), window or Box.of_shape(full), len(shape))


INDICES: dict[int, tuple[Any, ...]] = {
    2: (
        np.s_[3], np.s_[-1], np.s_[:], np.s_[...], np.s_[2:7, 3], np.s_[::3, 9:2:-2], np.s_[4, 5],
        np.s_[..., 2:], np.s_[5:5], np.s_[-3:], (np.array([1, 5, 1]), np.array([2, -1, 2])),
        np.s_[np.int64(2), np.uint8(3)], ([1, 2], [3, 4]),
    ),
    3: (
        np.s_[1], np.s_[:2], np.s_[1, 2:9, 3:8], np.s_[1:2, 2:9, 3:8], np.s_[:, 4], np.s_[..., 7],
        np.s_[2, 5, 6], np.s_[::2, ::-1, 3:20], np.s_[-1, -2], np.s_[0, ..., 1:3],
        (np.array([0, 2, 2]), np.array([1, 11, 11]), np.array([5, 6, 7])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", [(12, 15), (3, 12, 15)])
def test_strokes_are_indexed_as_arrays_are(
    shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    data, dense = some_data(shape), np.zeros(shape, np.uint8)
    assert (data.shape, data.ndim, data.size, data.dtype) == (
        shape, len(shape), dense.size, dense.dtype,
    )  # fmt: skip
    for index in INDICES[len(shape)]:
        dense[index] = data[index] = rng.integers(0, 3, dense[index].shape)
        np.testing.assert_array_equal(data, dense)
        for again in INDICES[len(shape)]:
            np.testing.assert_array_equal(np.asarray(data[again]), dense[again])
        dense[index] = data[index] = 2
        np.testing.assert_array_equal(data[:], dense)
    np.testing.assert_array_equal(data == 2, dense == 2)
    dense[dense == 2] = 1
    data[np.asarray(data) == 2] = 1
    np.testing.assert_array_equal(data.copy(), dense)
    assert (data.any(), data.max(), len(data)) == (dense.any(), dense.max(), len(dense))
    np.testing.assert_array_equal(list(data), list(dense))
    for wrong in (np.s_[99], np.s_[..., 99], np.s_[0, 0, 0, 0], np.s_[None], np.s_[..., ...]):
        with pytest.raises(IndexError):
            data[wrong]
    data.strokes.close()


def test_a_window_is_a_part_of_the_strokes() -> None:
    data = some_data((3, 60, 70))
    window = StrokesData(data.strokes, Box((0, 20, 30), (3, 50, 65)), 3)
    window[1, 2:5, -3:] = 2
    assert (data[1, 22:25, 62:65] == 2).all()
    assert np.count_nonzero(data) == 9
    assert window.image_shape == (3, 60, 70)
    np.testing.assert_array_equal(window, data[:, 20:50, 30:65])
    data.strokes.close()


def test_what_is_too_large_to_be_read_at_once_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = some_data((3, 60, 70))
    monkeypatch.setattr(_strokes_data, "MOST_VOXELS", 60 * 70)
    assert data[0:1].shape == (1, 60, 70)
    with pytest.raises(AnnotationError, match="12,600 voxels of strokes are too many"):
        np.asarray(data)
    data.strokes.close()


def test_a_dab_reads_what_it_paints_and_no_more(
    layer: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.brush_size = 20
    boxes: list[Box] = []
    read = StrokesData._read
    monkeypatch.setattr(
        StrokesData, "_read", lambda self, box: (boxes.append(box), read(self, box))[1]
    )
    # Without the drawing: a window that is not shown has no texture to draw a part of.
    layer.paint((2, 100, 100), 1, refresh=False)
    assert [box.shape for box in boxes] == [(1, 21, 21)]


def use_every_tool(layer: Labels, rng: np.random.Generator) -> None:
    """Paint, erase, fill, undo and redo on a layer, at places that the generator chooses."""
    y, x = (int(rng.integers(0, n)) for n in layer.data.shape[-2:])
    z, label = int(rng.integers(0, len(layer.data))), int(rng.integers(0, 3))
    layer.brush_size = int(rng.integers(1, 40))
    layer.preserve_labels = bool(rng.random() < 0.2)
    match rng.integers(10):
        case 0:
            layer.undo()
        case 1:
            layer.redo()
        case 2:
            layer.fill((z, y, x), label)
        case 3:
            corners = rng.integers(0, layer.data.shape[-2:], (4, 2))
            layer.paint_polygon([(z, *corner) for corner in corners], label)
        case 4:
            layer.n_edit_dimensions = 3
            layer.paint((z, y, x), label)
            layer.n_edit_dimensions = 2
        case 5:
            places = tuple(rng.integers(0, n, 50) for n in layer.data.shape)
            layer.data_setitem(places, label)
        case _:
            with layer.block_history():
                for step in range(5):
                    layer.paint((z, min(y + 3 * step, SHAPE[1] - 1), x), label, refresh=False)


@pytest.fixture
def racing(layer: Labels) -> Iterator[list[BaseException]]:
    """All the while somebody brings the layer's strokes to disk."""
    stop, errors = Event(), []

    def flush_on_and_on() -> None:
        try:
            while not stop.is_set():
                layer.data.strokes.buffer.flush()
        except BaseException as error:
            errors.append(error)
            raise

    thread = Thread(target=flush_on_and_on)
    thread.start()
    yield errors
    stop.set()
    thread.join()


def test_200_strokes_while_they_are_written_are_bit_exact(
    viewer: Any, layer: Labels, racing: list[BaseException]
) -> None:
    image = viewer.layers["em"]
    plain = Labels(np.zeros(SHAPE, np.uint8), scale=image.scale, translate=image.translate)
    viewer.add_layer(plain)
    viewer.dims.set_point(0, 2 * 40)
    for number in range(200):
        for each in (layer, plain):
            use_every_tool(each, np.random.default_rng(number))
        assert racing == []
    assert plain.data.any()
    np.testing.assert_array_equal(layer.data, plain.data)
    np.testing.assert_array_equal(layer._slice.image.raw, plain.data[2])
    layer.data.strokes.buffer.flush()
    np.testing.assert_array_equal(on_disk(strokes_path(layer)), plain.data)


def test_strokes_undo_and_erase_are_on_disk_a_moment_later(qtbot: Any, layer: Labels) -> None:
    keeper, path = keeper_of(layer), strokes_path(layer)
    assert keeper is not None
    edits: tuple[Callable[[], None], ...] = (
        lambda: layer.paint((1, 100, 100), 2),
        lambda: layer.paint((1, 100, 250), 1),
        layer.undo,
        layer.redo,
        lambda: layer.paint((1, 100, 250), 0),
    )
    blocks = []
    for edit in edits:
        with qtbot.waitSignal(keeper.stored, timeout=WAIT_MS) as signal:
            edit()
            began = time.monotonic()
        # Ten times what an idle machine takes.
        assert time.monotonic() - began < 3
        blocks.append(signal.args[0])
        np.testing.assert_array_equal(on_disk(path), layer.data)
    first, second = Box((1, 0, 0), (2, 256, 256)), Box((1, 0, 256), (2, 256, 400))
    assert blocks[0] == (first,)
    assert blocks[1] in ((first,), (first, second))
    assert keeper.flush() == ()


def test_strokes_without_a_rest_are_on_disk_in_time(
    qtbot: Any, user: Any, layer: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_strokes_keeper, "REST_S", 3600.0)
    monkeypatch.setattr(_strokes_keeper, "LONGEST_SILENCE_S", 3600.0)
    keeper, path, stored = keeper_of(layer), strokes_path(layer), []
    assert keeper is not None
    keeper.stored.connect(stored.append)
    for label in (1, 2):
        began = time.monotonic()
        layer.paint((1, 100, 100), label)
        user.wait_until(lambda label=label: on_disk(path).max() == label)
        # After one second, on an idle machine.
        assert time.monotonic() - began < 4
    # The draft is not bothered before there is a rest, but then it hears of them.
    qtbot.wait(100)
    assert stored == []
    monkeypatch.setattr(_strokes_keeper, "LONGEST_SILENCE_S", 0.1)
    with qtbot.waitSignal(keeper.stored, timeout=WAIT_MS):
        pass
    assert stored == [(Box((1, 0, 0), (2, 256, 256)),)]


def test_strokes_are_on_disk_in_time_even_if_napari_hangs(layer: Labels) -> None:
    path = strokes_path(layer)
    layer.paint((1, 100, 100), 2)
    # Nothing of Qt runs in between.
    began = time.monotonic()
    while not on_disk(path).any():
        assert time.monotonic() < began + WAIT_MS / 1000
        time.sleep(0.05)
    np.testing.assert_array_equal(on_disk(path), layer.data)


def test_nothing_is_announced_while_the_brush_is_down(
    qtbot: Any, user: Any, make_napari_viewer: Any
) -> None:
    viewer = make_napari_viewer(show=True)
    layer = new_annotation(viewer, viewer.add_image(np.zeros((300, 400), np.uint8)), CLASSES)
    keeper, stored = keeper_of(layer), []
    assert keeper is not None
    keeper.stored.connect(stored.append)
    viewer.fit_to_view()
    layer.brush_size = 10
    canvas = viewer.window._qt_viewer.canvas.native
    left = Qt.MouseButton.LeftButton
    qtbot.wait(300)
    middle = canvas.rect().center()
    qtbot.mousePress(canvas, left, pos=middle)
    assert layer.data.any()
    # A long stroke is written, but not announced.
    user.wait_until(lambda: bool(on_disk(strokes_path(layer)).any()))
    qtbot.wait(200)
    assert stored == []
    with qtbot.waitSignal(keeper.stored, timeout=WAIT_MS):
        qtbot.mouseRelease(canvas, left, pos=middle)
    np.testing.assert_array_equal(on_disk(strokes_path(layer))[0], layer.data)


def test_a_full_disk_is_told_once_and_tried_again(
    qtbot: Any, layer: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(layer)
    assert keeper is not None
    monkeypatch.setattr(_strokes_keeper, "FIRST_RETRY_S", 0.05)
    keeper._retry_s = 0.05
    attempts, words = itertools.count(), []
    put = AnnotationStore.put

    def fill_up(self: AnnotationStore, block: Box, labels: Any) -> None:
        if next(attempts) < 3:
            raise StorageError("the disk is full; free some space")
        put(self, block, labels)

    monkeypatch.setattr(AnnotationStore, "put", fill_up)
    keeper.failed.connect(words.append)
    with qtbot.waitSignal(keeper.stored, timeout=WAIT_MS):
        layer.paint((1, 100, 100), 2)
    assert words == [
        "The strokes are not on disk yet: the disk is full; free some space. They are tried again."
    ]
    assert any(words[0] in record.message for record in notification_manager.records)
    np.testing.assert_array_equal(on_disk(strokes_path(layer)), layer.data)
    # Who waits for them is told at once.
    attempts = itertools.count()
    layer.paint((1, 200, 100), 2)
    with pytest.raises(StorageError, match="the disk is full"):
        keeper.flush()
    assert layer.data[1, 200, 100] == 2


def test_strokes_are_back_in_another_session(
    viewer: Any, layer: Labels, make_napari_viewer: Any
) -> None:
    layer.paint((1, 100, 100), 2)
    painted = layer.data.copy()
    viewer.layers.remove(layer)
    assert keeper_of(layer) is None
    assert not layer.editable
    other = make_napari_viewer()
    image = other.add_image(viewer.layers["em"].data, name="em")
    (found,) = find_strokes(image)
    again = open_strokes(other, image, found)
    np.testing.assert_array_equal(again.data, painted)
    assert stored_classes(again) == CLASSES
    np.testing.assert_allclose(again.get_color(2)[:3], (1, 0xB0 / 255, 0))
    again.paint((2, 50, 50), 1)
    assert other.layers.selection.active is again
    # Meanwhile they are only shown elsewhere.
    seen = open_strokes(viewer, viewer.layers["em"], found)
    assert not seen.editable
    assert keeper_of(seen) is None
    warned = notification_manager.records[-1].message
    assert "open already, in another napari or another layer" in warned
    assert "cannot be painted on" in warned
    np.testing.assert_array_equal(seen.data, painted)
    with pytest.raises(AnnotationError, match="painted on an image of"):
        open_strokes(other, other.add_image(np.zeros((4, 300, 401), np.uint8)), found)


def test_damage_is_told_when_it_is_looked_at(viewer: Any, layer: Labels) -> None:
    layer.data[1, 10:20, 10:20] = 2
    layer.data[3, 10:20, 10:20] = 2
    path, image = strokes_path(layer), viewer.layers["em"]
    assert path is not None
    viewer.layers.remove(layer)
    chunk = path / "c" / "3" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    told = len(notification_manager.records)
    again = open_strokes(viewer, image, find_strokes(image)[0])
    assert len(notification_manager.records) == told
    viewer.dims.set_point(0, 3 * 40)
    words = notification_manager.records[-1].message
    assert "cannot be decoded" in words
    assert "until then its place seems empty" in words
    assert (again.data[1, 10:20, 10:20] == 2).all()


def test_classes_are_stored_with_the_strokes(viewer: Any, layer: Labels) -> None:
    viewer.dims.set_point(0, 0)
    keeper, path = keeper_of(layer), strokes_path(layer)
    assert keeper is not None
    assert path is not None
    for label, row in ((1, 50), (2, 150), (1, 250)):
        layer.paint((0, row, 100), label)
    third = PaintClass("nucleus", "#112233")
    store_classes(layer, (*CLASSES, third))
    layer.paint((0, 150, 300), 3)
    painted = layer.data.copy()
    keeper.flush()
    assert open_annotation_store(path).load().class_names == ("cell", "membrane", "nucleus")
    remove_label(layer, 1)
    store_classes(layer, (PaintClass("wall", "#445566"), third))
    keeper.flush()
    store = open_annotation_store(path)
    assert [(each.name, each.color) for each in store.classes] == [
        ("wall", "#445566"), ("nucleus", "#112233"),
    ]  # fmt: skip
    expected = np.array([0, 0, 1, 2])[painted]
    np.testing.assert_array_equal(on_disk(path), expected)
    np.testing.assert_array_equal(layer._slice.image.raw, expected[0])
    layer.undo()
    np.testing.assert_array_equal(layer.data, expected)


def test_a_label_that_is_no_class_is_told(layer: Labels) -> None:
    layer.selected_label = 7
    words = notification_manager.records[-1].message
    assert words.startswith("The label 7 is none of the 2 classes (cell, membrane)")


def test_a_training_takes_all_that_is_stored(viewer: Any, layer: Labels, tmp_path: Path) -> None:
    layer.data[1, 40:60, 40:60] = 1
    layer.data[2, 200:210, 300:399] = 2
    window = StrokesData(layer.data.strokes, Box((0, 0, 0), (4, 100, 100)), 3)
    painted = layer.data.copy()
    work = prepare(Strokes(window, SHAPE, CLASSES, None), tmp_path / "snapshot.zarr", None)
    assert next(work) == 0.0
    layer.data[:] = 2
    assert list(work)[-1] == 1.0
    np.testing.assert_array_equal(on_disk(tmp_path / "snapshot.zarr"), painted)
    np.testing.assert_array_equal(layer.data, 2)
    layer.data[0, 0, 0] = 9
    with pytest.raises(AnnotationError, match="the label 9 is none of the 2 classes"):
        next(prepare(Strokes(window, SHAPE, CLASSES, None), tmp_path / "other.zarr", None))


def test_a_copied_layer_is_in_memory(viewer: Any, layer: Labels) -> None:
    layer.paint((0, 100, 100), 2)
    viewer.layers.selection = {layer}
    _duplicate_layer(viewer.layers)
    copy = next(each for each in viewer.layers if each.name.endswith("copy"))
    assert isinstance(copy.data, np.ndarray)
    assert strokes_path(copy) is None
    np.testing.assert_array_equal(copy.data, layer.data)


def test_other_data_end_the_keeping(layer: Labels) -> None:
    layer.paint((0, 100, 100), 2)
    painted, path = layer.data.copy(), strokes_path(layer)
    layer.data = np.zeros(SHAPE, np.uint8)
    assert keeper_of(layer) is None
    assert layer.editable
    np.testing.assert_array_equal(on_disk(path), painted)


@pytest.mark.parametrize("is_async", [False, True])
def test_planes_too_large_to_be_shown_are_painted_on_in_windows(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch, qtbot: Any, is_async: bool
) -> None:
    monkeypatch.setattr(_strokes_window, "LARGEST_PLANE_EDGE", 1500)
    monkeypatch.setattr(_strokes_window, "WINDOW_EDGE", 512)
    monkeypatch.setattr(get_settings().experimental, "async_", is_async)
    viewer = make_napari_viewer()
    image = viewer.add_image(
        np.zeros((3, 1600, 400), np.uint8), scale=(40, 8, 8), translate=(7, 9, -5),
        rotate=(0, 0, 30), affine=np.array([[1, 0, 0, 3], [0, 2, 0.5, 4], [0, 0, 1, 5],
                                            [0, 0, 0, 1]]),
    )  # fmt: skip
    look_at(viewer, image, (1, 300, 100))
    layer = new_annotation(viewer, image, CLASSES)
    assert layer.data.shape == (3, 512, 400)
    assert lies_on(layer, image)
    layer.data[1, 100, 50] = 2
    assert not has_left_window(layer, viewer)
    assert not move_window(layer, viewer)
    path, first = strokes_path(layer), layer.data.window
    look_at(viewer, image, (2, 1590, 100))
    assert has_left_window(layer, viewer)
    # The button moves it, too.
    assert new_annotation(viewer, image, CLASSES) is layer
    assert not has_left_window(layer, viewer)
    assert lies_on(layer, image)
    assert layer.data.window == Box((0, 1600 - 512, 0), (3, 1600, 400))
    assert (layer.editable, layer.mode, strokes_path(layer)) == (True, "paint", path)
    assert not layer.data.any()
    layer.data[2, -1, 7] = 1
    layer.undo()
    keeper = keeper_of(layer)
    assert keeper is not None
    keeper.flush()
    everything = on_disk(path)
    assert everything[1, first.start[1] + 100, 50] == 2
    assert everything[2, 1599, 7] == 1
    assert np.count_nonzero(everything) == 2
    check_fits(layer, image)
    look_at(viewer, image, (1, 300, 100))
    assert move_window(layer, viewer)
    assert layer.data.window == first
    assert layer.data[1, 100, 50] == 2
    qtbot.waitUntil(lambda: layer.loaded, timeout=WAIT_MS)


def look_at(viewer: Any, image: Any, place: tuple[int, int, int]) -> None:
    """Show a voxel of an image in the middle."""
    world = image.data_to_world(place)
    viewer.dims.set_point(0, world[0])
    viewer.scene.camera.center = (0, *world[1:])


def lies_on(layer: Labels, image: Any) -> bool:
    """Return whether each voxel of a window lies on the image's voxel."""
    start = layer.data.window.start
    return all(
        np.allclose(layer.data_to_world(place), image.data_to_world(np.add(place, start)))
        for place in ((0, 0, 0), (2, 511, 399))
    )
