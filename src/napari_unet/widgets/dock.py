"""The dock widget "Segment with U-Net", and what happens to its job when it closes."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QFrame,
    QMainWindow,
    QMessageBox,
    QScrollArea,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_unet.widgets._napari_private import unwrapped
from napari_unet.widgets._preferences import preferred
from napari_unet.widgets._soon import soon
from napari_unet.widgets.segment import SegmentPanel

if TYPE_CHECKING:
    from qtpy.QtGui import QCloseEvent

    from napari_unet.widgets.fine_tune import FineTunePanel
    from napari_unet.widgets.models_panel import ModelsPanel

MINIMUM_WIDTH = 300
"""Pixels; napari would dock it 70 pixels wide."""

MARGIN = 5
"""Pixels around a page's panel."""


class Answer(Enum):
    """What is to become of a running job."""

    STOP = "Stop it"
    GO_ON = "Let it go on"
    STAY = "Keep napari open"


class SegmentDock(QWidget):
    """Segments image layers of any size with a U-Net, and fine-tunes it, in processes of their own.

    Three pages: Segment, Fine-tune, and Models. The latter two are made when they are looked at.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer that it works for.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self.panel = SegmentPanel(self._viewer)
        self.fine_tune: FineTunePanel | None = None
        """The second page's panel; None until the page is looked at."""
        self.models: ModelsPanel | None = None
        """The third page's panel; None until the page is looked at."""
        self.pages = QTabWidget()
        self._first_page, self._second_page, self._third_page = (_scrolled() for _ in range(3))
        self._window: QMainWindow | None = None
        self._is_open = True
        self.setMinimumWidth(MINIMUM_WIDTH)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.pages)
        _fill(self._first_page, self.panel)
        self.pages.addTab(self._first_page, "Segment")
        self.pages.addTab(self._second_page, "Fine-tune")
        self.pages.addTab(self._third_page, "Models")
        self.pages.currentChanged.connect(self._on_page_changed)
        # Wherever it is dropped: what it holds is shown on the first page.
        self.panel.unfinished.accept_drops(self)
        self.panel.unfinished.dropped.connect(self._show_first_page)
        self._preferences = preferred()

    def reset_choices(self, event: object = None) -> None:
        """Offer the viewer's layers as they are now; napari calls this when they change."""
        self.panel.reset_choices(event)
        if self.fine_tune is not None:
            self.fine_tune.reset_choices(event)

    def _on_page_changed(self, index: int) -> None:
        """Make a panel, and start its engine, when it is first looked at."""
        page = self.pages.widget(index)
        if page is self._second_page and self.fine_tune is None:
            self._make_fine_tune()
        elif page is self._third_page and self.models is None:
            self._make_models()

    def _show_first_page(self) -> None:
        self.pages.setCurrentWidget(self._first_page)

    def _make_fine_tune(self) -> None:
        # Not before it is wanted: the panel opens sooner without it.
        from napari_unet.widgets.fine_tune import FineTunePanel

        panel = self.fine_tune = FineTunePanel(self._viewer)
        panel.kept.connect(self._on_kept)
        panel.asked.connect(self._show_outcome)
        panel.segment_wanted.connect(self._segment_with)
        panel.returned.connect(self.panel.form.choose_model)
        _fill(self._second_page, panel)

    def _make_models(self) -> None:
        from napari_unet.widgets.models_panel import ModelsPanel

        panel = self.models = ModelsPanel()
        panel.added.connect(self._on_models_changed)
        panel.removed.connect(self._on_models_changed)
        panel.renamed.connect(self._on_model_renamed)
        panel.wanted.connect(self._choose_for_segmenting)
        _fill(self._third_page, panel)

    def _on_kept(self, name: str) -> None:
        self.panel.form.choose_model(name)
        if self.models is not None:
            self.models.reload(choose=name)

    def _on_models_changed(self, _: str) -> None:
        """Offer the models that there are now; what was chosen stays so if it is still there."""
        self.panel.form.choose_model(self.panel.form.model_combo.currentText())
        if self.fine_tune is not None:
            self.fine_tune.form.reload_models()

    def _on_model_renamed(self, old: str, new: str) -> None:
        chosen = self.panel.form.model_combo.currentText()
        self.panel.form.choose_model(new if chosen == old else chosen)
        if self.fine_tune is not None:
            combo = self.fine_tune.form.model_combo
            taught = combo.currentText()
            self.fine_tune.form.reload_models()
            if taught == old:
                combo.setCurrentText(new)

    def _follow_preferences(self) -> None:
        """Begin anew with the preferences where they have changed."""
        known, self._preferences = self._preferences, preferred()
        if self._preferences == known:
            return
        self.panel.form.begin_with(self._preferences)
        if self.fine_tune is not None:
            self.fine_tune.form.options.device_combo.setCurrentText(self._preferences.device)

    def _choose_for_segmenting(self, name: str) -> None:
        self.panel.form.choose_model(name)
        self.pages.setCurrentWidget(self._first_page)

    def _segment_with(self, name: str) -> None:
        """Segment the image that was painted on; what is looked at comes first, as always."""
        self._choose_for_segmenting(name)
        image = None if self.fine_tune is None else self.fine_tune.form.image
        if image is not None:
            self.panel.form.layer_combo.setCurrentText(image.name)
        # A run under way keeps its button disabled, and goes on.
        self.panel.segment_button.click()

    def _show_outcome(self) -> None:
        """Scroll to the scores; on a small screen they lie below the edge."""
        if self.fine_tune is not None:
            # The choice counts more than the pictures below it, where there is no room for both.
            for part in (self.fine_tune.elsewhere.comparison, self.fine_tune.outcome):
                self._second_page.ensureWidgetVisible(part, 0, 20)

    def event(self, event: QEvent | None) -> bool:
        """Notice being docked and undocked: the dock's x sends no close event to its content."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            # The move is still under way; questions have to wait for its end.
            soon(self, self._on_moved)
        return bool(super().event(event))

    def _on_moved(self) -> None:
        if self.parent() is None:
            self._release(self._ask(can_stay=False) if self.panel.has_job else Answer.STOP)
            return
        self._watch(_main_window(self))
        if not self._is_open:
            self._is_open = True
            self.panel.open()
            if self.fine_tune is not None:
                self.fine_tune.open()
            if self.models is not None:
                self.models.reload()

    def _reopen_if_kept(self) -> None:
        window = _main_window(self)
        if window is not None and window.isVisible():
            self._on_moved()

    def _watch(self, window: QMainWindow | None) -> None:
        if self._window is not None:
            self._window.removeEventFilter(self)
        self._window = window
        if window is not None:
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Ask what is to become of a running job before napari's window closes."""
        if event is None or watched is not self._window:
            return False
        if event.type() == QEvent.Type.WindowActivate:
            # The dialog of the preferences, which lies before the window, may just be closed.
            self._follow_preferences()
        if event.type() != QEvent.Type.Close:
            return False
        if self._may_close():
            # napari may ask a question of its own, and stay open.
            soon(self, self._reopen_if_kept)
            return False
        event.ignore()
        return True

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Ask what is to become of a running job before a window of our own closes."""
        if self._may_close():
            super().closeEvent(event)
        elif event is not None:
            event.ignore()

    def _may_close(self) -> bool:
        answer = self._ask(can_stay=True) if self.panel.has_job else Answer.STOP
        if answer is Answer.STAY:
            return False
        self._release(answer)
        return True

    def _release(self, answer: Answer) -> None:
        if self._is_open:
            self._is_open = False
            self._watch(None)
            self.panel.close_engine(let_job_go_on=answer is Answer.GO_ON)
            if self.fine_tune is not None:
                self.fine_tune.close_engine()
            if self.models is not None:
                self.models.close_panel()

    def _ask(self, *, can_stay: bool) -> Answer:
        box = QMessageBox(self.window() if can_stay else self._window)
        box.setWindowTitle("Segment with U-Net")
        box.setText("A segmentation is running.")
        box.setInformativeText(
            "It can go on in the background and finish its output, or stop now; what is done is "
            "kept either way."
        )
        buttons: dict[Any, Answer] = {
            box.addButton(Answer.GO_ON.value, QMessageBox.ButtonRole.AcceptRole): Answer.GO_ON,
            box.addButton(Answer.STOP.value, QMessageBox.ButtonRole.DestructiveRole): Answer.STOP,
        }
        if can_stay:
            stay = box.addButton(Answer.STAY.value, QMessageBox.ButtonRole.RejectRole)
            buttons[stay] = Answer.STAY
            box.setEscapeButton(stay)
        box.exec()
        # Closed without an answer: leaving no orphan is the safe one.
        return buttons.get(box.clickedButton(), Answer.STAY if can_stay else Answer.STOP)


def _scrolled() -> QScrollArea:
    """Return an empty page that scrolls where the window is too low."""
    page = QScrollArea()
    page.setWidgetResizable(True)
    page.setFrameShape(QFrame.Shape.NoFrame)
    page.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return page


def _fill(page: QScrollArea, panel: QWidget) -> None:
    """Put a panel into a page, with margins that leave room for the bar that scrolls it."""
    layout = panel.layout()
    if layout is not None:
        layout.setContentsMargins(*(MARGIN,) * 4)
    page.setWidget(panel)


def _main_window(widget: QWidget) -> QMainWindow | None:
    """Return the main window around a widget, also around a floating dock."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QMainWindow):
        parent = parent.parentWidget()
    return parent
