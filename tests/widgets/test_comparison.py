"""The three pictures: what they show, and where a click on them leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_unet.core.boxes import Box
from napari_unet.core.train_events import ComparisonReady
from napari_unet.widgets._comparison import COLOR_SHARE, ComparisonStrip
from napari_unet.widgets._events import parse_event
from napari_unet.widgets._view import visible_part
from napari_unet.widgets.dock import MINIMUM_WIDTH

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = (("interior", "#3b6fb6"), ("membrane", "#e8a33d"))
DEPTH = 9
"""A screen of tests may have 5 bits for a color."""

BOXES = tuple(Box((z, 10 * z, 40), (z + 1, 10 * z + 60, 100)) for z in range(3))


def stored(path: Path, *, with_old: bool = True, color: bool = False) -> ComparisonReady:
    arrays = {}
    for k in range(3):
        gray = np.full((60, 60), 60 * k, np.uint8)
        arrays[f"image{k}"] = np.stack([gray] * 3, axis=2) if color else gray
        arrays[f"new{k}"] = np.full((60, 60), 2, np.uint8)
        if with_old:
            arrays[f"old{k}"] = np.repeat(np.array([[0, 1]], np.uint8), 60, 0).repeat(30, 1)
    np.savez(path, **arrays)
    return ComparisonReady(str(path), BOXES, (0.5, 0.25, 0.125), "The first by chance.")


@pytest.fixture
def strip(make_napari_viewer: Any, stack: Any) -> ComparisonStrip:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(stack, scale=(40, 8, 8))
    strip = ComparisonStrip(viewer, lambda: viewer.layers[0] if len(viewer.layers) else None)
    # In a panel, as it is used: napari shows what it docks.
    panel = QWidget()
    QVBoxLayout(panel).addWidget(strip)
    viewer.window.add_dock_widget(panel, name="panel")
    return strip


def headings(strip: ComparisonStrip) -> list[str]:
    labels = strip.findChildren(QLabel)
    return [x.text() for x in labels if x is not strip.note and x.isVisibleTo(strip)]


def color_at(strip: ComparisonStrip, button: int, x: float) -> tuple[int, ...]:
    size = strip.buttons[button].iconSize()
    image = strip.buttons[button].icon().pixmap(size).toImage()
    color = image.pixelColor(int(x * image.width()), image.height() // 2)
    return color.red(), color.green(), color.blue()


def mixed(color: str, gray: int) -> np.ndarray:
    rgb = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
    return COLOR_SHARE * rgb + (1 - COLOR_SHARE) * gray


def test_pictures_have_the_colors_of_the_classes(strip: ComparisonStrip, tmp_path: Path) -> None:
    assert not strip.isVisible()
    strip.show_comparison(stored(tmp_path / "c.npz"), CLASSES)
    assert strip.isVisible()
    assert headings(strip) == ["Image", "Before", "After"]
    assert len(strip.buttons) == 9
    for row in range(3):
        gray = 60 * row
        np.testing.assert_allclose(color_at(strip, 3 * row, 0.5), gray, atol=DEPTH)
        # Where nothing is said the image alone is seen.
        np.testing.assert_allclose(color_at(strip, 3 * row + 1, 0.25), gray, atol=DEPTH)
        np.testing.assert_allclose(
            color_at(strip, 3 * row + 1, 0.75), mixed("#3b6fb6", gray), atol=DEPTH
        )
        np.testing.assert_allclose(
            color_at(strip, 3 * row + 2, 0.5), mixed("#e8a33d", gray), atol=DEPTH
        )
    assert "50 % of it changed" in strip.buttons[0].toolTip()
    assert strip.note.text() == "The first by chance."


def test_they_fit_into_a_narrow_dock(strip: ComparisonStrip, tmp_path: Path) -> None:
    strip.show_comparison(stored(tmp_path / "c.npz", color=True), CLASSES)
    # With the page's frame and the scroll bar.
    assert strip.minimumSizeHint().width() <= MINIMUM_WIDTH - 20


def test_a_click_goes_to_the_place(
    strip: ComparisonStrip, tmp_path: Path, user: Any, qtbot: Any
) -> None:
    viewer = strip._viewer
    strip.show_comparison(stored(tmp_path / "c.npz"), CLASSES)
    with qtbot.waitSignal(strip.went) as went:
        user.click(strip.buttons[7])
    assert went.args == [BOXES[2]]
    assert viewer.dims.point[0] == 80
    assert visible_part(viewer, viewer.layers[0]).contains(BOXES[2])
    frame: Any = strip.view.frame
    np.testing.assert_allclose(frame.data_to_world((0, 0, 0)), (80, 160, 320))
    strip.clear()
    assert strip.view.frame is None
    assert not strip.isVisible()


def test_from_nothing_there_is_only_the_new_model(strip: ComparisonStrip, tmp_path: Path) -> None:
    strip.show_comparison(stored(tmp_path / "c.npz", with_old=False), CLASSES)
    assert headings(strip) == ["Image", "New model"]
    assert len(strip.buttons) == 6
    assert "changed" not in strip.buttons[0].toolTip()


def test_another_training_replaces_them_and_a_closed_image_leads_nowhere(
    strip: ComparisonStrip, tmp_path: Path, user: Any
) -> None:
    strip.show_comparison(stored(tmp_path / "c.npz"), CLASSES)
    strip.show_comparison(stored(tmp_path / "d.npz", with_old=False), CLASSES)
    assert headings(strip) == ["Image", "New model"]
    strip._viewer.layers.clear()
    user.click(strip.buttons[0])
    assert len(strip._viewer.layers) == 0


@pytest.mark.parametrize("content", [None, b"no zip"])
def test_a_file_that_is_gone_or_damaged_shows_nothing(
    strip: ComparisonStrip, tmp_path: Path, content: bytes | None
) -> None:
    event = stored(tmp_path / "c.npz")
    (tmp_path / "c.npz").unlink()
    if content is not None:
        (tmp_path / "c.npz").write_bytes(content)
    strip.show_comparison(event, CLASSES)
    assert not strip.isVisible()


def test_the_event_is_read_back_as_it_was_said() -> None:
    import json

    from napari_unet.core.events import event_to_json

    event = ComparisonReady("a.npz", BOXES, (0.5, 0.25, 0.125), "a sentence")
    assert parse_event(json.dumps(event_to_json(event)).encode()) == event
