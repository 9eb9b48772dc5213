"""Small pictures elsewhere in the image: what the old weights and the new ones make of it.

Scores say how much better a model has become where a person painted; pictures show what has become
of the rest. They lie away from the strokes. One is chosen by chance before anything is computed, so
that it shows the image as it is; the others are those of a sample where old and new differ most.
"""

from __future__ import annotations

import copy
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.suggesting.places import PlaceGrid
from napari_unet.app.suggesting.ranking import spread_places
from napari_unet.app.training.preview import predict_preview
from napari_unet.app.training.run_folder import COMPARISON
from napari_unet.app.training.session import comparison_seconds
from napari_unet.core.boxes import Box
from napari_unet.core.events import Warned
from napari_unet.core.train_events import ComparisonReady
from napari_unet.errors import StorageError, UNetError
from napari_unet.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch import nn

    from napari_unet.app.training.run import TrainingRun
    from napari_unet.core.train_events import TrainEvent

PICTURES = 3
"""How many are shown."""

PICTURE_EDGES = (128, 96, 64)
"""About the edges of a picture, in voxels of the image: some objects, and 0.1 s on two cores. The
first with which there are pictures enough away from the strokes."""

SAMPLED = 8
"""Places that are computed, of which the pictures are chosen."""

PATIENCE = 3.0
"""How much longer than planned the first three may take, such as on a busy machine."""

GRAY_PERCENTILES = (1.0, 99.0)
"""Gray values that are shown black and white."""

COLORS = 3
"""Channels of an image that is shown in color."""

_STREAM = 0x9A17
"""Sets the chance of this module apart from others with the same seed."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One place, before and after.

    Parameters
    ----------
    box : Box
        The place, one slice thick, in voxels of the image as it is stored.
    old : numpy.ndarray or None
        Classes (y, x), uint8, of the old weights; None = there are none.
    new : numpy.ndarray
        Of the new ones.
    """

    box: Box
    old: npt.NDArray[np.uint8] | None
    new: npt.NDArray[np.uint8]

    @property
    def changed(self) -> float:
        """Share of the voxels whose class has changed."""
        return 0.0 if self.old is None else float((self.old != self.new).mean())


def compare(run: TrainingRun) -> Generator[TrainEvent]:
    """Make the pictures of a training that has ended, and say where they are.

    A training is not lost because of them: what goes wrong is a warning.

    Parameters
    ----------
    run : TrainingRun
        Its network holds the weights that are kept.
    """
    try:
        pictures = _pictures(run)
        path = run.plan.run / COMPARISON
        write_comparison(path, [(_gray(run, p.box), p) for p in pictures])
    except UNetError as error:
        yield Warned(f"no pictures of other places could be made: {error}")
        return
    yield ComparisonReady(
        path=str(path),
        boxes=tuple(p.box for p in pictures),
        changed=tuple(round(p.changed, 4) for p in pictures),
        note=_note(pictures),
    )


def write_comparison(path: Path, pictures: Sequence[tuple[npt.NDArray[np.uint8], Picture]]) -> None:
    """Replace the file of the pictures, at once.

    For the k-th picture, from 0, it holds ``image<k>`` (uint8, (y, x) or (y, x, 3)), ``new<k>``
    and, if there are old weights, ``old<k>`` (uint8 classes, (y, x)). No pickle.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    arrays: dict[str, Any] = {}
    for k, (gray, picture) in enumerate(pictures):
        arrays[f"image{k}"], arrays[f"new{k}"] = gray, picture.new
        if picture.old is not None:
            arrays[f"old{k}"] = picture.old
    content = io.BytesIO()
    np.savez(content, **arrays)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}; check the disk") from error


def _pictures(run: TrainingRun) -> list[Picture]:
    """Return the pictures; the first one was chosen by chance alone."""
    budget, began = run.plan.budget, run.clock()
    limit = math.inf if budget is None else comparison_seconds(budget)
    old = _old_network(run)
    found: list[Picture] = []
    for box in _places(run, PICTURES if old is None else SAMPLED):
        # Three are promised, and waited for a while; more only make a better choice.
        patience = PATIENCE if len(found) < PICTURES else 1.0
        if found and run.clock() - began > patience * limit:
            break
        before = None if old is None else _classes(run, old, box)
        found.append(Picture(box, before, _classes(run, run.network.net, box)))
    # Stable: where nothing has changed, chance decides.
    others = sorted(found[1:], key=lambda picture: -picture.changed)
    return found[:1] + others[: PICTURES - 1]


def _places(run: TrainingRun, count: int) -> list[Box]:
    """Return random places away from the strokes, spread over image and slices."""
    volume = run.ground.opened.data.volumes[0]
    annotation, resampling = volume.annotation, volume.resampling
    shape = run.ground.images[0].shape if resampling is None else resampling.image_shape
    chance = np.random.default_rng([run.job.seed, _STREAM])

    def is_free(box: Box) -> bool:
        seen = box if resampling is None else resampling.inside(box)
        return not annotation.read(seen).any()

    found: list[Box] = []
    for edge in PICTURE_EDGES:
        # In a small image there is room beside the strokes for small pictures only.
        grid = PlaceGrid(Box.of_shape(shape), edge)
        found = max(found, spread_places(grid, count, is_free, chance), key=len)
        if len(found) >= PICTURES:
            return found
    # Where everything is annotated there is no elsewhere.
    grid = PlaceGrid(Box.of_shape(shape), PICTURE_EDGES[0])
    return found or spread_places(grid, count, lambda _: True, chance)


def _old_network(run: TrainingRun) -> nn.Module | None:
    """Return a network with the parent's weights, in the classes of the new model."""
    if not run.network.known:
        return None
    old = copy.deepcopy(run.network.net)
    old.load_state_dict(run.start_weights)
    return old


def _classes(run: TrainingRun, net: nn.Module, box: Box) -> npt.NDArray[np.uint8]:
    """Return the classes (y, x) that weights give to a place."""
    where = run.network.geometry, run.network.backend
    resampling = run.ground.opened.data.volumes[0].resampling
    found = predict_preview(net, run.ground.images[0], box, where, resampling)
    return found.reshape(box.shape[1:])


def _gray(run: TrainingRun, box: Box) -> npt.NDArray[np.uint8]:
    """Return a place as it is shown: (y, x), of a color image (y, x, 3)."""
    source = run.ground.images[0].source
    resampling = run.ground.opened.data.volumes[0].resampling
    values = source.read(box if resampling is None else resampling.support(box))
    shown = (values if len(values) == COLORS else values[:1]).astype(np.float64)
    if resampling is not None:
        # Of the image as the network sees it; what is stored need not be open any more.
        shown = np.stack([resampling.labels(channel, box) for channel in shown])
    finite = shown[np.isfinite(shown)]
    low, high = np.percentile(finite, GRAY_PERCENTILES) if finite.size else (0.0, 1.0)
    scaled = np.nan_to_num((shown[:, 0] - low) / max(high - low, 1e-12), nan=0.0)
    gray: npt.NDArray[np.uint8] = (255 * scaled.clip(0, 1)).round().astype(np.uint8)
    return gray[0] if len(gray) == 1 else np.ascontiguousarray(np.moveaxis(gray, 0, -1))


def _note(pictures: Sequence[Picture]) -> str:
    if any(picture.old is None for picture in pictures):
        return "The places were chosen by chance, away from the strokes."
    return (
        "The first place was chosen by chance, the others are those of a sample in which old and "
        "new differ most; all lie away from the strokes."
    )
