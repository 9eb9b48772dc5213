"""The real dock widget in a real viewer, over an engine that speaks the protocol and no more."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_unet.widgets._runner import Patience
from napari_unet.widgets.dock import Answer, SegmentDock


def bright(image: Any) -> Any:
    return 1 + (np.asarray(image) > 127).astype(np.uint8)


def test_all_slices_of_a_stored_layer(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any, temporary_root: Path
) -> None:
    dock = make_dock()
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em", scale=(20, 5, 5), translate=(1, 2, 3))
    viewer.layers["em"].units = ("nanometer",) * 3
    assert dock.panel.form.layer is viewer.layers["em"]
    user.choose(dock, region="all slices")
    words = user.segment_and_wait(dock)
    assert words.startswith("Done: 90 k pixels")
    layer = viewer.layers[-1]
    np.testing.assert_array_equal(np.asarray(layer.data), bright(stack))
    # Next to the image, and the image itself was not copied.
    assert str(Path(stored_stack.store.root).parent / "stack.unet.zarr") in words
    assert not list(temporary_root.iterdir())
    np.testing.assert_array_equal(layer.scale, (20, 5, 5))
    np.testing.assert_array_equal(layer.translate, (1, 2, 3))
    assert layer.units == viewer.layers["em"].units
    assert not layer.editable
    assert layer.metadata["napari-unet"]["name"] == "fake"
    np.testing.assert_allclose(layer.get_color(2), (0xE8 / 255, 0xA3 / 255, 0x3D / 255, 1))
    assert list(layer.features["class"]) == ["interior", "membrane"]


def test_a_plugin_gets_a_proxy_and_touches_nothing_private(
    user: Any,
    make_dock: Any,
    stored_stack: Any,
    stack: Any,
    recwarn: pytest.WarningsRecorder,
) -> None:
    dock = make_dock("slow", proxy=True)
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    assert user.segment_and_wait(dock).startswith("Done")
    drawn, z = viewer.layers[-1]._slice.image.raw, int(viewer.dims.point[0])
    np.testing.assert_array_equal(drawn, bright(stack)[z])
    assert not [w for w in recwarn if "Private attribute" in str(w.message)]


def test_nothing_is_overwritten(user: Any, make_dock: Any, stored_stack: Any) -> None:
    dock = make_dock()
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.segment_and_wait(dock)
    user.segment_and_wait(dock)
    output = Path(stored_stack.store.root).parent / "stack.unet.zarr"
    assert sorted(p.name for p in (output / "labels").iterdir() if p.is_dir()) == ["fake", "fake-2"]


def test_this_slice_is_the_one_under_the_slider(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any
) -> None:
    dock = make_dock()
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em", scale=(20, 5, 5), translate=(100, 0, 0))
    viewer.dims.set_point(0, 100 + 2 * 20)
    user.choose(dock, region="this slice")
    user.segment_and_wait(dock)
    labels = np.asarray(viewer.layers[-1].data)
    np.testing.assert_array_equal(labels[2], bright(stack[2]))
    assert not labels[:2].any()


def test_visible_part_is_what_the_camera_shows(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any
) -> None:
    dock = make_dock()
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em", scale=(20, 5, 5))
    viewer.dims.set_point(0, 20)
    height, width = viewer.canvas.size
    # 40 x 60 voxels around (75, 100) fill the canvas, whatever its own proportions.
    viewer.scene.camera.center = (75 * 5, 100 * 5)
    viewer.scene.camera.zoom = max(height / (40 * 5), width / (60 * 5))
    user.choose(dock, region="the visible part")
    user.segment_and_wait(dock)
    labels = np.asarray(viewer.layers[-1].data)
    rows, columns = np.nonzero(labels[1])
    assert not labels[[0, 2]].any()
    assert 55 <= rows.min() <= 75 <= rows.max() <= 95
    assert 70 <= columns.min() <= 100 <= columns.max() <= 130
    seen = np.s_[1, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    np.testing.assert_array_equal(labels[seen], bright(stack)[seen])


@pytest.mark.parametrize("kind", ["numpy 3D", "numpy 2D", "dask", "multiscale", "leading axis"])
def test_layers_in_memory_are_copied_first(
    user: Any, make_dock: Any, stack: Any, temporary_root: Path, kind: str
) -> None:
    import dask.array as da

    data, wanted, options = {
        "numpy 3D": (stack, stack, {}),
        "numpy 2D": (stack[0], stack[0], {}),
        "dask": (da.from_array(stack, chunks=(2, 100, 100)), stack, {}),
        "multiscale": ([stack, stack[:, ::2, ::2]], stack, {"multiscale": True}),
        "leading axis": (stack[None], stack, {}),
    }[kind]
    dock = make_dock()
    viewer = dock.panel._viewer
    viewer.add_image(data, name="my layer", **options)
    user.choose(dock, region="all slices")
    assert dock.panel.form.output_combo.currentText().startswith("temporary")
    words = user.segment_and_wait(dock)
    assert words.startswith("Done"), words
    np.testing.assert_array_equal(np.asarray(viewer.layers[-1].data), bright(wanted))
    # The copy is gone, the output is there.
    assert [p.name for p in temporary_root.glob("*/*.zarr")] == ["my_layer.unet.zarr"]


def test_a_layer_that_no_longer_shows_its_file_is_copied(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any
) -> None:
    dock = make_dock()
    viewer = dock.panel._viewer
    layer = viewer.add_image(
        255 - stack,
        name="inverted",
        metadata={"napari-unet": {"input": str(stored_stack.store.root)}},
    )
    user.segment_and_wait(dock)
    z = int(layer.world_to_data(viewer.dims.point)[0])
    np.testing.assert_array_equal(np.asarray(viewer.layers[-1].data)[z], bright(255 - stack)[z])


def test_unusable_layers_are_refused_with_a_remedy(user: Any, make_dock: Any, stack: Any) -> None:
    dock = make_dock()
    viewer = dock.panel._viewer
    assert dock.panel.form.layer_combo.placeholderText() == "open an image first"
    assert "no image layer" in user.segment_and_wait(dock)
    viewer.add_image(np.zeros((8, 8, 3), np.uint8), rgb=True, name="photo")
    user.choose(dock, layer="photo")
    assert "Split RGB" in user.segment_and_wait(dock)
    viewer.add_image(np.stack([stack, stack]), name="movie")
    user.choose(dock, layer="movie")
    assert "Split Stack" in user.segment_and_wait(dock)
    assert dock.panel.segment_button.isEnabled()


def test_labels_appear_tile_by_tile(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any
) -> None:
    dock = make_dock("slow")
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    user.click(dock.panel.segment_button)
    layer = user.wait_for_labels(dock)
    z = int(viewer.dims.point[0])
    drawn: list[int] = []

    def some_are_drawn() -> bool:
        drawn.append(int(np.count_nonzero(layer._slice.image.raw)))
        return 0 < drawn[-1] < stack[0].size

    user.wait_until(some_are_drawn)
    user.wait_until(lambda: not dock.panel.is_running)
    np.testing.assert_array_equal(layer._slice.image.raw, bright(stack)[z])


def test_partial_refresh_has_a_way_around(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.layers import Labels

    monkeypatch.delattr(Labels, "_partial_labels_refresh")
    dock = make_dock("slow")
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    words = user.segment_and_wait(dock)
    assert words.startswith("Done"), words
    z = int(viewer.dims.point[0])
    np.testing.assert_array_equal(viewer.layers[-1]._slice.image.raw, bright(stack)[z])


def test_cancel_keeps_what_is_done(user: Any, make_dock: Any, stored_stack: Any) -> None:
    dock = make_dock("held")
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.choose(dock, region="all slices")
    user.click(dock.panel.segment_button)
    layer = user.wait_for_labels(dock)
    user.wait_until(lambda: bool(np.asarray(layer.data).any()))
    assert not dock.panel.segment_button.isEnabled()
    user.click(dock.panel.stop_button)
    user.wait_until(lambda: not dock.panel.is_running)
    assert "Stopped after" in dock.panel.message.toPlainText()
    labels = np.asarray(layer.data)
    assert labels.any()
    assert not labels.all()
    assert dock.panel.segment_button.isEnabled()


def test_an_engine_that_does_not_stop_is_killed(
    user: Any, make_dock: Any, stored_stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = make_dock("deaf")
    dock.panel.runner._grace = Patience(stop_ms=300, close_ms=300)
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.choose(dock, region="all slices")
    user.click(dock.panel.segment_button)
    user.wait_for_labels(dock)
    pid = dock.panel.runner.process_id
    user.click(dock.panel.stop_button)
    user.wait_until(lambda: not dock.panel.is_running)
    assert not user.is_alive(pid)


def test_a_killed_engine_leaves_napari_alive(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any
) -> None:
    dock = make_dock("slow")
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    user.click(dock.panel.segment_button)
    user.wait_for_labels(dock)
    os.kill(dock.panel.runner.process_id, signal.SIGKILL)
    user.wait_until(lambda: not dock.panel.is_running)
    words = dock.panel.message.toPlainText()
    assert "ended unexpectedly (signal 9)" in words
    assert "out of memory" in words
    assert "stack.unet.zarr" in words
    assert user.segment_and_wait(dock).startswith("Done")
    z = int(viewer.dims.point[0])
    np.testing.assert_array_equal(np.asarray(viewer.layers[-1].data)[z], bright(stack)[z])


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("fails", "chunk c/0 is damaged: copy the file again"),
        ("refuses", "The engine refused the job: tile size 7 is not legal"),
        ("stillborn", "The engine could not start: ImportError: no module named torch"),
    ],
)
def test_errors_are_readable(
    user: Any, make_dock: Any, stored_stack: Any, mode: str, words: str
) -> None:
    from napari.utils.notifications import notification_manager

    dock = make_dock(mode)
    dock.panel._viewer.add_image(stored_stack, name="em")
    assert words in user.segment_and_wait(dock)
    assert any(words in record.message for record in notification_manager.records)
    assert dock.panel.segment_button.isEnabled()


def test_moving_the_camera_tells_the_engine_where(
    user: Any, make_dock: Any, stored_stack: Any
) -> None:
    dock = make_dock("slow")
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    user.choose(dock, region="all slices")
    user.click(dock.panel.segment_button)
    user.wait_for_labels(dock)
    viewer.dims.set_point(0, 2)
    viewer.scene.camera.center = (20, 30)
    viewer.scene.camera.zoom = 50
    log = Path(stored_stack.store.root).parent / "controls.jsonl"

    def boxes() -> list[Any]:
        lines = log.read_text().splitlines() if log.exists() else []
        return [json.loads(line)["box"] for line in lines]

    user.wait_until(lambda: any(box[0][0] == 2 for box in boxes()))
    (z0, y0, x0), (z1, y1, x1) = boxes()[-1]
    assert (z0, z1) == (2, 3)
    assert y0 <= 20 < y1
    assert x0 <= 30 < x1
    # Three moves in a row are one message, besides the first view's.
    assert len(boxes()) == 2


def test_removing_layers_while_it_runs_disturbs_nothing(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any
) -> None:
    dock = make_dock("slow")
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    user.click(dock.panel.segment_button)
    labels = user.wait_for_labels(dock)
    path = labels.metadata["napari-unet"]["labels"]
    viewer.layers.clear()
    user.wait_until(lambda: not dock.panel.is_running)
    assert dock.panel.message.toPlainText().startswith("Done")
    assert not len(viewer.layers)
    assert np.asarray(zarr.open_array(path, mode="r")).any()


def test_the_layer_list_is_followed(
    user: Any, make_dock: Any, make_napari_viewer: Any, stack: Any
) -> None:
    dock = SegmentDock(make_napari_viewer())
    form, viewer = dock.panel.form, dock.panel._viewer
    viewer.add_image(stack, name="one")
    viewer.add_image(stack, name="two")
    viewer.add_labels(stack, name="labels")
    names = [form.layer_combo.itemText(i) for i in range(form.layer_combo.count())]
    assert names == ["one", "two"]
    user.choose(dock, layer="two")
    viewer.layers["two"].name = "renamed"
    viewer.layers.remove("one")
    assert form.layer_combo.currentText() == "renamed"
    assert form.layer is viewer.layers["renamed"]
    dock.close()


@pytest.mark.parametrize("how", ["dock", "window"])
@pytest.mark.parametrize("wanted", [Answer.STOP, Answer.GO_ON])
def test_closing_while_it_runs_asks(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any, how: str, wanted: Answer
) -> None:
    dock = make_dock("held" if wanted is Answer.STOP else "slow")
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    user.choose(dock, region="all slices")
    user.click(dock.panel.segment_button)
    labels = user.wait_for_labels(dock)
    path = labels.metadata["napari-unet"]["labels"]
    pid = dock.panel.runner.process_id
    asked: list[str] = []
    user.answer(wanted, asked)
    if how == "dock":
        viewer.window.remove_dock_widget(dock)
    else:
        dock._window.close()
    if how == "dock":
        # The question comes once the dock is gone.
        user.wait_until(lambda: bool(asked) and not dock.panel.is_running)
    assert "is running" in asked[0]
    assert not dock.panel.is_running
    if wanted is Answer.STOP:
        assert not user.is_alive(pid)
        assert not np.asarray(zarr.open_array(path, mode="r")).all()
    else:
        assert user.is_alive(pid)
        deadline = time.monotonic() + 20
        # No event loop: after its window, Qt would delete the viewer under the fixture's hands.
        while user.is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        np.testing.assert_array_equal(zarr.open_array(path, mode="r")[:], bright(stack))


def test_napari_can_be_kept_open(user: Any, make_dock: Any, stored_stack: Any) -> None:
    dock = make_dock("slow")
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.click(dock.panel.segment_button)
    user.wait_for_labels(dock)
    asked: list[str] = []
    user.answer(Answer.STAY, asked)
    assert not dock._window.close()
    assert asked
    user.wait_until(lambda: not dock.panel.is_running)
    assert dock.panel.message.toPlainText().startswith("Done")


def test_napari_may_refuse_to_close_on_its_own(
    user: Any, make_dock: Any, stored_stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = make_dock()
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.wait_until(lambda: dock._window is not None)
    window = dock._window
    with monkeypatch.context() as patch:
        patch.setattr(type(window), "closeEvent", lambda self, event: event.ignore())
        patch.setattr(window, "isVisible", lambda: True)
        assert not window.close()
        user.wait_until(lambda: dock.panel.runner.is_warm)
    assert user.segment_and_wait(dock).startswith("Done")


def test_an_idle_engine_may_die_too(user: Any, make_dock: Any, stored_stack: Any) -> None:
    dock = make_dock()
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.wait_until(lambda: dock.panel.runner.is_warm)
    os.kill(dock.panel.runner.process_id, signal.SIGKILL)
    user.wait_until(lambda: "signal 9" in dock.panel.message.toPlainText())
    assert user.segment_and_wait(dock).startswith("Done")


def test_an_idle_engine_ends_with_the_dock(user: Any, make_dock: Any) -> None:
    dock = make_dock()
    viewer = dock.panel._viewer
    user.wait_until(lambda: dock.panel.runner.is_warm)
    pid = dock.panel.runner.process_id
    assert user.is_alive(pid)
    viewer.window.remove_dock_widget(dock)
    user.wait_until(lambda: not user.is_alive(pid))
    # The same widget can be docked again, and is warm again.
    viewer.window.add_dock_widget(dock, name="again")
    user.wait_until(lambda: dock.panel.runner.is_warm)


def test_cancelling_the_copy_leaves_nothing(
    user: Any, make_dock: Any, temporary_root: Path
) -> None:
    import dask.array as da

    def slow(block: Any) -> Any:
        time.sleep(0.2)
        return block

    dock = make_dock()
    data = da.zeros((50, 64, 64), chunks=(1, 64, 64), dtype=np.uint8).map_blocks(
        slow, dtype=np.uint8
    )
    from napari_unet.widgets import _spool

    dock.panel._viewer.add_image(data, name="computed", contrast_limits=(0, 1))
    user.choose(dock, region="all slices")
    original, _spool.SLAB_BYTES = _spool.SLAB_BYTES, 64 * 64
    try:
        user.click(dock.panel.segment_button)
        user.wait_until(lambda: dock.panel.progress_bar.value() > 0)
        assert "exists only in memory" in dock.panel.progress_label.text()
        user.click(dock.panel.stop_button)
    finally:
        _spool.SLAB_BYTES = original
    user.wait_until(lambda: not dock.panel.is_running)
    assert not list(temporary_root.iterdir())
    assert dock.panel.segment_button.isEnabled()


def test_a_broken_layer_is_reported(user: Any, make_dock: Any, temporary_root: Path) -> None:
    import dask.array as da

    def broken(block: Any) -> Any:
        raise RuntimeError("the microscope is unplugged")

    dock = make_dock()
    data = da.zeros((2, 64, 64), chunks=(1, 64, 64), dtype=np.uint8).map_blocks(
        broken, dtype=np.uint8
    )
    layer = dock.panel._viewer.add_image(np.zeros((2, 64, 64), np.uint8), name="computed")
    user.choose(dock, region="all slices")
    layer._data = data
    assert "RuntimeError: the microscope is unplugged" in user.segment_and_wait(dock)
    assert not list(temporary_root.iterdir())
