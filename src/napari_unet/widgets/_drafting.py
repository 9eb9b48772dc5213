"""What follows each stroke: it is stored, the draft learns it, its score is said, Live begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_unet.errors import UNetError
from napari_unet.widgets._annotation_layer import check_fits, strokes_path
from napari_unet.widgets._before_key import KEY, BeforeKey
from napari_unet.widgets._draft import Drafter, DraftRequest, score_words
from napari_unet.widgets._live import LiveSwitch
from napari_unet.widgets._stroke_listener import StrokeListener

if TYPE_CHECKING:
    from napari_unet.core.boxes import Box
    from napari_unet.core.draft_events import StrokeScored
    from napari_unet.widgets._image_copy import ImageCopies
    from napari_unet.widgets._preview import PreviewLayer
    from napari_unet.widgets._train_form import FineTuneForm


class DraftingBox(QWidget):
    """Words about the draft and the newest stroke, and all that follows the strokes.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are painted on.
    form : FineTuneForm
        Knows what is chosen.
    copies : ImageCopies
        Copies of images that exist only in memory.
    """

    painted = Signal()
    """A stroke of the chosen annotation has ended."""

    def __init__(self, viewer: Any, form: FineTuneForm, copies: ImageCopies) -> None:
        super().__init__()
        self._form = form
        self._preview: PreviewLayer | None = None
        self._is_open = False
        self.drafter = Drafter(self, viewer, copies)
        self.strokes = StrokeListener(self)
        self.live = LiveSwitch(self, lambda: self.drafter.is_painting)
        self.key = BeforeKey(viewer, self._show_before)
        self.draft_label = QLabel()
        self.score_label = QLabel()
        self.key_label = QLabel(f"Hold {KEY} to see it as it was before")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for label in (self.draft_label, self.score_label, self.key_label):
            label.setWordWrap(True)
            label.hide()
            layout.addWidget(label)
        self.score_label.setToolTip(
            "How much of what you just painted was predicted right before it was learnt, and after"
        )
        self.key_label.setToolTip(
            "While the key is down, the layer shows what the model said before it learnt"
        )
        self._connect()

    def _connect(self) -> None:
        self._form.changed.connect(self._on_chosen)
        self.drafter.said.connect(self._say)
        self.drafter.scored.connect(self._on_scored)
        self.drafter.shown.connect(self._on_shown)
        self.drafter.gone.connect(self._on_gone)
        self.strokes.painted.connect(self._on_painted)

    def open(self) -> None:
        """Warm up an engine, and listen to strokes."""
        self._is_open = True
        self.drafter.open()
        self._on_chosen()

    def close_engine(self) -> None:
        """Leave no process behind, and listen to nothing."""
        self._is_open = False
        self.key.unbind()
        self.live.set_on(self.live.is_on)
        self.strokes.listen(None)
        self.drafter.close()
        self._preview = None
        for label in (self.draft_label, self.score_label, self.key_label):
            label.hide()

    def flush(self) -> None:
        """Return when all strokes are on disk; raises `StorageError` if it refuses."""
        self.strokes.flush()

    def make_room(self, preview: PreviewLayer) -> None:
        """Let the processor, and soon the view, to a fine-tune with this preview."""
        self._preview = preview
        self.drafter.pause()
        self.draft_label.hide()
        self.score_label.hide()

    def show_key(self) -> None:
        """Leave the view to the preview, which has come, and offer the key."""
        self.drafter.hide(True)
        self._bind()

    def take_back(self) -> None:
        """Draft again."""
        self._preview = None
        self.drafter.resume()
        draft = self.drafter.preview
        if draft is None or not draft.is_there:
            self._on_gone()

    def _on_gone(self) -> None:
        """Give the key back when there is nothing to show by it, and forget the last score."""
        if self._preview is None:
            self.key.unbind()
            self.key_label.hide()
            self.score_label.hide()

    def _bind(self) -> None:
        self.key.bind()
        # Before anything is learnt, there is nothing that was before.
        learnt = self._preview is not None or self.drafter.has_learnt
        self.key_label.setVisible(self.key.is_bound and learnt)

    def _on_shown(self) -> None:
        if self._preview is None:
            self._bind()

    def _show_before(self, held: bool) -> None:
        for layer in (self._preview, self.drafter.preview):
            if layer is not None and (not held or layer.is_there):
                layer.show_before(held)
                if held:
                    return

    def _on_chosen(self) -> None:
        if self._is_open:
            self.strokes.listen(self._form.annotation)
            self.drafter.choose(self._request())

    def _request(self) -> DraftRequest | None:
        form = self._form
        image, model, annotation = form.image, form.model, form.annotation
        if image is None or model is None:
            return None
        if annotation is not None:
            try:
                check_fits(annotation, image)
            except UNetError:
                # Of another image; a fine-tune says so.
                annotation = None
        classes = form.classes.classes
        device = form.options.options().device
        strokes = None if annotation is None else strokes_path(annotation)
        return DraftRequest(image, annotation, strokes, model, classes, device)

    def _on_painted(self, boxes: tuple[Box, ...]) -> None:
        self.painted.emit()
        self.live.stroke()
        self.drafter.learn(boxes)

    def _on_scored(self, event: StrokeScored) -> None:
        self.score_label.setText(score_words(event))
        parts = [
            f"{name}: {round(100 * before)} % before, {round(100 * now)} % now"
            for name, (_, before, now) in event.classes.items()
        ]
        self.score_label.setToolTip("\n".join(parts))
        self.score_label.setVisible(self._preview is None)

    def _say(self, words: str) -> None:
        self.draft_label.setText(words)
        self.draft_label.setVisible(bool(words) and self._preview is None)
