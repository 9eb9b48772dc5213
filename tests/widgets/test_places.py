"""Paint here next: the box in a real viewer, clicked as a person would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QObject, Qt, Signal

from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.io.annotation_store import create_annotation_store
from napari_unet.widgets import _places
from napari_unet.widgets._annotation_layer import can_be_painted
from napari_unet.widgets._layers import find_input
from napari_unet.widgets._one_shot import OneShotEnd
from napari_unet.widgets._place_view import FRAME_WIDTH, PlaceView
from napari_unet.widgets._places import PlacesBox, PlacesInput
from napari_unet.widgets._view import visible_part
from napari_unet.widgets.dock import MINIMUM_WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST, SECOND = Box((2, 10, 20), (3, 40, 50)), Box((0, 100, 150), (1, 140, 190))


def place(rank: int, box: Box, words: str = "unsure (80 %)") -> dict[str, Any]:
    corners = {"start": list(box.start), "stop": list(box.stop)}
    return {"rank": rank, "box": corners, "words": words}


class FakeSearch(QObject):
    """Says what a test lets it say."""

    said = Signal(object)
    ended = Signal(object)
    made: list[FakeSearch] = []  # noqa: RUF012  # emptied by the fixture

    def __init__(self, parent: QObject, arguments: tuple[str, ...]) -> None:
        super().__init__(parent)
        self.arguments, self.stopped = arguments, False
        self.made.append(self)

    def stop(self) -> None:
        self.stopped = True

    def finish(self, *places: dict[str, Any], ranking: str = "entropy", code: int = 0) -> None:
        event = {"event": "places_ranked", "places": list(places), "ranking": ranking}
        self.said.emit(event)
        self.ended.emit(OneShotEnd(code, ""))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeSearch]:
    FakeSearch.made.clear()
    monkeypatch.setattr(_places, "OneShot", FakeSearch)
    return FakeSearch


@pytest.fixture
def make_box(make_napari_viewer: Callable[..., Any], qtbot: Any) -> Callable[..., PlacesBox]:
    """Docked boxes over the first layer of their viewer."""

    def make(viewer: Any = None, *, show: bool = False, **given: Any) -> PlacesBox:
        viewer = viewer or make_napari_viewer(show=show)
        defaults = {"image": lambda: viewer.layers[0], "model": lambda: "some-model"}
        box = PlacesBox(viewer, PlacesInput(**defaults | given))
        viewer.window.add_dock_widget(box, name="places")
        return box

    return make


def viewer_of(box: PlacesBox) -> Any:
    return box._viewer


def click_row(qtbot: Any, box: PlacesBox, row: int) -> None:
    item = box.list.item(row)
    box.list.scrollToItem(item)
    at = box.list.visualItemRect(item).center()
    qtbot.mouseClick(box.list.viewport(), Qt.MouseButton.LeftButton, pos=at)


def test_a_click_searches_and_a_click_on_a_place_goes_there(
    user: Any, qtbot: Any, make_box: Any, fake: Any, stored_stack: Any
) -> None:
    box = make_box(show=True)
    viewer = viewer_of(box)
    image = viewer.add_image(stored_stack, scale=(40, 8, 8), translate=(5, 100, -50))
    annotation = viewer.add_labels(
        np.zeros(stored_stack.shape, np.uint8), scale=image.scale, translate=image.translate
    )
    assert not box.list.isVisible()
    user.click(box.button)
    (search,) = fake.made
    assert search.arguments[:2] == ("suggest", find_input(image).path)
    assert search.arguments[2:6] == ("--model", "some-model", "--progress", "json")
    search.said.emit({"event": "place_found", "place": place(0, SECOND)})
    assert [box.list.item(k).text() for k in range(box.list.count())] == ["Slice 0: unsure (80 %)"]
    search.finish(place(1, FIRST, "very unsure (61 %)"), place(2, SECOND))
    assert box.places == (FIRST, SECOND)
    assert box.list.item(0).text() == "1. slice 2: very unsure (61 %)"
    assert "least sure" in box.status.text()
    # Clicks, in a viewer whose window has found its size.
    qtbot.wait(100)
    with qtbot.waitSignal(box.went) as went:
        click_row(qtbot, box, 0)
    assert went.args == [FIRST]
    first_frame = box.view.frame
    for row, target in ((1, SECOND), (0, FIRST)):
        click_row(qtbot, box, row)
        seen = visible_part(viewer, image)
        assert seen.contains(target)
        middle = image.data_to_world((np.add(target.start, target.stop) - 1) / 2)
        check_view(viewer, middle[1:], [(96, 96 + 8 * 150), (-54, -54 + 8 * 200)])
    frame = box.view.frame
    assert isinstance(frame, Labels)
    assert frame is first_frame
    for corner in ((0, 0, 0), (0, 29, 29)):
        at = np.add(corner, FIRST.start)
        np.testing.assert_allclose(frame.data_to_world(corner), image.data_to_world(at))
    assert frame.data[0, :FRAME_WIDTH].all()
    assert not frame.data[0, FRAME_WIDTH:-FRAME_WIDTH, FRAME_WIDTH:-FRAME_WIDTH].any()
    assert not can_be_painted(frame)
    assert viewer.layers.selection.active is annotation
    box.close_search()
    assert frame not in viewer.layers


def check_view(viewer: Any, middle: Any, edges: list[tuple[float, float]]) -> None:
    """Check that a place (y, x) is in the middle of the canvas, or the canvas ends with the image.

    Nothing beside the image is seen, unless the canvas is larger.
    """
    camera = viewer.scene.camera
    for place, center, canvas, (low, high) in zip(
        middle, camera.center[-2:], viewer.canvas.size, edges, strict=True
    ):
        half = canvas / camera.zoom / 2
        if 2 * half >= high - low:
            assert center == pytest.approx((low + high) / 2)
        elif center == pytest.approx(max(place, low + half)):
            assert center <= high - half + 1e-6
        else:
            assert center == pytest.approx(high - half)
            assert place > center


@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_place_in_a_corner_is_seen_with_nothing_beside_the_image(
    make_napari_viewer: Any, corner: tuple[int, int]
) -> None:
    viewer = make_napari_viewer()
    pyramid = [np.zeros((2, 4000, 6000), np.uint8)[:, ::k, ::k] for k in (1, 2, 4)]
    image = viewer.add_image(pyramid, scale=(40, 8, 4), translate=(0, 100, -50))
    start = np.multiply(corner, (3900, 5900))
    target = Box((1, *start.tolist()), (2, *(start + 100).tolist()))
    PlaceView(viewer).go_to(image, target)
    seen = visible_part(viewer, image)
    assert seen.contains(target)
    # All of the canvas, to a voxel that is cut.
    pixels = np.multiply(seen.shape[1:], (8, 4)) * viewer.scene.camera.zoom
    np.testing.assert_allclose(pixels, viewer.canvas.size, atol=2 * 8 * viewer.scene.camera.zoom)
    middle = image.data_to_world((1, *(start + 49.5)))
    check_view(viewer, middle[1:], [(96, 96 + 8 * 4000), (-52, -52 + 4 * 6000)])


def test_what_is_given_goes_into_the_command(
    user: Any, make_box: Any, fake: Any, stored_stack: Any, tmp_path: Path
) -> None:
    strokes = tmp_path / "strokes.zarr"
    box = make_box(strokes=lambda: strokes, parent=lambda: "old-model")
    viewer = viewer_of(box)
    viewer.add_image(stored_stack, scale=(40, 8, 8))
    viewer.dims.set_point(0, 40)
    box.scope_combo.setCurrentIndex(box.scope_combo.findText("in this slice"))
    box.ranking_combo.setCurrentIndex(box.ranking_combo.findText("models differ"))
    user.click(box.button)
    words = " ".join(fake.made[0].arguments)
    ranking = "--rank-by disagreement --compare-with old-model"
    for part in (f"--annotation {strokes}", ranking, "--scope slice --slice 1"):
        assert part in words


def test_it_fits_into_a_narrow_dock(make_box: Any, fake: Any, user: Any, stored_stack: Any) -> None:
    box = make_box(show=True)
    viewer_of(box).add_image(stored_stack)
    user.click(box.button)
    fake.made[0].finish(place(1, FIRST, "fairly sure (94 %), the models differ on 11 %"))
    # With the page's frame and the scroll bar.
    assert box.minimumSizeHint().width() <= MINIMUM_WIDTH - 20


def test_a_second_click_stops_the_search(
    user: Any, make_box: Any, fake: Any, stored_stack: Any
) -> None:
    box = make_box()
    viewer_of(box).add_image(stored_stack)
    user.click(box.button)
    assert box.is_searching
    assert box.button.text() == "Stop searching"
    user.click(box.button)
    assert (fake.made[0].stopped, box.is_searching) == (True, False)
    assert box.status.text() == "Stopped."
    user.click(box.button)
    assert len(fake.made) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image": lambda: None}, "no image to paint on"),
        ({"model": lambda: None}, "no model yet"),
        ({"source": lambda image: None}, "exists only in memory"),
    ],
)
def test_what_is_missing_is_said(
    user: Any, make_box: Any, fake: Any, stored_stack: Any, given: Any, words: str
) -> None:
    box = make_box(**given)
    viewer_of(box).add_image(stored_stack)
    complaints: list[str] = []
    box.complained.connect(complaints.append)
    user.click(box.button)
    assert fake.made == []
    assert words in complaints[0]
    assert box.status.text() == complaints[0]


def test_why_nothing_is_found_is_said(
    user: Any, make_box: Any, fake: Any, stored_stack: Any
) -> None:
    box = make_box()
    viewer_of(box).add_image(stored_stack)
    complaints: list[str] = []
    box.complained.connect(complaints.append)
    user.click(box.button)
    fake.made[0].said.emit({"event": "warned", "message": "all hold strokes"})
    fake.made[0].finish(code=3)
    assert complaints == ["all hold strokes"]
    user.click(box.button)
    fake.made[1].ended.emit(OneShotEnd(-1, "ImportError: no module named torch"))
    assert complaints[1] == "The search ended: ImportError: no module named torch"
    assert box.button.text() == "Paint here next"


def test_places_of_an_image_that_was_closed_lead_nowhere(
    user: Any, qtbot: Any, make_box: Any, fake: Any, stored_stack: Any
) -> None:
    box = make_box(show=True)
    viewer = viewer_of(box)
    viewer.add_image(stored_stack)
    user.click(box.button)
    fake.made[0].finish(place(1, FIRST))
    viewer.layers.clear()
    click_row(qtbot, box, 0)
    assert "closed" in box.status.text()
    assert len(viewer.layers) == 0
    box.clear()
    assert box.places == ()


def test_places_of_planes_need_no_slice(
    user: Any, qtbot: Any, make_box: Any, fake: Any, stack: Any
) -> None:
    box = make_box(show=True, source=lambda image: _places.LayerInput("plane.tif"))
    viewer = viewer_of(box)
    image = viewer.add_image(stack[0], scale=(3, 3), rotate=30, translate=(7, 9))
    box.scope_combo.setCurrentIndex(1)
    user.click(box.button)
    assert "--scope" not in fake.made[0].arguments
    target = Box((0, 60, 80), (1, 90, 110))
    fake.made[0].finish(place(1, target), ranking="random")
    assert box.list.item(0).text() == "1. y 60, x 80: unsure (80 %)"
    # So near that the image fills the canvas.
    viewer.scene.camera.zoom = 3.0
    click_row(qtbot, box, 0)
    frame = box.view.frame
    np.testing.assert_allclose(frame.data_to_world((0, 0)), image.data_to_world((60, 80)))
    center = image.world_to_data(viewer.scene.camera.center[-2:])
    np.testing.assert_allclose(center, (74.5, 94.5))


def test_the_zoom_changes_only_where_it_must(make_napari_viewer: Any, stack: Any) -> None:
    viewer = make_napari_viewer()
    image = viewer.add_image(stack)
    view, camera = PlaceView(viewer), viewer.scene.camera
    for zoom in (0.01, 1000.0):
        camera.zoom = zoom
        view.go_to(image, FIRST)
        assert 30 * camera.zoom == pytest.approx(0.3 * min(viewer.canvas.size))
    camera.zoom = 1.1 * camera.zoom
    before = camera.zoom
    view.go_to(image, SECOND)
    assert camera.zoom == before
    viewer.dims.ndisplay = 3
    view.go_to(image, FIRST)
    assert (viewer.dims.ndisplay, viewer.dims.point[0]) == (2, 2)
    # Other axes may be shown: here x lies behind the slider.
    viewer.dims.order = (2, 0, 1)
    view.go_to(image, SECOND)
    # A slider has whole steps.
    assert viewer.dims.point[2] == pytest.approx((150 + 190 - 1) / 2, abs=0.5)
    check_view(viewer, (0, (100 + 140 - 1) / 2), [(-0.5, 2.5), (-0.5, 149.5)])


def test_the_real_command_finds_places_without_strokes(
    user: Any, qtbot: Any, make_box: Any, stored_stack: Any, tiny_model: Path, tmp_path: Path
) -> None:
    classes = [ClassInfo(name="a", color="#ff0000"), ClassInfo(name="b", color="#00ff00")]
    store = create_annotation_store(tmp_path / "strokes.zarr", stored_stack.shape, classes)
    store.write(Box((0, 0, 0), (2, 150, 200)), np.ones((2, 150, 200), np.uint8))
    box = make_box(model=lambda: str(tiny_model), strokes=lambda: store.path)
    viewer_of(box).add_image(stored_stack)
    user.click(box.button)
    user.wait_until(lambda: not box.is_searching)
    assert len(box.places) == 4
    assert {place.start[0] for place in box.places} == {2}
    assert "slice 2" in box.list.item(0).text()
