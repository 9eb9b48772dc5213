"""The bar that shows how much of a job is done."""

from __future__ import annotations

from qtpy.QtWidgets import QProgressBar

STEPS = 1000
"""Resolution of the bar."""


class ShareBar(QProgressBar):
    """A progress bar that is drawn with the rest of the window, not by itself at once."""

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0, STEPS)

    def show_share(self, share: float) -> None:
        """Show a share, 0 to 1; negative = unknown, so that it moves to and fro."""
        # Qt's own bar paints in the midst of setValue, and with it the whole of napari's window.
        self.setUpdatesEnabled(False)
        # A range without length moves to and fro.
        self.setRange(0, STEPS if share >= 0 else 0)
        if share >= 0:
            self.setValue(round(share * STEPS))
        self.setUpdatesEnabled(True)

    def rest(self) -> None:
        """Stop moving to and fro; a share that is shown stays."""
        self.setRange(0, STEPS)
