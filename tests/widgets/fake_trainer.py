"""Speaks the training engine's protocol without a network; the model it writes was made before.

Run as ``python fake_trainer.py MODE MODEL``; MODE makes it misbehave in one of the ways that the
panel must survive. What it was told lies in its run folder: ``job.json`` and ``controls.jsonl``.
"""

from __future__ import annotations

import json
import queue
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

# Also imported, by those who look for examples: without arguments then.
MODE, MODEL = (sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 2 else ("good", Path("model"))
STEPS = 6
SLOW = ("stops", "crashes", "previews")


def say(event: str, /, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def listen(log: Path, commands: queue.Queue[dict[str, Any]]) -> None:
    def work() -> None:
        with log.open("a") as file:
            for text in sys.stdin:
                file.write(text)
                file.flush()
                commands.put(json.loads(text))

    threading.Thread(target=work, daemon=True).start()


def started(job: Any, classes: list[tuple[str, str]]) -> None:
    held = {name: 10 for name, _ in classes}
    claim = "2 strokes of each class were held out."
    words = "There are too few strokes to hold any out." if MODE == "unjudged" else claim
    say(
        "training_started", run=job.run, output=job.output, parent=job.parent, classes=classes,
        new_classes=[], annotated=held, held_out=held, validation=words, device="cpu", threads=1,
        output_edge=64, steps=None, seconds=60.0, first_step=0,
    )  # fmt: skip


def preview(run: Path, box: list[list[int]], step: int) -> None:
    import numpy as np

    (z0, y0, x0), (z1, y1, x1) = box
    labels = np.full((z1 - z0, y1 - y0, x1 - x0), 1 + step % 2, dtype=np.uint8)
    path = run / "preview.npy"
    with (run / "preview.tmp").open("wb") as file:
        np.save(file, labels)
    (run / "preview.tmp").replace(path)
    say("preview_ready", step=step, path=str(path), box={"start": box[0], "stop": box[1]})


def learn(job: Any, run: Path) -> str:
    """Return why it ended."""
    commands: queue.Queue[dict[str, Any]] = queue.Queue()
    listen(run / "controls.jsonl", commands)
    name = job.classes[-1]
    endless = MODE in ("stops", "previews")
    step = 0
    box = None
    while step < STEPS or endless:
        step += 1
        time.sleep(0.2 if MODE in SLOW else 0)
        say("step_done", step=step, loss=1 / step, learning_rate=0.001, eta_seconds=9.0)
        if step % 2 == 0:
            metrics = {"score": 0.5, "loss": 1.1 / step, f"f1/{name}": step / 10, f"iou/{name}": 0}
            say("validated", step=step, metrics=metrics, is_best=True)
        if step == 2:
            (run / "best.pt").write_bytes(b"weights")
            say("saved", step=step, path=str(run / "best.pt"))
        if MODE == "crashes" and step == 4:
            sys.stderr.write("RuntimeError: the disk has melted\n")
            sys.stderr.flush()
            raise SystemExit(1)
        while not commands.empty():
            command = commands.get()
            if command["command"] == "stop":
                return "stopped"
            box = command.get("box", box)
        if MODE == "previews" and box is not None:
            preview(run, box, step)
    return "complete"


def judge(classes: list[tuple[str, str]]) -> None:
    if MODE == "unjudged":
        return
    scores = {name: (None if k == 2 else 0.71, 0.82) for k, (name, _) in enumerate(classes)}
    say(
        "judged", on="judging blocks", blocks=12, metric="mean F1", before=0.71, after=0.82,
        low=0.05, high=0.17, verdict="better", classes=scores, note="",
        differences={classes[0][0]: (0.05, 0.17, "better")},
    )  # fmt: skip


def compare(run: Path, old: bool) -> None:
    import numpy as np

    box = {"start": [2, 40, 60], "stop": [3, 72, 92]}
    plane = np.ones((32, 32), np.uint8)
    arrays = {"image0": plane, "new0": 2 * plane} | ({"old0": plane} if old else {})
    np.savez(run / "comparison.npz", **arrays)
    say(
        "comparison_ready", path=str(run / "comparison.npz"), boxes=[box], changed=[1.0],
        note="By chance.",
    )  # fmt: skip


def main() -> int:
    if MODE == "stillborn":
        sys.stderr.write("ImportError: no module named torch\n")
        return 1
    say("engine_ready", seconds=0.1, version="fake")
    line = sys.stdin.readline()
    if not line:
        return 0
    # Not before: most fake engines never get a job.
    from napari_unet.core.train_job import TrainJob

    job = TrainJob.parse(json.loads(line), source="standard input")
    if MODE == "fails":
        say("failed", input=job.output, message="a stroke is alone: paint some more")
        return 3
    run = Path(job.run or "")
    run.mkdir()
    (run / "job.json").write_text(line)
    classes = [(name, job.colors[name]) for name in job.classes or ()]
    say("stage_changed", stage="training")
    started(job, classes)
    if MODE == "warns":
        say("warned", message="the voxel size is far from the model's")
    reason = learn(job, run)
    say("stage_changed", stage="judging")
    judge(classes)
    if MODE == "compares":
        compare(run, old=job.parent is not None)
    shutil.copy(MODEL, job.output)
    say(
        "training_finished", model=job.output, name="fine-tuned", run=job.run, reason=reason,
        detail="That was all.", steps=STEPS, best_step=4, seconds=1.5,
    )  # fmt: skip
    return 130 if reason == "stopped" else 0


if __name__ == "__main__":
    sys.exit(main())
