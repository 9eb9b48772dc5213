"""Every kind of layer, sliced in the window's thread and beside it, and changes while it runs.

Closing with a job under way, colors, camera moves and removed layers are in `test_dock`; deleted
models in `test_models_panel`; painting in `test_fine_tune`. All of it is run with both bindings of
Qt: ``QT_API=pyside6`` chooses the other one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
from napari.layers import Labels
from napari.settings import get_settings

from napari_unet.widgets import _spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCALE, TRANSLATE = (40.0, 8.0, 4.0), (100.0, -50.0, 7.0)

KINDS = ("2D", "3D", "dask", "zarr", "multiscale", "multiscale 2D", "placed", "placed multiscale")


def bright(image: Any) -> Any:
    """Return what the fake engine answers."""
    return 1 + (np.asarray(image) > 127).astype(np.uint8)


@pytest.fixture
def slicing() -> Iterator[Callable[[bool], None]]:
    """Return a function that makes napari slice beside the window's thread, or in it."""
    settings = get_settings().experimental
    before = settings.async_

    def set_async(beside: bool) -> None:
        settings.async_ = beside

    yield set_async
    settings.async_ = before


def add(viewer: Any, kind: str, stack: Any, stored: Any) -> tuple[Any, Any]:
    """Add a layer of some kind, and return it with the voxels that it shows."""
    plane, options = stack[1], {"scale": SCALE, "translate": TRANSLATE}
    levels = [stack, stack[:, ::2, ::2]]
    data, shown, more = {
        "2D": (plane, plane, {}),
        "3D": (stack, stack, {}),
        "dask": (da.from_array(stack, chunks=(2, 100, 100)), stack, {}),
        "zarr": (stored, stack, {}),
        "multiscale": (levels, stack, {}),
        "multiscale 2D": ([plane, plane[::2, ::2]], plane, {}),
        "placed": (stack, stack, options),
        "placed multiscale": (levels, stack, options),
    }[kind]
    layer = viewer.add_image(data, name="em", multiscale="multiscale" in kind, **more)
    return layer, shown


def result_of(viewer: Any) -> Any:
    return next(layer for layer in viewer.layers if isinstance(layer, Labels))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beside", [True, False], ids=["async", "sync"])
def test_every_kind_of_layer_is_segmented_where_it_lies(
    user: Any,
    make_dock: Any,
    stack: Any,
    stored_stack: Any,
    slicing: Callable[[bool], None],
    kind: str,
    beside: bool,
) -> None:
    dock = make_dock()
    slicing(beside)
    viewer = dock.panel._viewer
    layer, shown = add(viewer, kind, stack, stored_stack)
    user.choose(dock, region="all slices")
    words = user.segment_and_wait(dock)
    assert words.startswith("Done"), words
    labels = result_of(viewer)
    np.testing.assert_array_equal(np.asarray(labels.data), bright(shown))
    np.testing.assert_allclose(labels.extent.world, layer.extent.world)
    # What is drawn is what is stored, also where it is drawn a moment later.
    z = int(labels.world_to_data(viewer.dims.point)[0])
    plane = bright(shown) if shown.ndim == 2 else bright(shown)[z]
    user.wait_until(lambda: labels.loaded and np.array_equal(labels._slice.image.raw, plane))


def test_this_slice_is_the_one_that_is_shown_also_beside_the_thread(
    user: Any, make_dock: Any, stack: Any, slicing: Callable[[bool], None]
) -> None:
    dock = make_dock()
    slicing(True)
    viewer = dock.panel._viewer
    add(viewer, "placed", stack, None)
    # Not waited for: the slice is still being drawn when the button is pressed.
    viewer.dims.set_point(0, TRANSLATE[0] + 2 * SCALE[0])
    user.choose(dock, region="this slice")
    assert user.segment_and_wait(dock).startswith("Done")
    found = np.asarray(result_of(viewer).data)
    np.testing.assert_array_equal(found[2], bright(stack[2]))
    assert not found[:2].any()


