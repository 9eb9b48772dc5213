"""Speaks the engine's protocol without a network: labels are 1, or 2 where the image is bright.

Run as ``python fake_engine.py MODE``; MODE makes it misbehave in one of the ways that the panel
must survive; ``held`` waits in the middle until it is told to pause or to stop. Control lines that
it gets are copied to ``controls.jsonl`` beside the output.
"""

from __future__ import annotations

import io
import itertools
import json
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TILE = 64
MODE = sys.argv[1] if len(sys.argv) > 1 else "good"
HELD_AT = 10
"""Tile before which a job that is held waits."""


def say(event: Any) -> None:
    from napari_unet.core.events import event_to_json

    try:
        sys.stdout.write(json.dumps(event_to_json(event)) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # As the real engine: whoever listened has left, the job goes on.
        sys.stdout = io.StringIO()


def complain(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


def listen(log: Path) -> queue.Queue[str]:
    """Return the commands that come on standard input, as they come."""
    commands: queue.Queue[str] = queue.Queue()

    def work() -> None:
        with log.open("a") as file:
            for text in sys.stdin:
                file.write(text)
                file.flush()
                commands.put(json.loads(text)["command"])

    threading.Thread(target=work, daemon=True).start()
    return commands


def tiles(region: Any) -> Iterator[Any]:
    from napari_unet.core.boxes import Box

    edges = (1, TILE, TILE)
    for start in itertools.product(
        *(range(a, b, n) for a, b, n in zip(region.start, region.stop, edges, strict=True))
    ):
        stop = (min(a + n, b) for a, n, b in zip(start, edges, region.stop, strict=True))
        yield Box(start, tuple(stop))


def segment(job: Any) -> int:
    from napari_unet.core import events
    from napari_unet.core.boxes import Box, parse_region
    from napari_unet.core.classes import ClassInfo
    from napari_unet.io.image import open_image
    from napari_unet.io.ome_zarr_writer import OutputSpec, create_output
    from napari_unet.io.selection import Selection

    output = Path(job.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    commands = listen(output.parent / "controls.jsonl")
    classes = (("interior", "#3b6fb6"), ("membrane", "#e8a33d"))
    source = open_image(job.input, Selection(job.axes, job.channel, job.level, job.time))
    axes = source.spatial_axes
    region = parse_region(job.region, source.shape) if job.region else Box.of_shape(source.shape)
    infos = tuple(ClassInfo(name=name, color=color) for name, color in classes)
    spec = OutputSpec(output, job.name, axes, source.levels[:1], infos, TILE, TILE)
    sink = create_output(spec, replace=True)
    labels, boxes = str(sink.labels_path), list(tiles(region))
    own_shape = source.shape[-len(axes) :]
    say(
        events.JobStarted(
            job.output, job.name, labels, "record", own_shape, region, len(boxes), 1, region.size,
            (1, TILE, TILE), "cpu", classes,
        )
    )  # fmt: skip
    pixels, is_held = 0, MODE == "held"
    for number, box in enumerate(boxes, start=1):
        if MODE in ("slow", "deaf"):
            time.sleep(0.08)
        while not commands.empty() or (is_held and number == HELD_AT):
            command = commands.get()
            is_held = is_held and command not in ("pause", "stop")
            if command == "pause":
                say(events.Paused(True))
                while command not in ("resume", "stop"):
                    command = commands.get()
                say(events.Paused(False))
            if command == "stop" and MODE != "deaf":
                say(events.Cancelled(job.output, number - 1, len(boxes)))
                return 130
        image = source.read(box)[0]
        sink.write_labels(box, 1 + (image > 127).astype("uint8"))
        pixels += box.size
        say(events.TileDone(box, True, number, pixels))
    say(events.BlockDone(region, 1))
    sink.finish({})
    say(events.Finished(job.output, job.name, labels, 1.0, pixels, 0, 0))
    return 0


def main() -> int:
    if MODE == "stillborn":
        return complain("ImportError: no module named torch", 1)
    # Without an import: most fake engines never get a job.
    sys.stdout.write('{"event": "engine_ready", "seconds": 0.1, "version": "fake"}\n')
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        return 0
    from napari_unet.core.events import Failed
    from napari_unet.core.job import SegmentJob

    job = SegmentJob.parse(json.loads(line), source="standard input")
    if MODE == "refuses":
        return complain("some library's warning\nerror: tile size 7 is not legal", 2)
    if MODE == "fails":
        say(Failed(job.input, "chunk c/0 is damaged: copy the file again"))
        return 3
    if MODE == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return segment(job)


if __name__ == "__main__":
    sys.exit(main())
