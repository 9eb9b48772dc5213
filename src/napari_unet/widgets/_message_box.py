"""The box at the end of a panel that says what there is to say."""

from __future__ import annotations

from qtpy.QtGui import QTextOption
from qtpy.QtWidgets import QPlainTextEdit

LINES = 6
"""Height of the box; longer messages scroll."""


class MessageBox(QPlainTextEdit):
    """Sentences to read, and to copy; they never widen the dock."""

    def __init__(self) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        self.setAccessibleName("Messages")
        # Paths have no spaces to break at; a plain label would widen the dock.
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setFixedHeight(self.fontMetrics().lineSpacing() * LINES + 12)
        # Tab leaves the box, as it leaves every other.
        self.setTabChangesFocus(True)