@pytest.mark.parametrize("beside", [True, False], ids=["async", "sync"])
def test_a_layer_that_is_renamed_while_it_runs(
    user: Any,
    make_dock: Any,
    stack: Any,
    stored_stack: Any,
    slicing: Callable[[bool], None],
    beside: bool,
) -> None:
    dock = make_dock("slow")
    slicing(beside)
    viewer = dock.panel._viewer
    layer = viewer.add_image(stored_stack, name="em")
    user.choose(dock, region="all slices")
    user.click(dock.panel.segment_button)
    labels = user.wait_for_labels(dock)
    layer.name, labels.name = "other", "mine"
    user.wait_until(lambda: not dock.panel.is_running)
    assert dock.panel.message.toPlainText().startswith("Done")
    assert dock.panel.form.layer_combo.currentText() == "other"
    np.testing.assert_array_equal(np.asarray(labels.data), bright(stack))


def test_an_image_that_is_replaced_while_it_runs(
    user: Any, make_dock: Any, stack: Any, stored_stack: Any
) -> None:
    dock = make_dock("slow")
    viewer = dock.panel._viewer
    layer = viewer.add_image(stored_stack, name="em")
    user.choose(dock, region="all slices")
    user.click(dock.panel.segment_button)
    labels = user.wait_for_labels(dock)
    layer.data = 255 - stack[:, ::-1]
    user.wait_until(lambda: not dock.panel.is_running)
    assert dock.panel.message.toPlainText().startswith("Done")
    # The job reads the file, which is as it was when the button was pressed.
    np.testing.assert_array_equal(np.asarray(labels.data), bright(stack))
    # The next click means what the layer shows now.
    viewer.layers.remove(labels)
    user.choose(dock, region="this slice")
    assert user.segment_and_wait(dock).startswith("Done")
    z = int(layer.world_to_data(viewer.dims.point)[0])
    found = np.asarray(result_of(viewer).data)
    np.testing.assert_array_equal(found[z], bright(255 - stack[:, ::-1])[z])


def test_an_image_of_another_shape_while_it_runs(
    user: Any, make_dock: Any, stack: Any, stored_stack: Any
) -> None:
    dock = make_dock("slow")
    viewer = dock.panel._viewer
    layer = viewer.add_image(stored_stack, name="em")
    user.click(dock.panel.segment_button)
    user.wait_for_labels(dock)
    layer.data = stack[0, :40, :50]
    # The view is followed on an image that has lost an axis.
    viewer.scene.camera.center = (20, 20)
    user.wait_until(lambda: not dock.panel.is_running)
    assert dock.panel.message.toPlainText().startswith("Done")


def test_a_removed_result_does_not_come_back(
    user: Any, make_dock: Any, stack: Any, stored_stack: Any
) -> None:
    dock = make_dock("slow")
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    user.choose(dock, region="all slices")
    user.click(dock.panel.segment_button)
    viewer.layers.remove(user.wait_for_labels(dock))
    user.wait_until(lambda: not dock.panel.is_running)
    assert [layer.name for layer in viewer.layers] == ["em"]


def test_the_list_of_models_may_change_while_it_runs(
    user: Any, make_dock: Any, stored_stack: Any
) -> None:
    dock = make_dock("slow")
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    user.click(dock.panel.segment_button)
    user.wait_for_labels(dock)
    dock._on_models_changed("fake")
    user.wait_until(lambda: not dock.panel.is_running)
    assert dock.panel.message.toPlainText().startswith("Done")
    assert dock.panel.form.model_combo.currentText() == "fake"


def test_napari_closes_while_a_layer_is_copied(
    user: Any, make_dock: Any, temporary_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(block: Any) -> Any:
        time.sleep(0.2)
        return block

    monkeypatch.setattr(_spool, "SLAB_BYTES", 64 * 64)
    dock = make_dock()
    data = da.zeros((50, 64, 64), chunks=(1, 64, 64), dtype=np.uint8)
    lazy = data.map_blocks(slow, dtype=np.uint8)
    dock.panel._viewer.add_image(lazy, name="computed", contrast_limits=(0, 1))
    user.choose(dock, region="all slices")
    user.click(dock.panel.segment_button)
    user.wait_until(lambda: dock.panel.progress_bar.value() > 0)
    # Nothing is computed yet, so nothing is asked.
    dock._window.close()
    assert not dock.panel.is_running
    assert not list(temporary_root.iterdir())
