"""The minute that the widget is made for, driven in a real napari window: pictures, scores, times.

Run it where a display is, or under Xvfb::

    xvfb-run -a -s "-screen 0 1600x1100x24" python docs/make_storyboard.py --pictures docs/images

It opens the sample, segments what is looked at, paints with real mouse events, looks at the draft,
fine-tunes for half a minute, looks at what has changed, keeps the model, and segments with it. One
table of all times comes last. ``--pictures`` writes a picture of each step; ``--truth`` gives the
folder with ``bodies.tif`` of the volume that the sample is cut from (see recipes/make_sample.py),
and scores of the membranes before and after are printed.

``--data FOLDER`` does the same on ``raw.tif``, ``membranes.tif`` and ``mitochondria.tif`` (z, y, x)
of the serial-section TEM that benchmarks/fine_tune.py describes, every second pixel: no bundled
model has learnt from it. Lines are drawn where the labels are wrong. Its license does not go
with this repository's: none of its pictures may be put here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import napari
import numpy as np
import tifffile
from skimage.segmentation import find_boundaries
from storyboard_steps import Story
from storyboard_window import Subject

REPOSITORY = Path(__file__).parents[1]

SAMPLE_SLICES = slice(140, 156)
"""Of the volume, that the sample is."""

INTERIOR, MEMBRANE, MITOCHONDRION = 1, 2, 3


def sample(truth: Path | None) -> Subject:
    """Return the bundled sample, painted by hand."""
    painted = (8, 4, 12)
    if truth is None:
        return Subject(None, painted, None, rehearses=True)
    bodies = tifffile.imread(truth / "bodies.tif")[SAMPLE_SLICES]
    # As the recipe of the bundled model draws them.
    membranes = np.stack([find_boundaries(plane, mode="thick") for plane in bodies]) | (bodies == 0)
    classes = np.where(membranes, MEMBRANE, INTERIOR).astype(np.uint8)
    lines = {INTERIOR: 8, MEMBRANE: 10}
    return Subject(None, painted, classes, {"membrane": MEMBRANE}, lines, rehearses=True)


def nerve_cord(data: Path, folder: Path) -> Subject:
    """Return tissue that no bundled model knows, painted where the labels are wrong."""
    raw, membranes, mitochondria = (
        tifffile.imread(data / f"{name}.tif")[:, ::2, ::2]
        for name in ("raw", "membranes", "mitochondria")
    )
    image = folder / "nerve-cord.tif"
    tifffile.imwrite(image, np.ascontiguousarray(raw), metadata=None)
    classes = np.where(mitochondria > 0, MITOCHONDRION, INTERIOR).astype(np.uint8)
    classes[membranes > 0] = MEMBRANE
    scored = {"membrane": MEMBRANE, "mitochondrion": MITOCHONDRION}
    lines = {INTERIOR: 10, MEMBRANE: 14, MITOCHONDRION: 8}
    return Subject(image, (0, 1, 2), classes, scored, lines, scored_from=8)


def main() -> None:
    """Play the story, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each step")
    parser.add_argument("--truth", type=Path, help="folder with bodies.tif, to score the sample")
    parser.add_argument("--data", type=Path, help="tissue of another kind, instead of the sample")
    parser.add_argument("--minutes", type=float, default=0.5, help="time of the fine-tune")
    parser.add_argument("--seed", type=int, default=0, help="of simulated lines")
    options = parser.parse_args()
    pictures = options.pictures
    if pictures is not None:
        if options.data is not None and pictures.resolve().is_relative_to(REPOSITORY):
            parser.error("pictures of this tissue may not be put into the repository")
        pictures.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer()
    # What a run leaves goes with it, and not until every process of it is gone.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        # After napari has found its icons: what is kept here is not to be the user's.
        os.environ |= {"XDG_DATA_HOME": home, "XDG_CACHE_HOME": home}
        os.environ["NAPARI_UNET_STROKES"] = str(Path(home) / "strokes")
        subject = (
            sample(options.truth) if options.data is None else nerve_cord(options.data, Path(home))
        )
        story = Story(viewer, subject, pictures, options.seed)
        try:
            story.play(options.minutes)
        finally:
            story.close()
            print(story.times.table(), flush=True)


if __name__ == "__main__":
    main()
