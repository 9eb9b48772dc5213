"""The models of this session, parents above children: one click returns to any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QButtonGroup, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.app.models import ModelEntry

FEWEST_SHOWN = 2
"""A single model is nothing to return from."""

INDENT = 12
"""Pixels for each generation."""

MOST_GENERATIONS = 6
"""Deeper ones are not indented further: the dock is narrow."""


class HistoryBox(QWidget):
    """A button for each model that was begun with or kept; hidden while there is one only."""

    chosen = Signal(str)
    """Name of the model that the user returned to."""

    def __init__(self) -> None:
        super().__init__()
        self._group = QButtonGroup(self)
        self._title = QLabel("Models of this session")
        self._title.setToolTip("Each below the one that it was fine-tuned from; click to return")
        self._rows = QVBoxLayout()
        self._rows.setSpacing(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._title)
        layout.addLayout(self._rows)
        self.buttons: dict[str, QPushButton] = {}
        """By the names of the models."""
        self.hide()

    def show_models(self, models: Sequence[ModelEntry], current: str) -> None:
        """Offer these models, and mark the one that is chosen now."""
        for button in self.buttons.values():
            self._group.removeButton(button)
            self._rows.removeWidget(button)
            button.deleteLater()
        self.buttons.clear()
        for depth, model in in_lineage(models):
            self._add(depth, model, is_current=model.name == current)
        self.setVisible(len(models) >= FEWEST_SHOWN)

    def _add(self, depth: int, model: ModelEntry, *, is_current: bool) -> None:
        button = QPushButton(model.name)
        button.setCheckable(True)
        button.setChecked(is_current)
        button.setToolTip(_words(model))
        # A long name would widen the dock.
        button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        indent = min(depth, MOST_GENERATIONS) * INDENT
        button.setStyleSheet(f"text-align: left; margin-left: {indent}px; padding: 2px 6px;")
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        button.clicked.connect(self._on_clicked)
        self._group.addButton(button)
        self._rows.addWidget(button)
        self.buttons[model.name] = button

    def _on_clicked(self) -> None:
        for name, button in self.buttons.items():
            if button is self.sender():
                self.chosen.emit(name)
                return


def in_lineage(models: Sequence[ModelEntry]) -> list[tuple[int, ModelEntry]]:
    """Return models with their generation, each after its parent, in the order given otherwise.

    A model whose parent is not among them begins a line of its own.
    """
    known = {model.sha256 for model in models}
    children: dict[str | None, list[ModelEntry]] = {}
    for model in models:
        parent = model.header.provenance.parent
        above = parent.sha256 if parent is not None and parent.sha256 in known else None
        children.setdefault(None if above == model.sha256 else above, []).append(model)
    found: list[tuple[int, ModelEntry]] = []
    waiting = [(0, model) for model in reversed(children.get(None, []))]
    while waiting:
        depth, model = waiting.pop()
        found.append((depth, model))
        below = children.pop(model.sha256, [])
        waiting.extend((depth + 1, child) for child in reversed(below))
    return found


def _words(model: ModelEntry) -> str:
    provenance = model.header.provenance
    origin = "" if provenance.parent is None else f"Fine-tuned from {provenance.parent.name}. "
    scores = ", ".join(f"{name} {value:.2f}" for name, value in provenance.scores.items())
    return f"{origin}{scores}\nClick to choose it here and in Segment".strip()
