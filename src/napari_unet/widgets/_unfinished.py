"""Runs that did not finish, or are still going on without us: go on with them, show or stop them.

They are found beside the image of the chosen layer, or dropped here: a record ``NAME.unet.json`` or
an output folder.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_unet.app.job_files import RECORD_SUFFIX, record_path
from napari_unet.core.events import AlreadyDone
from napari_unet.errors import InputError, UNetError
from napari_unet.io.selection import Selection
from napari_unet.widgets._layers import image_root, local_path
from napari_unet.widgets._result import ResultLayer
from napari_unet.widgets._run_watch import RunWatch, Search, SeenRun

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_unet.app.following import AtWork, FollowedRun, Standing
    from napari_unet.core.job import SegmentJob
    from napari_unet.widgets._run_watch import RunKey

BAR_HEIGHT = 6
"""Of the bar under a run's words, in pixels."""


class UnfinishedBox(QWidget):
    """The unfinished runs of the chosen image; hidden while there are none.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layers of runs that are shown.
    """

    go_on_wanted = Signal(object, object)
    """The image layer and the `SegmentJob` that is to go on."""
    complained = Signal(str)
    """What could not be done, in a sentence."""
    dropped = Signal()
    """A record or a folder was dropped; what it holds comes next."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._rows: dict[RunKey, RunRow] = {}
        self._shown: dict[RunKey, ResultLayer] = {}
        self._search = Search()
        self._busy = False
        self._watch = RunWatch(self)
        self._watch.seen.connect(self._on_seen)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self.setAccessibleName("Unfinished runs")
        self.hide()

    @property
    def rows(self) -> tuple[RunRow, ...]:
        """What is shown of each run, the first found first."""
        return tuple(self._rows.values())

    def look_for(self, layer: Image | None, folder: Path | None) -> None:
        """Show the unfinished runs of a layer's image: those beside it, and those in a folder."""
        image = None if layer is None else local_path(layer)
        beside = None if image is None else image_root(image).parent
        folders = tuple(dict.fromkeys(f for f in (beside, folder) if f is not None))
        self._search = Search(image, folders, self._search.named)
        self._watch.look_for(self._search)

    def close_watch(self) -> None:
        """Look no more; layers that are shown stay as they are."""
        self._watch.close()
        self._close_shown()

    def set_busy(self, busy: bool) -> None:
        """Say that the panel has a job of its own; meanwhile nothing is offered."""
        self._busy = busy
        self._show_or_hide()

    def accept_drops(self, widget: QWidget) -> None:
        """Take records and output folders that are dropped on a widget."""
        widget.setAcceptDrops(True)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Take what is dropped, if it is one of ours."""
        if not isinstance(event, QDropEvent):
            return False
        path = _dropped_path(event)
        if path is None:
            return False
        event.acceptProposedAction()
        if event.type() == QEvent.Type.Drop:
            self.dropped.emit()
            self.open_path(path)
        return True

    def open_path(self, path: Path) -> None:
        """Show what a record or an output folder holds: its layers, or that it did not finish."""
        from napari_unet.app.following import runs_of
        from napari_unet.io.output_state import read_output_state

        try:
            runs = runs_of(path)
            if not runs:
                raise InputError(f"{path}: no label image of classes is in it; drop another output")
            for output, name in runs:
                state = read_output_state(output, name)
                if state is not None and state.state == "complete":
                    self._open_record(path if path.is_file() else record_path(output, name))
                else:
                    named = dict.fromkeys((*self._search.named, (output, name)))
                    self._search = Search(self._search.image, self._search.folders, tuple(named))
        except UNetError as error:
            self.complained.emit(str(error))
        self._watch.look_for(self._search)

    def _open_record(self, record: Path) -> None:
        from napari_unet.widgets.reader import read_job_record

        for data, options, kind in read_job_record(str(record)):
            getattr(self._viewer, f"add_{kind}")(data, **options)

    def _on_seen(self, found: tuple[SeenRun, ...]) -> None:
        seen = {each.key: each for each in found}
        for key, each in seen.items():
            self._update_shown(each)
            if each.standing.state == "complete":
                continue
            if key not in self._rows:
                self._add_row(each)
            self._rows[key].update_run(each)
        for key in list(self._rows):
            if key not in seen or seen[key].standing.state == "complete":
                row = self._rows.pop(key)
                self._layout.removeWidget(row)
                row.hide()
                row.deleteLater()
        self._show_or_hide()

    def _add_row(self, seen: SeenRun) -> None:
        row = self._rows[seen.key] = RunRow(seen)
        self._layout.addWidget(row)
        row.go_on_button.clicked.connect(lambda: self._on_go_on(row.run))
        row.show_button.clicked.connect(lambda: self._on_show(row.run))
        row.stop_button.clicked.connect(lambda: self._on_stop(row))

    def _show_or_hide(self) -> None:
        self.setVisible(bool(self._rows) and not self._busy)

    def _update_shown(self, seen: SeenRun) -> None:
        """Show the new blocks of a run whose layer is there."""
        result = self._shown.get(seen.key)
        if result is None:
            return
        for box in seen.standing.new_blocks:
            result.show(box)
        if seen.standing.state == "complete":
            result.close()
            del self._shown[seen.key]

    def _close_shown(self) -> None:
        for result in self._shown.values():
            result.close()
            result.deleteLater()
        self._shown.clear()

    def _on_show(self, run: FollowedRun) -> None:
        from napari_unet.widgets._extra_layers import remove_shown

        key = (run.output, run.name)
        try:
            image = self._image_layer(run.job)
            remove_shown(self._viewer, run.labels)
            result = ResultLayer(self, self._viewer)
            event = AlreadyDone(str(run.output), run.name, run.labels, run.classes)
            result.open(image, run.job, event)
        except UNetError as error:
            self.complained.emit(str(error))
            return
        self._shown[key] = result

    def _on_go_on(self, run: FollowedRun) -> None:
        try:
            image = self._image_layer(run.job)
        except UNetError as error:
            self.complained.emit(str(error))
            return
        # The panel's own run shows it from now on.
        result = self._shown.pop((run.output, run.name), None)
        if result is not None:
            result.close()
            result.deleteLater()
        self.go_on_wanted.emit(image, run.job)

    def _on_stop(self, row: RunRow) -> None:
        from napari_unet.app.following import stop_process

        try:
            for at_work in row.at_work:
                if at_work.is_here:
                    stop_process(at_work)
        except UNetError as error:
            self.complained.emit(str(error))
            return
        row.stop_button.setEnabled(False)
        row.stop_button.setText("Stopping")

    def _image_layer(self, job: SegmentJob) -> Image:
        """Return the layer of a job's image; it is opened if there is none.

        Raises
        ------
        InputError
            If it cannot be opened any more.
        """
        from napari.layers import Image

        from napari_unet.widgets.reader import image_layer

        wanted = image_root(Path(job.input)).absolute()
        for layer in self._viewer.layers:
            if isinstance(layer, Image):
                path = local_path(layer)
                if path is not None and image_root(path).absolute() == wanted:
                    return layer
        opened = image_layer(job.input, Selection(job.axes, job.channel, job.level, job.time))
        if opened is None:
            raise InputError(
                f"{job.input}: the image of this run cannot be opened any more; put it back"
            )
        data, options, _ = opened
        added: Image = self._viewer.add_image(data, **options)
        return added


class RunRow(QWidget):
    """One run: how far it is, and what can be done about it.

    Parameters
    ----------
    seen : SeenRun
        The run.
    """

    def __init__(self, seen: SeenRun) -> None:
        super().__init__()
        self.run = seen.run
        self.at_work: tuple[AtWork, ...] = ()
        self.words = QLabel()
        self.bar = QProgressBar()
        self.go_on_button = QPushButton("Go on")
        self.show_button = QPushButton("Show")
        self.stop_button = QPushButton("Stop")
        self.words.setWordWrap(True)
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(BAR_HEIGHT)
        self.go_on_button.setToolTip("Compute the blocks that are missing, with the same options")
        self.show_button.setToolTip("Show what is done, and what follows, as a layer")
        self.stop_button.setToolTip(
            "Let the process finish the blocks that it is at, and end; what is done is kept"
        )
        buttons = QHBoxLayout()
        for button in (self.go_on_button, self.show_button, self.stop_button):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.addWidget(self.words)
        layout.addWidget(self.bar)
        layout.addLayout(buttons)
        self.update_run(seen)

    def update_run(self, seen: SeenRun) -> None:
        """Show how far the run is now."""
        standing, obstacle = seen.standing, seen.run.obstacle
        self.run, self.at_work = seen.run, standing.at_work
        running = standing.state == "running"
        words = run_words(seen.run.name, seen.run.blocks, standing)
        self.words.setText(words if running or obstacle is None else f"{words}. {obstacle}")
        self.words.setToolTip(str(seen.run.output))
        # Qt counts in 32 bits.
        self.bar.setRange(0, 1000)
        self.bar.setValue(1000 * standing.blocks_done // max(seen.run.blocks, 1))
        self.go_on_button.setVisible(not running and obstacle is None)
        here = any(at_work.is_here for at_work in standing.at_work)
        if self.stop_button.isHidden() == (running and here):
            self.stop_button.setVisible(running and here)
            self.stop_button.setEnabled(True)
            self.stop_button.setText("Stop")


def run_words(name: str, blocks: int, standing: Standing) -> str:
    """Return how far a run is, in words.

    Parameters
    ----------
    name : str
        Name of the label image.
    blocks : int
        Number of blocks in all.
    standing : Standing
        How far it is.
    """
    words = f"{name}: {standing.blocks_done} of {blocks} blocks done"
    if standing.blocks_failed:
        words += f", {standing.blocks_failed} failed"
    if standing.state != "running":
        return f"{words}, {standing.state}"
    first, more = standing.at_work[0], len(standing.at_work) - 1
    where = "on this computer" if first.is_here else f"on {first.host}"
    who = f"process {first.pid} {where}" if first.pid else "another process"
    since = _local_time(first.since)
    who += f", since {since}" if since else ""
    return f"{words}, running ({who}{f', and {more} more' if more else ''})"


def _local_time(since: str) -> str:
    """Return the time of day of a UTC time, with the date if that was not today."""
    try:
        began = datetime.datetime.fromisoformat(since).astimezone()
    except ValueError:
        return ""
    today = datetime.datetime.now().astimezone().date()
    return began.strftime("%H:%M" if began.date() == today else "%Y-%m-%d %H:%M")


def _dropped_path(event: QDropEvent) -> Path | None:
    """Return the record or folder that is dropped; None if it is something else."""
    mime = event.mimeData()
    urls = [] if mime is None else mime.urls()
    if len(urls) != 1 or not urls[0].isLocalFile():
        return None
    path = Path(urls[0].toLocalFile())
    return path if path.name.endswith(RECORD_SUFFIX) or path.is_dir() else None
