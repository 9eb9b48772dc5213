"""What napari draws of a result is what is stored, at every level, while it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from tests.widgets.test_levels import create, reference

from napari_unet.core.boxes import Box
from napari_unet.core.events import AlreadyDone
from napari_unet.core.job import SegmentJob
from napari_unet.widgets import _levels, _result
from napari_unet.widgets._napari_private import PartialRefresh
from napari_unet.widgets._result import ResultLayer

if TYPE_CHECKING:
    from pathlib import Path

SHAPES: list[tuple[int, ...]] = [(2, 400, 480), (2, 200, 240), (2, 100, 120)]
CLASSES = (("interior", "#3b6fb6"), ("membrane", "#e8a33d"), ("vesicle", "#44aa66"))
JOB = SegmentJob(input="a.zarr", model="fake", output="out.zarr")


class Written:
    """A label image that a test writes into, and the layer that follows it."""

    def __init__(self, viewer: Any, path: Path, axes: str) -> None:
        self.shapes = [(1, *s[1:]) for s in SHAPES] if axes == "yx" else SHAPES
        self.sink = create(path, self.shapes, axes)
        self.level_0 = np.zeros(self.shapes[0], np.uint8)
        self.viewer = viewer
        self.event = AlreadyDone(str(path), "found", str(self.sink.labels_path), CLASSES)
        shape = self.shapes[0][-len(axes) :]
        self.image = viewer.add_image(
            np.zeros(shape, np.uint8), name="image", scale=(2,) * len(axes)
        )
        self.result = ResultLayer(viewer.window._qt_window, viewer)
        assert self.result.open(self.image, JOB, self.event)
        self.layer = self.result.layer

    def write(self, box: Box, rng: np.random.Generator, *, tell: bool = True) -> None:
        self.level_0[box.slices] = rng.integers(1, 4, box.shape)
        self.sink.write_labels(box, np.ascontiguousarray(self.level_0[box.slices]))
        if tell:
            self.result.show(box)

    def expected(self, level: int) -> Any:
        """Return the plane that the sliders choose, of a level made from all of level 0."""
        made = list(reference(self.level_0, self.shapes))[level]
        return made[int(self.viewer.dims.point[0] // 2) if self.layer.ndim == 3 else 0]

    def drawn(self) -> Any:
        """Return what is drawn, and the part of the expected plane that lies there."""
        layer = self.layer
        tile = layer._slice.tile_to_data
        first = np.round(np.asarray(tile.translate) / np.asarray(tile.scale)).astype(int)[-2:]
        raw = layer._slice.image.raw
        part = tuple(slice(a, a + n) for a, n in zip(first, raw.shape, strict=True))
        return raw, self.expected(layer.data_level)[part]

    def is_right(self) -> bool:
        raw, expected = self.drawn()
        view = self.layer._slice.image.view
        return bool(
            np.array_equal(raw, expected)
            and np.array_equal(view, self.layer.colormap._data_to_texture(raw))
        )


@pytest.fixture(autouse=True)
def small_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_result, "MAX_PLANE_EDGE", 300)
    monkeypatch.setattr(_levels, "CELL_SHAPE", (1, 96, 96))


@pytest.mark.parametrize("axes", ["zyx", "yx"])
@pytest.mark.parametrize("partial", [True, False], ids=["partial", "full"])
def test_every_level_fills_while_it_is_written(
    make_napari_viewer: Any,
    user: Any,
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    axes: str,
    partial: bool,
) -> None:
    viewer = make_napari_viewer()
    if not partial:
        monkeypatch.setattr(PartialRefresh, "_patch", lambda *_: False)
    written = Written(viewer, tmp_path / "out.zarr", axes)
    layer = written.layer
    assert layer.multiscale
    assert not layer.editable
    last = written.shapes[0][0] - 1
    for level in (2, 1, 0, 2):
        layer.locked_data_level = level
        start = int(rng.integers(0, 5)) * 48
        written.write(Box((last, start, 96), (last + 1, start + 96, 240)), rng)
        # Elsewhere: another slice, or far away.
        written.write(Box((0, 288, 288), (1, 336, 384)), rng)
        user.wait_until(written.is_right)
    if axes == "zyx":
        viewer.dims.set_current_step(0, 0)
        user.wait_until(written.is_right)
    np.testing.assert_array_equal(layer.scale, written.image.scale)


def test_many_changes_at_once_are_drawn(
    make_napari_viewer: Any, user: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    written = Written(make_napari_viewer(), tmp_path / "out.zarr", "zyx")
    for y in range(48, 240, 48):
        for x in range(0, 432, 96):
            written.write(Box((1, y, x), (2, y + 48, x + 48)), rng)
    written.viewer.dims.set_current_step(0, 1)
    for level in (2, 1, 0):
        written.layer.locked_data_level = level
        user.wait_until(written.is_right)


def test_a_finished_result_is_drawn_as_it_is_stored(
    make_napari_viewer: Any, user: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    written = Written(make_napari_viewer(), tmp_path / "out.zarr", "yx")
    # Not told: as blocks that another process has written.
    whole = Box.of_shape(written.shapes[0])
    written.write(whole, rng, tell=False)
    list(written.sink.build_pyramid(whole))
    written.sink.finish({})
    written.result.close()
    user.wait_until(written.is_right)
    assert written.layer._slice.thumbnail.raw.any()
    # Looking elsewhere goes on.
    written.layer.locked_data_level = 1
    user.wait_until(written.is_right)


def test_after_a_stop_other_parts_are_still_made_when_looked_at(
    make_napari_viewer: Any, user: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    written = Written(make_napari_viewer(), tmp_path / "out.zarr", "zyx")
    for z in (0, 1):
        written.write(Box((z, 0, 0), (z + 1, 240, 480)), rng)
    written.result.close()
    written.result.deleteLater()
    for z in (0, 1):
        written.viewer.dims.set_current_step(0, z)
        user.wait_until(lambda: written.is_right() and written.drawn()[0].any())


def test_its_refresher_ends_with_the_layer(
    make_napari_viewer: Any, user: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    viewer = make_napari_viewer()
    written = Written(viewer, tmp_path / "out.zarr", "yx")
    refresher = written.result._refresher
    assert refresher is not None
    ended: list[bool] = []
    refresher.destroyed.connect(lambda: ended.append(True))
    viewer.layers.remove(written.layer)
    # The job goes on, and nothing is drawn.
    written.write(Box((0, 0, 0), (1, 48, 48)), rng)
    user.wait_until(lambda: bool(ended))
    written.result._refresher = None


def test_smaller_planes_are_shown_as_the_array_itself(
    make_napari_viewer: Any, user: Any, tmp_path: Path, rng: np.random.Generator, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_result, "MAX_PLANE_EDGE", 480)
    written = Written(make_napari_viewer(), tmp_path / "out.zarr", "zyx")
    assert not written.layer.multiscale
    assert isinstance(written.layer.data, zarr.Array)
    z = int(written.viewer.dims.point[0] // 2)
    written.write(Box((z, 48, 96), (z + 1, 96, 144)), rng)
    user.wait_until(written.is_right)
