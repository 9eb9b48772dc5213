"""The parts of the dock together: places, pictures, windows, and the way on to Segment."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QObject, QPoint, Qt, Signal

from napari_unet.app.models import list_models
from napari_unet.core.boxes import Box
from napari_unet.widgets import _form, _places, _strokes_window, _train_form
from napari_unet.widgets._annotation_layer import strokes_path
from napari_unet.widgets._one_shot import OneShotEnd
from napari_unet.widgets.dock import MINIMUM_WIDTH

ROW = 12
"""Pixels by which the tops of widgets in one row may differ."""

PLACE = Box((2, 40, 60), (3, 72, 92))


class FakeSearch(QObject):
    """Finds one place at once."""

    said = Signal(object)
    ended = Signal(object)
    made: list[FakeSearch] = []  # noqa: RUF012  # emptied by the fixture

    def __init__(self, parent: QObject, arguments: tuple[str, ...]) -> None:
        super().__init__(parent)
        self.arguments = arguments
        self.made.append(self)

    def stop(self) -> None:
        pass

    def finish(self) -> None:
        box = {"start": list(PLACE.start), "stop": list(PLACE.stop)}
        places = [{"rank": 1, "box": box, "words": "unsure"}]
        self.said.emit({"event": "places_ranked", "places": places, "ranking": "random"})
        self.ended.emit(OneShotEnd(0, ""))

    def value_of(self, option: str) -> str | None:
        words = self.arguments
        return words[words.index(option) + 1] if option in words else None


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[FakeSearch]:
    FakeSearch.made.clear()
    monkeypatch.setattr(_places, "OneShot", FakeSearch)
    return FakeSearch.made


@pytest.fixture
def painted(make_fine_tune: Any, user: Any, stored_stack: Any) -> Any:
    """Return a function that opens the panel over an image with one stroke of each class."""

    def make(mode: str = "good") -> Any:
        dock = make_fine_tune(mode)
        dock.panel._viewer.add_image(stored_stack, name="em", scale=(40, 8, 8))
        user.click(dock.fine_tune.form.new_button)
        labels = dock.fine_tune.form.annotation
        labels.data[1, 10:12, 20:60] = 1
        labels.data[1, 50:52, 20:60] = 2
        return dock

    return make


def names(dock: Any) -> list[str]:
    return [layer.name for layer in dock.panel._viewer.layers]


def test_places_are_searched_for_what_is_chosen(
    user: Any, painted: Any, searches: list[FakeSearch], stored_stack: Any
) -> None:
    dock = painted()
    panel = dock.fine_tune
    places, annotation = panel.elsewhere.places, panel.form.annotation
    assert places.scope_combo.isVisibleTo(panel)
    user.click(places.button)
    (search,) = searches
    assert search.arguments[1] == str(stored_stack.store.root)
    assert search.value_of("--model") == "fake"
    assert search.value_of("--annotation") == str(strokes_path(annotation))
    # The search reads what was painted a moment ago.
    assert not annotation.data.strokes.buffer.is_changed
    search.finish()
    assert places.places == (PLACE,)
    places.list.setCurrentRow(0)
    places.list.itemActivated.emit(places.list.item(0))
    assert dock.panel._viewer.dims.point[0] == 2 * 40
    assert "paint here" in names(dock)
    assert panel.form.annotation is annotation
    # Of another model they may be others.
    panel.form.model_combo.setCurrentText("New model")
    assert places.places == ()
    assert "paint here" not in names(dock)
    user.click(places.button)
    assert "there is no model yet" in places.status.text()
    # A plane is one slice.
    dock.panel._viewer.add_image(np.zeros((90, 80), np.uint8), name="plane")
    panel.form.image_combo.setCurrentText("plane")
    assert not places.scope_combo.isVisibleTo(panel)


def test_models_are_compared_only_where_there_are_two(
    user: Any, painted: Any, searches: list[FakeSearch]
) -> None:
    dock = painted()
    places = dock.fine_tune.elsewhere.places
    user.click(places.button)
    assert searches[0].value_of("--rank-by") == "random"
    assert searches[0].value_of("--compare-with") is None
    user.click(places.button)
    places.ranking_combo.setCurrentText("models differ")
    user.click(places.button)
    assert len(searches) == 1
    assert "there is no second model to compare with" in places.status.text()


def test_pictures_take_the_room_of_the_places(
    user: Any, painted: Any, searches: list[FakeSearch]
) -> None:
    dock = painted("compares")
    panel = dock.fine_tune
    places, comparison = panel.elsewhere.places, panel.elsewhere.comparison
    user.click(places.button)
    searches[0].finish()
    user.fine_tune_and_wait(dock)
    assert not places.isVisibleTo(panel)
    assert [each.accessibleName().split(",")[0] for each in comparison.buttons] == [
        "Image", "Before", "After",
    ]  # fmt: skip
    user.click(comparison.buttons[2])
    assert dock.panel._viewer.dims.point[0] == 2 * 40
    assert names(dock).count("paint here") == 1
    user.click(panel.outcome.revert_button)
    assert not comparison.isVisibleTo(panel)
    assert places.isVisibleTo(panel)
    assert places.places == (PLACE,)
    assert "paint here" not in names(dock)


def test_places_stay_while_live_comes_and_goes(
    user: Any, painted: Any, searches: list[FakeSearch]
) -> None:
    dock = painted("stops")
    panel = dock.fine_tune
    user.click(panel.elsewhere.places.button)
    searches[0].finish()
    panel.drafting.live.due.emit()
    assert panel.is_running
    assert panel.elsewhere.places.isVisibleTo(panel)
    user.click(panel.cancel_button)
    user.click(panel.fine_tune_button)
    assert not panel.elsewhere.places.isVisibleTo(panel)
    user.click(panel.cancel_button)
    assert panel.elsewhere.places.places == (PLACE,)


def test_all_of_it_fits_into_a_narrow_dock(user: Any, painted: Any) -> None:
    dock = painted("compares")
    panel = dock.fine_tune
    user.fine_tune_and_wait(dock)
    panel.form.options.more.expand(animate=False)
    panel.window_offer.show()
    panel.elsewhere.places.show()
    panel.session.remember("a-model-with-a-name-that-is-as-long-as-names-of-models-may-be")
    # With the page's frame and the scroll bar.
    assert panel.minimumSizeHint().width() <= MINIMUM_WIDTH - 20


def test_a_window_follows_by_a_click(
    user: Any, make_fine_tune: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_strokes_window, "LARGEST_PLANE_EDGE", 1500)
    monkeypatch.setattr(_strokes_window, "WINDOW_EDGE", 512)
    dock = make_fine_tune()
    panel, viewer = dock.fine_tune, dock.panel._viewer
    viewer.add_image(np.zeros((2, 1600, 400), np.uint8), name="em", scale=(40, 8, 8))
    viewer.scene.camera.center = (0, 8 * 300, 8 * 200)
    user.click(panel.form.new_button)
    layer = panel.form.annotation
    layer.data[1, 100, 50] = 2
    offer = panel.window_offer
    assert not offer.isVisibleTo(panel)
    viewer.scene.camera.center = (0, 8 * 1500, 8 * 200)
    user.wait_until(lambda: offer.isVisibleTo(panel))
    # Beside the image nothing can be painted, and from the side nothing is.
    viewer.scene.camera.center = (0, 8 * 1700, 8 * 200)
    user.wait_until(lambda: not offer.isVisibleTo(panel))
    viewer.scene.camera.center = (0, 8 * 1500, 8 * 200)
    user.wait_until(lambda: offer.isVisibleTo(panel))
    user.click(offer.button)
    assert not offer.isVisibleTo(panel)
    assert layer.data.window == Box((0, 1024, 0), (2, 1536, 400))
    assert panel.form.annotation is layer
    viewer.scene.camera.center = (0, 8 * 300, 8 * 200)
    user.wait_until(lambda: offer.isVisibleTo(panel))
    viewer.layers.remove(layer)
    assert not offer.isVisibleTo(panel)


def test_segment_goes_on_with_the_model_that_was_kept(
    user: Any, painted: Any, stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = painted()
    panel, viewer = dock.fine_tune, dock.panel._viewer
    user.fine_tune_and_wait(dock)
    for module in (_form, _train_form):
        monkeypatch.setattr(module, "list_models", list_models)
    viewer.add_image(stack[0], name="other")
    dock.panel.form.layer_combo.setCurrentText("other")
    user.click(panel.outcome.keep_button)
    # Whatever is chosen meanwhile: the button does what it says.
    panel.form.model_combo.setCurrentText("em-membranes")
    assert panel.segment_button.text() == "Segment with fake-2"
    user.click(panel.segment_button)
    assert dock.pages.currentIndex() == 0
    assert dock.panel.is_running
    assert dock.panel.form.model_combo.currentText() == "fake-2"
    assert dock.panel.form.layer_combo.currentText() == "em"
    user.wait_until(lambda: not dock.panel.is_running)
    assert dock.panel.message.toPlainText().startswith("Done")


@pytest.mark.parametrize("page", ["segment", "fine-tune"])
def test_tab_leads_into_nothing_that_is_folded(user: Any, make_fine_tune: Any, page: str) -> None:
    dock = make_fine_tune(show=True)
    dock.pages.setCurrentIndex(page == "fine-tune")
    fold = dock.fine_tune.form.options.more if page == "fine-tune" else dock.panel.form.more
    inside = dock.fine_tune.form.options.rehearse if page == "fine-tune" else (
        dock.panel.command_button
    )  # fmt: skip
    user.wait_until(fold.isVisible)
    assert not inside.isVisible()
    fold.toggleButton().click()
    user.wait_until(lambda: inside.visibleRegion().boundingRect().height() > 0)
    fold.toggleButton().click()
    assert not inside.isVisible()


def reached_by_tab(panel: Any) -> list[Any]:
    """Return what the tab key visits in a panel, in order."""
    found, widget = [], panel.nextInFocusChain()
    # Not beyond the panel: PySide6 keeps what of napari's window it has once returned.
    while panel.isAncestorOf(widget):
        by_tab = widget.focusPolicy() & Qt.FocusPolicy.TabFocus == Qt.FocusPolicy.TabFocus
        if by_tab and widget.isVisible() and widget.isEnabled():
            found.append(widget)
        widget = widget.nextInFocusChain()
    return found


@pytest.mark.parametrize("page", ["segment", "fine-tune"])
def test_tab_goes_from_the_top_to_the_bottom(
    user: Any, make_fine_tune: Any, stored_stack: Any, page: str
) -> None:
    dock = make_fine_tune(show=True)
    dock.panel._viewer.add_image(stored_stack, name="em")
    dock.pages.setCurrentIndex(page == "fine-tune")
    panel = dock.fine_tune if page == "fine-tune" else dock.panel
    fold = panel.form.options.more if page == "fine-tune" else panel.form.more
    fold.toggleButton().click()
    inside = fold.content()
    user.wait_until(lambda: inside.visibleRegion().boundingRect().height() > 0)
    if page == "fine-tune":
        panel.window_offer.show()
        panel.outcome.show()
    user.wait_until(lambda: len({each.y() for each in panel.children() if each.isWidgetType()}) > 3)
    places = [each.mapTo(panel, QPoint(0, 0)) for each in reached_by_tab(panel)]
    assert len(places) > 10
    for first, second in itertools.pairwise(places):
        beside = abs(first.y() - second.y()) < ROW and first.x() <= second.x()
        assert beside or first.y() < second.y(), (first, second)
