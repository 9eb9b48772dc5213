"""How long opening the widget takes, beyond napari itself.

::

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m benchmarks.opening

Each repetition is a fresh process that opens napari's window and lets it come to rest. Then it
docks either our widget, as the menu does, or an empty one, and lets the window come to rest again.
The difference of the two is what our widget costs. Wall time is what a person waits for; processor
time is the same on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

LIMIT_MS = 300.0
"""What opening may cost beyond napari."""


def main() -> int:
    """Print the table; exit with 1 if the widget is slower than it may be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--child", choices=("ours", "empty"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(open_once(given.child)))
        return 0
    runs: dict[str, list[dict[str, float]]] = {"empty": [], "ours": []}
    # The first process of all reads libraries from the disk; it does not count.
    run_child("ours")
    for _ in range(given.repetitions):
        for kind, found in runs.items():
            found.append(run_child(kind))
    print(f"{given.repetitions} fresh processes each; medians, in milliseconds\n")
    print("| docked | import | make and dock | all, wall | least | all, processor |")
    print("|---|---|---|---|---|---|")
    for kind, found in runs.items():
        cells = [statistics.median(run[key] for run in found) for key in ("import", "dock", "wall")]
        least = min(run["wall"] for run in found)
        cells += [least, statistics.median(run["processor"] for run in found)]
        print(f"| {kind} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")
    cost = {
        key: statistics.median(run[key] for run in runs["ours"])
        - statistics.median(run[key] for run in runs["empty"])
        for key in ("wall", "processor")
    }
    print(f"\nbeyond napari: {cost['wall']:.0f} ms wall, {cost['processor']:.0f} ms processor time")
    return 0 if cost["wall"] <= LIMIT_MS else 1


def run_child(kind: str) -> dict[str, float]:
    """Return what one fresh process measured."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.opening", "--child", kind]
    environment = os.environ | {"NAPARI_CONFIG": ""}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(result.stderr)
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def open_once(kind: str) -> dict[str, float]:
    """Return the milliseconds that docking a widget takes in a window that was at rest."""
    import napari
    from qtpy.QtWidgets import QApplication, QWidget

    viewer = napari.Viewer()
    rest(1.0)
    wall, processor = time.perf_counter(), time.process_time()
    if kind == "ours":
        from napari_unet.widgets.dock import SegmentDock

        imported = time.perf_counter()
        widget = SegmentDock(viewer)
    else:
        imported = time.perf_counter()
        widget = QWidget()
        widget.setMinimumWidth(300)
    viewer.window.add_dock_widget(widget, name="opened")
    # Until it is drawn.
    for _ in range(3):
        QApplication.processEvents()
    end = time.perf_counter()
    found = {
        "import": 1e3 * (imported - wall),
        "dock": 1e3 * (end - imported),
        "wall": 1e3 * (end - wall),
        "processor": 1e3 * (time.process_time() - processor),
    }
    viewer.window.remove_dock_widget(widget)
    rest(0.2)
    viewer.close()
    return found


def rest(seconds: float) -> None:
    """Let the window live for a while."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


if __name__ == "__main__":
    raise SystemExit(main())
