"""What follows Keep: segmenting with the new model, and the way back to the ones before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_unet.widgets._history import HistoryBox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.app.models import ModelEntry


class SessionBox(QWidget):
    """The models that were begun with or kept since the panel was opened."""

    returned = Signal(str)
    """Name of an earlier model that the user has gone back to."""
    segment_wanted = Signal(str)
    """Name of the model that the image is to be segmented with."""

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []
        self._offered = ""
        self.segment_button = QPushButton()
        self.segment_button.setToolTip(
            "Go to Segment and begin with what you look at, with this model"
        )
        # A long name would widen the dock.
        self.segment_button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.segment_button.hide()
        self.history = HistoryBox()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.segment_button)
        layout.addWidget(self.history)
        self.segment_button.clicked.connect(self._on_segment)
        self.history.chosen.connect(self._on_chosen)

    def remember(self, *names: str) -> None:
        """Take note of models that were begun with or kept, and offer the last for segmenting."""
        self._names.extend(name for name in names if name not in self._names)
        self._offer(names[-1])

    def show_models(self, models: Sequence[ModelEntry], current: str) -> None:
        """Show the session's models among those that there are, and mark the chosen one."""
        own = [model for model in models if model.name in self._names]
        self.history.show_models(own, current)
        if self._offered not in [model.name for model in models]:
            self.withdraw()

    def withdraw(self) -> None:
        """Offer no segmentation, until the next model is kept or gone back to."""
        self._offered = ""
        self.segment_button.hide()

    def _offer(self, name: str) -> None:
        self._offered = name
        self.segment_button.setText(f"Segment with {name}")
        self.segment_button.show()

    def _on_segment(self) -> None:
        self.segment_wanted.emit(self._offered)

    def _on_chosen(self, name: str) -> None:
        self._offer(name)
        self.returned.emit(name)
