"""What a click on Segment would take, said before it is made."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_unet.app.job_files import command_line
from napari_unet.errors import UNetError
from napari_unet.widgets import _tile_times
from napari_unet.widgets._one_shot import OneShot
from napari_unet.widgets._output import label_names
from napari_unet.widgets._progress import format_bytes, format_duration
from napari_unet.widgets._tile_times import TileTime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_unet.core.job import SegmentJob
    from napari_unet.widgets._one_shot import OneShotEnd

WAITING = "Estimating ..."

REST_MS = 600
"""The choices count as made once they have not changed for this long."""

MAX_NAMES = 5
"""Names of a result that are asked about, until one is free or belongs to the same choices."""

FIRST_ARGUMENTS = 2
"""Words before the options of a command line: the program and its command."""


class EstimateBox(QWidget):
    """Asks ``napari-unet plan`` about the job that the form describes, and says what it says.

    Runs only while it is seen and allowed to, in a process of its own. The time of a tile is
    measured once for each model and device, then remembered.

    Parameters
    ----------
    make_job : callable
        Returns the job with the hash of its model's file; None = there is none yet. May raise
        `UNetError`, which is shown.
    may_run : callable
        Returns whether the processor is free for it.
    """

    planned = Signal(object)
    """What ``plan --json`` printed, as a dict; None = nothing is known any more."""
    rescale_wanted = Signal(str)
    """"auto" or "off": the user took the offer."""

    def __init__(
        self,
        make_job: Callable[[], tuple[SegmentJob, str] | None],
        may_run: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._make_job, self._may_run = make_job, may_run
        self._shot: OneShot | None = None
        self._job: SegmentJob | None = None
        self._occasion = ""
        self._known: tuple[TileTime, ...] = ()
        self._time: TileTime | None = None
        self._measures = False
        self._names: Iterator[str] = iter(())
        self._plan: Mapping[str, Any] | None = None
        self._is_old = True
        self.words = QLabel()
        self.offer = QLabel()
        self.offer_button = QPushButton()
        self.offer_button.setToolTip("Change what is chosen under More for Rescale")
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REST_MS)
        self._timer.timeout.connect(self._begin)
        self.offer_button.clicked.connect(self._on_offer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for label in (self.words, self.offer):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            layout.addWidget(label)
        layout.addWidget(self.offer_button)
        self.words.setToolTip(
            "Estimated before it begins: one tile is measured on this computer. Disk is without "
            "compression; mostly it is less"
        )
        self._show("", None)

    def ask(self) -> None:
        """Ask again, once the choices are at rest."""
        self._is_old = True
        self.stop()
        self._timer.start()

    def ask_if_old(self) -> None:
        """Ask what was put off, because it was not seen or the processor was not free."""
        if self._is_old:
            self._timer.start()

    def stop(self) -> None:
        """Ask no more: end the process."""
        self._timer.stop()
        if self._shot is not None:
            self._shot.stop()
            self._shot = None
            # It was not answered.
            self._is_old = True
            if self.words.text() == WAITING:
                self._show("", None)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Ask now what was not asked while nobody would have seen it."""
        super().showEvent(event)
        self.ask_if_old()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Leave the processor to others."""
        super().hideEvent(event)
        self.stop()

    def _begin(self) -> None:
        if not self.isVisible() or not self._may_run():
            return
        self._is_old = False
        try:
            made = self._make_job()
        except UNetError as error:
            self._forget(str(error))
            return
        if made is None:
            self._forget("")
            return
        self._job, sha256 = made
        self._occasion = _tile_times.occasion_of(self._job, sha256)
        self._known = _tile_times.recall(self._occasion)
        self._names = islice(label_names(str(self._job.name)), MAX_NAMES)
        next(self._names)
        self._run(measure=not self._known)

    def _run(self, *, measure: bool) -> None:
        """Ask the command line; a tile is measured only where its time is not known."""
        if self._job is None:
            return
        self._measures = measure
        words = command_line(self._job)[FIRST_ARGUMENTS:]
        option = "--measure" if measure else "--no-measure"
        self._shot = OneShot(self, ("plan", *words, option, "--json"))
        self._shot.said.connect(self._on_said)
        self._shot.ended.connect(self._on_ended)
        if not self.words.text():
            self._show(WAITING, None)

    def _on_said(self, plan: Mapping[str, Any]) -> None:
        self._plan = plan
        measured = plan.get("measured")
        if measured is not None:
            seconds = max(measured["network_seconds"], measured["reading_seconds"] or 0.0)
            time = TileTime(seconds, tuple(plan["tile_shape"]), measured["device"])
            _tile_times.remember(self._occasion, time)
            self._known = (time,)

    def _on_ended(self, end: OneShotEnd) -> None:
        self._shot, plan, self._plan = None, self._plan, None
        if end.code != 0 or plan is None:
            self._forget(end.reason)
            return
        if plan["begun"] is not None and plan["begun"]["differs"] and self._take_next_name():
            return
        shape = tuple(plan["tile_shape"])
        self._time = next((time for time in self._known if time.tile_shape == shape), None)
        self._show(estimate_words(plan, self._time), plan)
        self.planned.emit(plan)
        if self._time is None and not self._measures:
            # What was measured before were other tiles.
            self._run(measure=True)

    def _take_next_name(self) -> bool:
        """Ask again under the next name, because the last one belongs to other choices."""
        name = next(self._names, None)
        if name is None or self._job is None:
            return False
        self._job = self._job.model_copy(update={"name": name})
        self._run(measure=not self._known)
        return True

    def _forget(self, words: str) -> None:
        self._show(words, None)
        self.planned.emit(None)

    def _show(self, words: str, plan: Mapping[str, Any] | None) -> None:
        offer, button = ("", "") if plan is None else offer_words(plan)
        shown = ((self.words, words), (self.offer, offer), (self.offer_button, button))
        for widget, text in shown:
            widget.setText(text)
            widget.setVisible(bool(text))

    def _on_offer(self) -> None:
        self.rescale_wanted.emit("auto" if self.offer.text() else "off")


def estimate_words(plan: Mapping[str, Any], time: TileTime | None) -> str:
    """Return what a job takes, in words.

    Parameters
    ----------
    plan : mapping
        What ``napari-unet plan --json`` prints.
    time : TileTime or None
        How long a tile takes; None = not known yet.
    """
    begun, left = plan["begun"], plan["blocks_left"]
    goes_on = begun is not None and not begun["differs"] and left < plan["blocks"]
    if goes_on and not left:
        return "This was done before: Segment shows it."
    tiles = round(plan["tiles"] * left / plan["blocks"])
    words = f"{tiles:,} tile{'s' * (tiles != 1)}"
    if time is not None:
        words += f", about {format_duration(tiles * time.seconds)} on {time.device}"
    objects = plan["objects"] or {"memory_bytes": 0, "disk_bytes": 0}
    memory = max(plan["memory_bytes"], objects["memory_bytes"])
    disk = plan["disk_bytes"] + objects["disk_bytes"]
    free = plan["storage"]["free_bytes"]
    lines = [
        f"{words}. {format_bytes(memory)} of memory; at most {format_bytes(disk)} of disk, "
        f"{format_bytes(free)} are free."
    ]
    if goes_on:
        done = plan["blocks"] - left
        lines.append(f"{done:,} of {plan['blocks']:,} blocks are done: Segment goes on from there.")
    lines += [sentence(note) for note in plan["notes"]]
    return "\n".join(lines)


def offer_words(plan: Mapping[str, Any]) -> tuple[str, str]:
    """Return why the image might be rescaled, and what the button for that says.

    Where it is rescaled, the notes of the plan say why. Both are empty where nothing suggests it.
    """
    if plan["suggested_rescale"] is None:
        return "", ""
    if plan["rescale"] is not None:
        return "", "Do not rescale"
    factor = factor_words(plan["suggested_rescale"])
    return (
        f"The model was trained on voxels of another size: shown {factor}, the image would look "
        "as it knows it.",
        "Rescale",
    )


def factor_words(factors: list[float]) -> str:
    """Return factors in y and x in words.

    Examples
    --------
    >>> factor_words([0.5, 0.5]), factor_words([0.5, 2.0])
    ('0.5 x', '0.5 x in y, 2 x in x')
    """
    y, x = factors
    return f"{y:.3g} x" if y == x else f"{y:.3g} x in y, {x:.3g} x in x"


def sentence(text: str) -> str:
    """Return a clause with a capital letter and a period.

    Examples
    --------
    >>> sentence("the image is gray")
    'The image is gray.'
    """
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
