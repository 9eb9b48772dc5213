"""Choices that are rarely changed, folded away."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QPixmap
from superqt import QCollapsible

FOLDED, UNFOLDED = (
    "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}",
    "\N{BLACK DOWN-POINTING SMALL TRIANGLE}",
)


class Fold(QCollapsible):
    """A button that shows and hides what is added; nothing that is hidden can be tabbed into.

    Parameters
    ----------
    title : str
        On the button.
    tip : str
        What lies in it.
    """

    def __init__(self, title: str, tip: str) -> None:
        # Icons would keep the color of the theme that they were drawn in; and an empty one is false
        # under PySide6, where superqt then takes it for none.
        nothing = QPixmap(1, 1)
        nothing.fill(Qt.GlobalColor.transparent)
        super().__init__(title, expandedIcon=QIcon(nothing), collapsedIcon=QIcon(nothing))
        self._title = title
        self.setDuration(0)
        button, around, inside = self.toggleButton(), self.layout(), self.content().layout()
        button.setToolTip(tip)
        button.setIconSize(QSize(1, 1))
        # Without a style of its own it would hide that it has the focus.
        button.setStyleSheet("text-align: left; padding-left: 6px;")
        for layout in (around, inside):
            if layout is not None:
                layout.setContentsMargins(0, 0, 0, 0)
        self.toggled.connect(self._on_toggled)
        self._on_toggled(False)

    def _on_toggled(self, is_open: bool) -> None:
        self.content().setVisible(is_open)
        self.setText(f"{UNFOLDED if is_open else FOLDED} {self._title}")
