"""The steps of the storyboard, from the first click to the model that one can return to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from storyboard_hand import BRUSH, BY_HAND, Line, rest, simulated, wait_until
from storyboard_window import LABEL_OF_NEW, StoryWindow

from napari_unet.core import train_events
from napari_unet.core.draft_events import DraftReady, StrokeScored
from napari_unet.core.events import StageChanged
from napari_unet.widgets._before_key import KEY
from napari_unet.widgets._comparison import ComparisonStrip
from napari_unet.widgets._form import Region
from napari_unet.widgets._places import PlacesBox

if TYPE_CHECKING:
    import numpy.typing as npt

MODEL = "em-membranes"
CLASSES = ("interior", "membrane", "mitochondrion")
"""The model knows the first two."""


LABEL_OF_THIN = 2

WAITED_FOR = 10
"""Strokes whose draft is waited for."""


class Story(StoryWindow):
    """What a person would do, step by step, from `play` on."""

    _learned = -1
    """Painted pixels that the last draft had learnt."""

    def play(self, minutes: float) -> None:
        """Tell the story; what is seen is printed."""
        self.viewer.layers.remove(self.segment_view())
        self.viewer.layers.remove(self.segment_all())
        self.viewer.layers.selection.active = self.image
        self.paint()
        self.fine_tune(minutes)
        self.look_closer()
        self.keep()
        self.go_back()

    def segment_view(self) -> Any:
        """Segment what is looked at."""
        form = self.dock.panel.form
        form.model_combo.setCurrentText(MODEL)
        form.region_combo.setCurrentText(Region.VISIBLE_PART.value)
        form.output_combo.setCurrentText("temporary")
        began = time.perf_counter()
        self.dock.panel.segment_button.click()
        layer = self._new_labels()
        self.times.note("Segment, until the view is predicted", since=began, to=self._seen(layer))
        wait_until(lambda: not self.dock.panel.is_running)
        return layer

    def segment_all(self) -> Any:
        """Segment all slices, from the one that is looked at; score them."""
        panel = self.dock.panel
        panel.form.region_combo.setCurrentText(Region.ALL_SLICES.value)
        wait_until(lambda: panel.runner.is_warm)
        panel.segment_button.click()
        layer = self._new_labels()
        self._seen(layer)
        self.take("segment-running")
        wait_until(lambda: not panel.is_running)
        layer.opacity = 0.4
        self.take("segment-done")
        self.score("before", layer)
        return layer

    def _new_labels(self) -> Any:
        """Return the layer of the run that has just begun."""
        known = set(self.viewer.layers)
        wait_until(lambda: bool(set(self.viewer.layers) - known))
        return next(layer for layer in self.viewer.layers if layer not in known)

    def _seen(self, layer: Any) -> float:
        """Return when the first labels of a layer are on the screen."""
        wait_until(lambda: bool(np.any(layer._slice.image.view)))
        return self.on_screen(time.perf_counter())

    def _score_draft(self) -> None:
        """Print scores of the draft of the slice that is looked at, which was painted on."""
        truth = self.subject.truth
        if truth is not None:
            plane = truth[self.subject.painted[0]]
            draft = self._draft_of(plane)
            self.print_scores("draft", np.where(draft > 0, plane, 0), draft)

    def paint(self) -> None:
        """Make a layer to paint on, and paint: what the model knows, then what it does not."""
        began = time.perf_counter()
        self.dock.pages.setCurrentIndex(1)
        self.panel = self.dock.fine_tune
        self.draft_to_screen(began, "page Fine-tune opened, until the view is drafted")
        form = self.panel.form
        form.new_button.click()
        self.layer = form.annotation
        self.hand.watch(self.layer)
        wait_until(lambda: self.panel.runner.is_warm)
        rest(1)
        drawn = 0
        for number in self.subject.painted:
            self.look_at(self.layer, number)
            # The view is predicted before it is painted on.
            rest(1.5)
            drawn += self._paint_slice(number, drawn)
        dabs, events = self.hand.dabs, self.hand.events
        self.times.note_all("a dab of the brush (ms)", [1e3 * s for s in dabs])
        self.times.note_all("a mouse event with the brush down (ms)", [1e3 * s for s in events])
        rest(2)
        self.look_at(self.layer, self.subject.painted[0])
        rest(2)
        self.take("fine-tune-painted")
        self._score_draft()

    def _paint_slice(self, number: int, drawn: int) -> int:
        """Paint on one slice; wait for the drafts of the first strokes, and look at them."""
        done = 0
        for label, (brush, lines) in self._lines(number).items():
            is_new = label > len(self.panel.form.classes.classes)
            if is_new:
                self._add_class(label, CLASSES[label - 1])
            self.panel.form.classes.table.setCurrentCell(label - 1, 1)
            self.layer.brush_size = brush
            for line in lines:
                up = self.hand.draw(self.layer, line)
                if is_new:
                    self.draft_to_screen(up, "first stroke of a new class, until its draft")
                    self.take("fine-tune-draft")
                elif drawn + done < WAITED_FOR:
                    self.draft_to_screen(up, "stroke, until its draft")
                is_new = False
                done += 1
        return done

    def _add_class(self, label: int, name: str) -> None:
        table = self.panel.form.classes
        table.add_button.click()
        table.table.item(label - 1, 1).setText(name)
        wait_until(lambda: name in [each.name for each in table.classes])
        rest(0.5)

    def _lines(self, number: int) -> dict[int, tuple[int, list[Line]]]:
        """Return what is drawn on a slice: label -> brush and lines."""
        by_hand = {
            label: (BRUSH if label != LABEL_OF_THIN else 1, list(BY_HAND[name]))
            for label, name in enumerate(CLASSES, start=1)
        }
        if self.subject.truth is None:
            return by_hand
        truth = self.subject.truth[number]
        draft = self._draft_of(truth)
        if self.subject.truth.max() < LABEL_OF_NEW:
            # Of mitochondria this truth knows nothing; interior is not painted over them.
            truth = np.where(draft == LABEL_OF_NEW, 0, truth)
        wrong = draft != truth
        return by_hand | simulated(truth, self.subject.lines, self._rng, wrong)

    def _draft_of(self, truth: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the labels of the slice that is looked at, 0 where there is no draft."""
        whole = np.zeros_like(truth)
        draft = self.panel.drafting.drafter.preview
        if draft is not None and draft.is_there:
            begin = np.rint(self.image.world_to_data(draft.layer.translate)).astype(int)[-2:]
            plane = np.asarray(draft.layer.data).reshape(draft.layer.data.shape[-2:])
            y, x = (slice(b, b + n) for b, n in zip(begin, plane.shape, strict=True))
            whole[y, x] = plane
        return whole

    def draft_to_screen(self, since: float, name: str) -> None:
        """Note when a draft is seen that has learnt more than the last one that was noted."""
        drafter = self.panel.drafting.drafter
        shown: list[float] = []
        ready: list[int] = []

        def on_reported(event: object) -> None:
            if isinstance(event, DraftReady):
                ready.append(event.learned)
            elif isinstance(event, StrokeScored):
                self.times.scored.append(event)

        def is_there() -> bool:
            return bool(shown and ready) and ready[-1] > self._learned

        def on_shown() -> None:
            shown.append(time.perf_counter())

        drafter.runner.reported.connect(on_reported)
        drafter.shown.connect(on_shown)
        try:
            wait_until(is_there)
        except TimeoutError as error:
            words = self.panel.drafting.draft_label.text()
            raise TimeoutError(f"no draft came; the panel says {words!r}") from error
        self.times.note(name, since=since, to=self.on_screen(shown[-1]))
        self._learned = ready[-1]
        # What was right of the stroke is said next.
        rest(0.2)
        drafter.runner.reported.disconnect(on_reported)
        drafter.shown.disconnect(on_shown)

    def fine_tune(self, minutes: float) -> None:
        """Learn from all strokes, and look at the previews."""
        panel = self.panel
        panel.form.options.minutes.setValue(minutes)
        panel.form.options.rehearse.setChecked(self.subject.rehearses)
        began = time.perf_counter()
        self._began_training = began
        self._seen_previews: list[train_events.PreviewReady] = []
        panel.runner.reported.connect(self._on_training)
        panel.fine_tune_button.click()
        wait_until(lambda: len(self._seen_previews) > 1 or not panel.is_running)
        self.scroll_to(panel.progress_label)
        self.take("fine-tune-running")
        wait_until(lambda: not panel.is_running)
        self.times.note("Fine-tune, until there is a choice", since=began, to=self.on_screen(0))
        panel.runner.reported.disconnect(self._on_training)
        print(panel.outcome.verdict.text(), flush=True)

    def _on_training(self, event: object) -> None:
        began, now = self._began_training, time.perf_counter()
        match event:
            case StageChanged(stage="training"):
                self.times.note("Fine-tune, until the training begins", since=began)
                self._first_step = now
            case train_events.PreviewReady() if len(self._seen_previews) < 3:
                self._seen_previews.append(event)
                which = ("first", "second", "third")[len(self._seen_previews) - 1]
                self.times.note(f"training, until the {which} preview", since=self._first_step)
            case StageChanged(stage="judging"):
                self.times.note("training, until it ends", since=self._first_step)
            case train_events.ComparisonReady():
                self.times.note("training, until the comparison pictures", since=self._first_step)
            case train_events.TrainingFinished(reason=reason, detail=detail):
                print(f"the training ended ({reason}): {detail}", flush=True)

    def look_closer(self) -> None:
        """Look at the scores, at how it was before, at other places, and at where to paint next."""
        rest(1)
        self.take("fine-tune-done")
        self.hand.canvas.setFocus()
        self.hand.hold(Qt.Key[f"Key_{KEY}"], lambda: self.take("fine-tune-before"))
        for strip in self.panel.findChildren(ComparisonStrip):
            if strip.isVisibleTo(self.panel):
                self.scroll_to(strip)
                self.take("fine-tune-comparison")

    def keep(self) -> None:
        """Keep the model by Enter, and segment with it from the view."""
        panel = self.panel
        panel.outcome.setFocus()
        began = time.perf_counter()
        QTest.keyClick(panel.outcome, Qt.Key.Key_Return)
        wait_until(lambda: panel.segment_button.isVisibleTo(panel))
        self.dock.panel.form.region_combo.setCurrentText(Region.ALL_SLICES.value)
        panel.segment_button.click()
        layer = self._new_labels()
        self.times.note("Keep, until the first new labels", since=began, to=self._seen(layer))
        wait_until(lambda: not self.dock.panel.is_running)
        layer.opacity = 0.4
        for each in self.viewer.layers:
            each.visible = each in (self.image, layer)
        self.take("segment-kept")
        self.score("after", layer)

    def go_back(self) -> None:
        """Look where to paint next, and return to the model of before by one click."""
        self.dock.pages.setCurrentIndex(1)
        self._search_places()
        self.viewer.fit_to_view(layers=[self.image])
        self.scroll_to(self.panel.history)
        self.panel.history.buttons[MODEL].click()
        rest(1)
        self.take("fine-tune-history")
        print(
            f"after one click on {MODEL}, Segment has chosen: "
            f"{self.dock.panel.form.model_combo.currentText()}",
            flush=True,
        )

    def _search_places(self) -> None:
        for box in self.panel.findChildren(PlacesBox):
            self.scroll_to(box)
            began = time.perf_counter()
            box.button.click()
            wait_until(lambda b=box: not b.is_searching)
            self.times.note("Paint here next, until all places are ranked", since=began)
            if box.places:
                box.list.setCurrentRow(0)
                box.list.itemClicked.emit(box.list.item(0))
            self.take("fine-tune-places")
