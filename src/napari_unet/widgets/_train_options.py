"""How a fine-tune learns: for how long, by itself or not, and what it rehearses."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QSpinBox,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_unet.widgets._fold import Fold
from napari_unet.widgets._form import DEVICES, make_combo
from napari_unet.widgets._preferences import preferred

if TYPE_CHECKING:
    from qtpy.QtWidgets import QComboBox

FEWEST_MINUTES = 0.05
MOST_MINUTES = 600.0
USUAL_MINUTES = 1.0

MOST_STEPS = 100_000
USUAL_STEPS = 300

REHEARSAL_SHARE = 0.25
"""Of the patches, when the model is to keep what it knew; see docs/explanation/rehearsal.md."""

LONGEST_UNIT = 5
"""Characters."""

PATIENCE = 3
"""Validations without a better score after which a fine-tune ends: a third of the time."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a fine-tune learns.

    Parameters
    ----------
    minutes, steps : float, int or None
        The budget; exactly one is given.
    device : str
        Where the network runs.
    rehearses : bool
        Whether it goes on learning what its parent learned from.
    ends_on_plateau : bool
        Whether it ends when held-out strokes are no longer answered better.
    """

    minutes: float | None = USUAL_MINUTES
    steps: int | None = None
    device: str = "auto"
    rehearses: bool = False
    ends_on_plateau: bool = True

    @property
    def job_fields(self) -> dict[str, Any]:
        """The same as fields of a `TrainJob`."""
        fields: dict[str, Any] = {
            "minutes": self.minutes,
            "steps": self.steps,
            "device": self.device,
        }
        if self.rehearses:
            fields["sampler"] = {"rehearsal_share": REHEARSAL_SHARE}
        if self.ends_on_plateau:
            fields["loop"] = {"patience": PATIENCE}
        return fields


class TrainOptionsBox(QWidget):
    """Budget and Live at once; what is rarely changed under More."""

    device_changed = Signal()
    live_switched = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.minutes = QDoubleSpinBox()
        self.steps = QSpinBox()
        self.unit_combo = make_combo(("Time", "Steps"), "What bounds the fine-tune")
        self.live = QCheckBox("Live: fine-tune by itself")
        self.more = Fold("More", "Rehearsal, early end, and device")
        self.rehearse = QCheckBox("Rehearse what the model knew")
        self.plateau = QCheckBox("End when it gets no better")
        self.device_combo = make_combo(DEVICES, "Where the network learns; auto = the fastest")
        self._amounts = QStackedWidget()
        self._explain()
        self._lay_out()
        self.unit_combo.currentIndexChanged.connect(self._amounts.setCurrentIndex)
        self.device_combo.currentIndexChanged.connect(self.device_changed)
        self.live.toggled.connect(self.live_switched)

    def _explain(self) -> None:
        self.minutes.setRange(FEWEST_MINUTES, MOST_MINUTES)
        self.minutes.setDecimals(2)
        self.minutes.setValue(USUAL_MINUTES)
        self.minutes.setSuffix(" min")
        self.minutes.setToolTip("How long to train at most, with validation and judging")
        self.minutes.setAccessibleName("Time")
        self.steps.setRange(1, MOST_STEPS)
        self.steps.setValue(USUAL_STEPS)
        self.steps.setSuffix(" steps")
        self.steps.setToolTip(
            "How often the weights are changed; the same number gives the same model again"
        )
        self.steps.setAccessibleName("Steps")
        self.unit_combo.setAccessibleName("Budget")
        self.unit_combo.setMinimumContentsLength(LONGEST_UNIT)
        self.live.setToolTip(
            "Two seconds after a stroke, a fine-tune on all strokes starts by itself, from the "
            "chosen model and for the chosen budget. A new stroke ends it, and it starts anew"
        )
        self.rehearse.setToolTip(
            "Off: all the time goes to your strokes; best for another tissue, but the new model "
            "gets worse at what the old one was made for. On: a quarter of the time goes to what "
            "the old model learned from; best for more of the same tissue. The old model itself "
            "is never changed"
        )
        self.plateau.setToolTip(
            f"End before the budget is used up when {PATIENCE} looks at the held-out strokes in a "
            "row found nothing better. With a new class, looks count from half of the budget on"
        )
        self.plateau.setChecked(True)
        self.device_combo.setAccessibleName("Device")
        self.device_combo.setCurrentText(preferred().device)

    def _lay_out(self) -> None:
        self._amounts.addWidget(self.minutes)
        self._amounts.addWidget(self.steps)
        row = QHBoxLayout()
        row.addWidget(self.unit_combo, stretch=1)
        row.addWidget(self._amounts, stretch=2)
        box = QWidget()
        rare = QFormLayout(box)
        rare.setContentsMargins(0, 0, 0, 0)
        rare.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        rare.addRow(self.rehearse)
        rare.addRow(self.plateau)
        rare.addRow("Device", self.device_combo)
        self.more.addWidget(box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.live)
        layout.addWidget(self.more)
        for before, after in pairwise(self.in_tab_order):
            self.setTabOrder(before, after)

    def options(self) -> TrainOptions:
        """Return what is chosen."""
        by_time = self.unit_combo.currentIndex() == 0
        return TrainOptions(
            self.minutes.value() if by_time else None,
            None if by_time else self.steps.value(),
            self.device_combo.currentText(),
            self.rehearse.isChecked(),
            self.plateau.isChecked(),
        )

    @property
    def in_tab_order(self) -> list[QWidget]:
        """What the tab key visits, in order."""
        combo: QComboBox = self.unit_combo
        return [
            combo,
            self.minutes,
            self.steps,
            self.live,
            self.more.toggleButton(),
            self.rehearse,
            self.plateau,
            self.device_combo,
        ]
