"""How smooth napari's window stays while an engine works, and what that costs the engine.

::

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m benchmarks.responsiveness

Drives the real widget in a real window over a slice of 4096 x 4096 pixels, in phases of
``--seconds`` each:

* ``rest``: nothing runs; ``rest-pan``: the view is dragged every two seconds.
* ``segment``: region "this slice", again and again; ``segment-pan``: dragged meanwhile.
* ``draft``: a stroke is painted with the mouse every second, and the draft follows.
* ``fine-tune``: on these strokes; the preview comes meanwhile.

A gap is the time between two ticks of a timer of 10 ms in the GUI's thread. After each finished
segmentation of the panel, the same job is done by the command line while napari rests: the ratio of
their pixels per second is the share of the throughput that is left. All phases together take five
minutes on two quiet cores. ``--blame`` samples what the GUI's thread was doing in long gaps; that
slows it down a little.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
import zarr
from qtpy.QtCore import QEvent, QObject, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_unet.app.annotations import STROKES_FOLDER
from napari_unet.core.events import Finished
from napari_unet.widgets._form import Region
from napari_unet.widgets.dock import SegmentDock
from napari_unet.widgets.samples import open_fib_sem

if TYPE_CHECKING:
    from collections.abc import Callable

EDGE = 4096
WINDOW = (1500, 950)
TICK_MS = 10
PAN_SECONDS = 2.0
STROKE_SECONDS = 1.0
PATIENCE_S = 180.0
LONGEST_MS, P95_MS, THROUGHPUT = 200.0, 60.0, 0.7
"""What the widget promises."""
MOST_FAILURES, MOST_CLI_RUNS = 3, 2
"""In a phase: after so many it ends; more would only take time."""
LONG_GAP_S = 0.06
"""Gaps that are blamed on somebody."""
PHASES = ("rest", "rest-pan", "segment", "segment-pan", "draft", "fine-tune")


class Ticker(QObject):
    """Notes when the GUI's thread was free to do something."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        self.times.append(time.perf_counter())


