"""Speaks the drafting engine's protocol without a network.

Run as ``python fake_drafter.py MODE LOG``. A draft is all of class 1 before strokes, and of the
last class after. LOG gets the job and every control line. MODE "crashes" dies at the first stroke
of its life, "refuses" cannot use the job, "stillborn" cannot start.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

# Also imported, by those who look for examples: without arguments then.
MODE, LOG = (sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 2 else ("good", Path("log"))


def say(event: str, /, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def log(line: str) -> None:
    with LOG.open("a") as file:
        file.write(json.dumps({"pid": os.getpid()} | json.loads(line)) + "\n")


class Drafts:
    """What the engine knows while it runs."""

    def __init__(self, job: Any) -> None:
        self.folder, self.classes = Path(job.folder), list(job.classes)
        self.box: Any = None
        self.learned = 0
        self.count = 0
        self.paused = False

    def obey(self, message: dict[str, Any]) -> None:
        match message["command"]:
            case "viewport":
                self.box = message["box"]
            case "strokes":
                if MODE == "crashes":
                    sys.stderr.write("RuntimeError: the features have melted\n")
                    sys.stderr.flush()
                    raise SystemExit(1)
                self.learned += 40
                name = self.classes[-1]
                scores = {name: (40, 0.71, 0.88)}
                say("stroke_scored", pixels=40, right_before=0.71, right_now=0.88, classes=scores)
            case "annotation":
                self.learned = 0
            case "classes":
                self.classes = message["classes"]
            case "pause" | "resume" as command:
                self.paused = command == "pause"
                say("paused", paused=self.paused)
        if not self.paused:
            self.draft()

    def draft(self) -> None:
        import numpy as np

        if self.box is None:
            return
        (z0, y0, x0), (z1, y1, x1) = self.box
        label = len(self.classes) if self.learned else 1
        labels = np.full((z1 - z0, y1 - y0, x1 - x0), label, dtype=np.uint8)
        self.count += 1
        path = self.folder / f"draft-{self.count % 4}.npy"
        with path.with_suffix(".tmp").open("wb") as file:
            np.save(file, labels)
        path.with_suffix(".tmp").replace(path)
        box = {"start": self.box[0], "stop": self.box[1]}
        say(
            "draft_ready", path=str(path), box=box, learned=self.learned, seconds=0.1,
            classes=self.classes,
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
    from napari_unet.core.draft_job import DraftJob

    job = DraftJob.parse(json.loads(line), source="standard input")
    log(line)
    if MODE == "refuses":
        say("failed", input=job.input, message="the model has three channels, the image one")
        return 3
    say("draft_started", model=job.model, classes=job.classes, features=16, device="cpu")
    drafts = Drafts(job)
    for text in sys.stdin:
        log(text)
        message = json.loads(text)
        if message["command"] == "stop":
            break
        drafts.obey(message)
    say("draft_stopped", drafts=drafts.count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
