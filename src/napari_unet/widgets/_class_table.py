"""The classes that are painted: a small table of numbers, colors and names."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_unet.core.classes import FIRST_CLASS, MAX_CLASSES, ClassInfo
from napari_unet.widgets._annotation_layer import PaintClass

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOR, NAME = 0, 1
"""Columns."""

COLOR_WIDTH = 40
VISIBLE_ROWS = 4
"""More scroll."""

PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999"),
)
"""Colors of added classes: M. Okabe and K. Ito, "Color Universal Design", 2008."""

FRESH_CLASSES = (
    PaintClass("background", PALETTE[0]),
    PaintClass("foreground", PALETTE[1]),
)
"""What a model that starts from nothing tells apart, until the user says otherwise."""


class ClassTable(QWidget):
    """Classes to choose, add, rename, color and remove. The k-th row has the label k."""

    changed = Signal()
    """A class was added, renamed or colored."""
    chosen = Signal(int)
    """The label of the row that the user went to."""
    removed = Signal(int)
    """The label of a row that is gone; the ones below it have moved up."""
    complained = Signal(str)
    """A change that cannot be made, in words."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: list[PaintClass] = []
        self.table = QTableWidget(0, 2)
        self.add_button = QPushButton("Add class")
        self.remove_button = QPushButton("Remove class")
        self._lay_out()
        self.table.itemChanged.connect(self._on_item_changed)
        self.table.cellDoubleClicked.connect(self._on_double_clicked)
        self.table.currentCellChanged.connect(self._on_current_changed)
        self.add_button.clicked.connect(self.add_class)
        self.remove_button.clicked.connect(self._on_remove)

    def _lay_out(self) -> None:
        table = self.table
        table.setAccessibleName("Classes")
        table.setHorizontalHeaderLabels(["color", "class"])
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        header: Any = table.horizontalHeader()
        rows: Any = table.verticalHeader()
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        table.setColumnWidth(COLOR, COLOR_WIDTH)
        row = int(rows.defaultSectionSize())
        table.setFixedHeight(row * VISIBLE_ROWS + header.sizeHint().height() + 4)
        table.setToolTip(
            "Choose a row to paint with it. Double-click a name to change it, a color to choose "
            "another"
        )
        self.add_button.setToolTip("Add a class that the model is to learn from your strokes")
        self.remove_button.setToolTip("Remove the chosen class, and its strokes")
        buttons = QHBoxLayout()
        buttons.addWidget(self.add_button)
        buttons.addWidget(self.remove_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(table)
        layout.addLayout(buttons)

    @property
    def classes(self) -> tuple[PaintClass, ...]:
        """The classes, in order."""
        return tuple(self._classes)

    @property
    def label(self) -> int:
        """Label of the chosen row; 0 = none is."""
        return self.table.currentRow() + FIRST_CLASS

    def show_classes(self, classes: Sequence[PaintClass]) -> None:
        """Show other classes; nothing is emitted."""
        self._classes = list(classes)
        self._fill(0 if self._classes else -1)

    def choose(self, label: int) -> None:
        """Go to the row of a label, if there is one; nothing is emitted."""
        row = label - FIRST_CLASS
        if 0 <= row < len(self._classes) and row != self.table.currentRow():
            self.table.blockSignals(True)
            self.table.setCurrentCell(row, NAME)
            self.table.blockSignals(False)

    def add_class(self) -> None:
        """Add a class with a free name and color, and go to it."""
        if len(self._classes) == MAX_CLASSES:
            self.complained.emit(f"there are {MAX_CLASSES} classes, the most a model can have")
            return
        names = {each.name for each in self._classes}
        number = len(names) + 1
        while f"class {number}" in names:
            number += 1
        color = unlike([each.color for each in self._classes])
        self._classes.append(PaintClass(f"class {number}", color))
        self._fill(len(self._classes) - 1)
        self.changed.emit()
        self.chosen.emit(len(self._classes))

    def _fill(self, current: int) -> None:
        """Write all cells anew and go to a row."""
        self.table.blockSignals(True)
        self.table.setRowCount(len(self._classes))
        for row, each in enumerate(self._classes):
            color = QTableWidgetItem()
            # A selected cell would not show its color.
            color.setFlags(Qt.ItemFlag.ItemIsEnabled)
            color.setBackground(QColor(each.color))
            color.setToolTip(each.color)
            self.table.setItem(row, COLOR, color)
            self.table.setItem(row, NAME, QTableWidgetItem(each.name))
        self.table.setCurrentCell(current, NAME)
        self.table.blockSignals(False)
        self.remove_button.setEnabled(bool(self._classes))

    def _on_item_changed(self, item: QTableWidgetItem) -> None:
        if item.column() == NAME:
            self.rename(item.row(), item.text())

    def rename(self, row: int, text: str) -> None:
        """Call the class of a row something else, unless that cannot be a name here."""
        name = text.strip()
        others = [each.name for number, each in enumerate(self._classes) if number != row]
        try:
            ClassInfo(name=name, color=self._classes[row].color)
        except ValidationError:
            self.complained.emit(f"{text!r} cannot be a class name; use 1 to 64 characters")
        else:
            if name in others:
                self.complained.emit(f"there is a class {name!r} already; choose another name")
            else:
                self._classes[row] = replace(self._classes[row], name=name)
        self._fill(row)
        self.changed.emit()

    def _on_double_clicked(self, row: int, column: int) -> None:
        if column != COLOR:
            return
        color = QColorDialog.getColor(QColor(self._classes[row].color), self, "Color of the class")
        if color.isValid():
            self._classes[row] = replace(self._classes[row], color=color.name())
            self._fill(row)
            self.changed.emit()

    def _on_current_changed(self, row: int, _: int, __: int, ___: int) -> None:
        if row >= 0:
            self.chosen.emit(row + FIRST_CLASS)

    def _on_remove(self) -> None:
        row = self.table.currentRow()
        if 0 <= row < len(self._classes):
            del self._classes[row]
            self._fill(min(row, len(self._classes) - 1))
            self.removed.emit(row + FIRST_CLASS)


def unlike(colors: Sequence[str]) -> str:
    """Return the color of the palette that is farthest from all others, as red, green and blue.

    Examples
    --------
    >>> unlike(["#0072b2"])
    '#e69f00'
    """

    def nearest(color: str) -> float:
        own = bytes.fromhex(color[1:])
        return min((math.dist(own, bytes.fromhex(other[1:])) for other in colors), default=0.0)

    return max(PALETTE, key=nearest)