class Sampler(threading.Thread):
    """Notes every few milliseconds what the GUI's thread is doing."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._watched = threading.get_ident()
        self.samples: list[tuple[float, str]] = []
        gc.callbacks.append(self._on_garbage)

    def _on_garbage(self, phase: str, info: dict[str, int]) -> None:
        # The thread that samples waits meanwhile.
        if info["generation"] == 2:
            self.samples.append((time.perf_counter(), f"garbage collection {phase}s"))

    def run(self) -> None:
        """Sample until the end of the process."""
        while True:
            frame: Any = sys._current_frames().get(self._watched)
            places = []
            while frame is not None and len(places) < 40:
                code = frame.f_code
                places.append(f"{Path(code.co_filename).stem}.{code.co_name}:{frame.f_lineno}")
                frame = frame.f_back
            self.samples.append((time.perf_counter(), " < ".join(places[:14])))
            time.sleep(0.005)


@dataclass
class Phase:
    """What was measured in a phase: seconds of the gaps, pixels per second of panel and CLI."""

    gaps: list[float] = field(default_factory=list)
    panel: list[float] = field(default_factory=list)
    cli: list[float] = field(default_factory=list)
    note: str = ""
    failed: int = 0

    def row(self) -> dict[str, Any]:
        """Return the numbers as they are printed."""
        gaps = 1e3 * np.array(self.gaps)
        row = {
            "seconds": round(float(gaps.sum()) / 1e3, 1),
            "gap_p50_ms": round(float(np.median(gaps)), 1),
            "gap_p95_ms": round(float(np.quantile(gaps, 0.95)), 1),
            "gap_p99_ms": round(float(np.quantile(gaps, 0.99)), 1),
            "gap_longest_ms": round(float(gaps.max()), 1),
            "gaps_over_100_ms": int((gaps > 100).sum()),
            "load": round(os.getloadavg()[0], 1),
        }
        if self.panel:
            row["panel_pixels_per_s"] = round(statistics.median(self.panel))
        if self.cli:
            row["cli_pixels_per_s"] = round(statistics.median(self.cli))
            row["ratio"] = round(statistics.median(self.panel) / statistics.median(self.cli), 3)
        return row


class Session:
    """A window with the widget and a slice in it."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.viewer = napari.Viewer()
        # After napari has found its icons: what is kept here is not to be the user's.
        os.environ |= {"XDG_DATA_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
        os.environ[STROKES_FOLDER] = str(folder / "strokes")
        self.viewer.window.resize(*WINDOW)
        array = zarr.open_array(make_image(folder / "image" / "em.zarr", options.edge), mode="r")
        self.image = self.viewer.add_image(array, name="em")
        self.viewer.dims.set_point(0, 1)
        self.dock = SegmentDock(self.viewer)
        self.viewer.window.add_dock_widget(self.dock, name="Segment with U-Net")
        self.viewer.fit_to_view()
        form = self.dock.panel.form
        form.model_combo.setCurrentText("em-membranes")
        form.region_combo.setCurrentText(Region.THIS_SLICE.value)
        form.output_combo.setCurrentText("temporary")
        self.ticker = Ticker()
        self.sampler = Sampler() if options.blame else None
        if self.sampler is not None:
            self.sampler.start()
        self._finished: list[Finished] = []
        self.dock.panel.runner.reported.connect(self._on_reported)
        self._cli_jobs = 0
        self._measured: list[tuple[float, float]] = []
        self.rng = np.random.default_rng(5)
        wait_until(self.is_idle)

    def _on_reported(self, event: object) -> None:
        if isinstance(event, Finished):
            self._finished.append(event)

    def is_idle(self) -> bool:
        """Whether the panel has an engine ready, and nothing runs, no estimate either."""
        panel = self.dock.panel
        estimate = panel.estimate
        at_rest = estimate._shot is None and not estimate._timer.isActive()
        return panel.runner.is_warm and not panel.is_running and at_rest

    def measure(self, work: Callable[[float], None]) -> list[float]:
        """Return the gaps while `work` lets the window live until a moment."""
        self.rest(time.monotonic() + 0.5)
        first = len(self.ticker.times)
        work(time.monotonic() + self.options.seconds)
        pairs = list(itertools.pairwise(self.ticker.times[first - 1 :]))
        self._measured += pairs
        return [b - a for a, b in pairs]

    def rest(self, until: float) -> None:
        """Do nothing."""
        wait_until(lambda: time.monotonic() >= until)

    def pan(self, until: float) -> None:
        """Drag the view every two seconds."""
        with Panning(self.viewer):
            self.rest(until)

    def segment(self, _: float) -> None:
        """Segment the slice, from the click to a moment after its end."""
        panel = self.dock.panel
        panel.segment_button.click()
        wait_until(lambda: not panel.is_running)
        self.rest(time.monotonic() + 1)

    def segment_and_compare(self, *, pan: bool) -> Phase:
        """Measure segmentations until there is enough, and those of the command line by turns."""
        phase = Phase()
        self._finished.clear()
        while sum(phase.gaps) < self.options.seconds and phase.failed < MOST_FAILURES:
            layers = set(self.viewer.layers)
            with Panning(self.viewer) if pan else contextlib.nullcontext():
                phase.gaps += self.measure(self.segment)
            # What is not a part of it: nobody does this in the course of a run.
            for layer in set(self.viewer.layers) - layers:
                self.viewer.layers.remove(layer)
            if not self._finished:
                phase.failed += 1
                phase.note = f"not finished: {self.dock.panel.message.toPlainText()}"
                continue
            done = self._finished.pop()
            phase.panel.append(done.pixels / done.seconds)
            wait_until(self.is_idle)
            if self.options.cli and len(phase.cli) < MOST_CLI_RUNS:
                phase.cli.append(self.by_command_line())
        return phase

    def by_command_line(self) -> float:
        """Return the pixels per second of the same job by the command line."""
        panel = self.dock.panel
        job, _ = panel._planner.shown(panel.form.choices())
        self._cli_jobs += 1
        output = self.folder / f"cli-{self._cli_jobs}.zarr"
        path = self.folder / "job.json"
        path.write_text(job.model_copy(update={"output": str(output)}).model_dump_json())
        words = ["-m", "napari_unet", "segment", "--config", str(path), "--progress", "json"]
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        last = json.loads(done[-1])
        return float(last["pixels"]) / float(last["seconds"])

    def open_fine_tune(self) -> None:
        """Open the page, look closer, and have a layer to paint on."""
        self.dock.pages.setCurrentIndex(1)
        panel = self.dock.fine_tune
        if panel is None:
            raise SystemExit("the page Fine-tune did not open")
        self.viewer.scene.camera.zoom = 1.5
        panel.form.new_button.click()
        wait_until(lambda: "draft" in self.viewer.layers and panel.runner.is_warm)

    def paint(self, until: float) -> None:
        """Paint a stroke every second, of one class after the other."""
        panel = self.dock.fine_tune
        if panel is None:
            raise SystemExit("the page Fine-tune is not open")
        number = 0
        while time.monotonic() < until:
            began = time.monotonic()
            panel.form.classes.table.setCurrentCell(number % 2, 1)
            self.stroke()
            number += 1
            wait_until(lambda b=began: time.monotonic() >= min(b + STROKE_SECONDS, until))

    def stroke(self) -> None:
        """Draw a stroke with the mouse, as fast as a hand."""
        canvas = self.viewer.window._qt_viewer.canvas.native
        left = Qt.MouseButton.LeftButton
        place = self.rng.uniform(0.3, 0.7, 2) * (canvas.width(), canvas.height())
        QTest.mousePress(canvas, left, pos=QPoint(*place.astype(int)))
        for _ in range(25):
            place += self.rng.uniform(-8, 8, 2)
            at = QPoint(*place.astype(int))
            moved = QMouseEvent(
                QEvent.Type.MouseMove, QPointF(at), QPointF(canvas.mapToGlobal(at)),
                Qt.MouseButton.NoButton, left, Qt.KeyboardModifier.NoModifier,
            )  # fmt: skip
            QApplication.sendEvent(canvas, moved)
            QTest.qWait(20)
        QTest.mouseRelease(canvas, left, pos=QPoint(*place.astype(int)))

    def fine_tune(self, until: float) -> None:
        """Learn from the strokes that were painted."""
        panel = self.dock.fine_tune
        if panel is None:
            raise SystemExit("the page Fine-tune is not open")
        panel.form.options.minutes.setValue(self.options.seconds / 60)
        panel.fine_tune_button.click()
        self.rest(until)

    def run(self, name: str) -> Phase:
        """Return what a phase measured."""
        if name.startswith("rest"):
            return Phase(self.measure(self.pan if name == "rest-pan" else self.rest))
        if name.startswith("segment"):
            return self.segment_and_compare(pan=name == "segment-pan")
        if self.dock.fine_tune is None:
            self.open_fine_tune()
        if name == "draft":
            return Phase(self.measure(self.paint))
        panel = self.dock.fine_tune
        phase = Phase(self.measure(self.fine_tune))
        wait_until(lambda: panel is not None and not panel.is_running)
        phase.note = "" if panel is None else panel.message.toPlainText()
        return phase

    def blame(self) -> list[str]:
        """Return what was done in the longest gaps measured since last asked, longest first."""
        measured, self._measured = self._measured, []
        if self.sampler is None:
            return []
        long = sorted(((b - a, a, b) for a, b in measured if b - a > LONG_GAP_S), reverse=True)[:6]
        lines = []
        for length, a, b in long:
            inside = [words for when, words in self.sampler.samples if a < when < b]
            lines.append(f"{1e3 * length:.0f} ms, {len(inside)} samples")
            places = collections.Counter(words.split(" < ")[0] for words in inside)
            lines.append("    " + ", ".join(f"{n} x {w}" for w, n in places.most_common(5)))
            common = collections.Counter(inside).most_common(2)
            lines += [f"    {count} x {words}" for words, count in common]
        return lines


class Panning:
    """Drags the view while it lasts: for a third of a second every two seconds."""

    def __init__(self, viewer: Any) -> None:
        self._camera, self._steps = viewer.scene.camera, 0
        self._timer = QTimer()
        self._timer.setInterval(30)
        self._timer.timeout.connect(self._step)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.stop()

    def _step(self) -> None:
        since = time.monotonic() % PAN_SECONDS
        if since < 0.3:
            self._steps += 1
            way = 1 if int(time.monotonic() / PAN_SECONDS) % 2 else -1
            center = list(self._camera.center)
            center[-1] += way * 6 / self._camera.zoom
            self._camera.center = tuple(center)


def make_image(path: Path, edge: int) -> Path:
    """Write three slices of real tissue: the sample, mirrored again and again."""
    ((levels, _, _),) = open_fib_sem()
    tissue = np.asarray(levels[0])[:3]
    pair = np.concatenate([tissue, tissue[:, ::-1]], axis=1)
    block = np.concatenate([pair, pair[:, :, ::-1]], axis=2)
    times = [-(-edge // n) for n in block.shape[1:]]
    slices = np.tile(block, (1, *times))[:, :edge, :edge]
    array: Any = zarr.create_array(path, shape=slices.shape, dtype="uint8", chunks=(1, 512, 512))
    array[:] = slices
    return path


def wait_until(condition: Callable[[], bool]) -> None:
    """Let the window live, as its own event loop does, until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing happened for {PATIENCE_S:.0f} s")
        QTest.qWait(15)


def main() -> int:
    """Print one JSON object for each phase, then a table; exit with 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--edge", type=int, default=EDGE, help="of the slice, in pixels")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--no-cli", dest="cli", action="store_false")
    parser.add_argument("--blame", action="store_true")
    options = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        session = Session(Path(name), options)
        for each in options.phases:
            rows[each] = measured(session, each)
            print(json.dumps({"phase": each, **rows[each]}), flush=True)
            print("\n".join(session.blame()), end="\n" * options.blame, flush=True)
        print(table(rows), flush=True)
        session.viewer.window.remove_dock_widget(session.dock)
        wait_until(lambda: not session.dock._is_open)
        session.viewer.close()
    return 0 if all(map(is_kept, rows.values())) else 1


def measured(session: Session, name: str) -> dict[str, Any]:
    """Return the numbers of a phase; of one that came to no end, why."""
    try:
        phase = session.run(name)
    except (TimeoutError, subprocess.CalledProcessError) as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    row = phase.row() | {"note": phase.note}
    return row | {"failed": phase.note} if phase.failed else row


def is_kept(row: dict[str, Any]) -> bool:
    """Return whether a phase keeps what the widget promises."""
    if "failed" in row:
        return False
    is_smooth = row["gap_longest_ms"] < LONGEST_MS and row["gap_p95_ms"] < P95_MS
    return bool(is_smooth and row.get("ratio", 1.0) >= THROUGHPUT)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the numbers of all phases as Markdown."""
    lines = [
        "| phase | s | p95 ms | p99 ms | longest ms | over 100 ms | panel / CLI | load | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = ("seconds", "gap_p95_ms", "gap_p99_ms", "gap_longest_ms", "gaps_over_100_ms", "ratio")
    for name, row in rows.items():
        cells = [str(row.get(key, "")) for key in (*keys, "load")]
        verdict = "kept" if is_kept(row) else row.get("failed", "broken")
        lines.append(" | ".join([f"| {name}", *cells, f"{verdict} |"]))
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
