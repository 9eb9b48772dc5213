"""A small prediction of weights that are still learning, where the user is looking."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.training.held_out import predict_box
from napari_unet.core.boxes import Box
from napari_unet.core.events import Warned
from napari_unet.core.train_events import PreviewReady
from napari_unet.errors import StorageError, UNetError
from napari_unet.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt
    from torch import nn

    from napari_unet.app.training.held_out import ImageInput
    from napari_unet.core.receptive import NetGeometry
    from napari_unet.core.resampling import Resampling
    from napari_unet.inference.control import JobControl
    from napari_unet.inference.device import Backend

PREVIEW = "preview.npy"
"""File of the run folder with the newest preview."""

BEFORE = "before.npy"
"""File of the run folder with what the parent says in the same box."""

PREVIEW_EDGE = 512
"""Largest edge of a preview in pixels: a second on two CPU cores."""

FIRST_SECONDS = (5.0, 10.0)
"""Seconds after the first step with a preview, before those that come at fixed intervals."""

INTERVAL_SECONDS = 10.0
"""Between previews from then on."""

FOLLOW_SECONDS = 2.0
"""Least time between previews of different places: whoever moves on sees the new place soon."""

LAST_PREVIEW_SECONDS = 1.0
"""Kept of a budget for the preview of the weights that are kept."""

PREVIEW_SHARE = 0.15
"""Greatest share of the time for previews; slow ones are rarer."""


def preview_box(view: Box, image: Box) -> Box | None:
    """Return the middle of what is looked at, one slice thick and no larger than a preview.

    None = nothing of the image is looked at.

    Examples
    --------
    >>> preview_box(Box((0, 0, 0), (5, 2000, 100)), Box((0, 0, 0), (9, 2000, 80)))
    Box(start=(2, 744, 0), stop=(3, 1256, 80))
    """
    seen = view.intersection(image)
    if seen.is_empty:
        return None
    start, stop = [], []
    for a, b, edge in zip(seen.start, seen.stop, (1, PREVIEW_EDGE, PREVIEW_EDGE), strict=True):
        first = max(a, (a + b - edge) // 2)
        start.append(first)
        stop.append(min(first + edge, b))
    return Box(tuple(start), tuple(stop))


def next_preview(elapsed: float) -> float:
    """Return when the next preview is due, in seconds after the first step.

    Examples
    --------
    >>> [next_preview(seconds) for seconds in (0.0, 5.0, 19.5, 20.0)]
    [5.0, 10.0, 20.0, 30.0]
    """
    early = [seconds for seconds in FIRST_SECONDS if seconds > elapsed]
    return early[0] if early else (elapsed // INTERVAL_SECONDS + 1) * INTERVAL_SECONDS


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is needed to predict a part of an image.

    Parameters
    ----------
    image : ImageInput
        What the network sees.
    geometry : NetGeometry
        Of the network.
    backend : Backend
        Where it runs.
    resampling : Resampling or None
        From the image as it is stored to `image`.
    """

    image: ImageInput
    geometry: NetGeometry
    backend: Backend
    resampling: Resampling | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image as it is stored, (z, y, x)."""
        return self.image.shape if self.resampling is None else self.resampling.image_shape

    def predict(self, net: nn.Module, box: Box) -> npt.NDArray[np.uint8]:
        """Return the classes (z, y, x) of a box of the image as it is stored, one slice thick."""
        where = self.geometry, self.backend
        return predict_preview(net, self.image, box, where, self.resampling)


@dataclass(slots=True, eq=False)
class Previewer:
    """Decides when weights are tried where the user looks, and tries them.

    Parameters
    ----------
    run : Path
        Run folder, which gets the files.
    scene : Scene
        Knows how to predict.
    control : JobControl
        Knows where the user looks, (z, y, x) in voxels of the image as it is stored.
    clock : callable
        Returns seconds that never run backwards.
    before : mapping or None
        Weights of the parent, to compare with; None = there is nothing to compare with.
    """

    run: Path
    scene: Scene
    control: JobControl
    clock: Callable[[], float]
    before: Mapping[str, Any] | None = None
    _began: float = field(init=False)
    _due: float = field(init=False)
    _follow: float = 0.0
    _view: Box | None = None
    _box: Box | None = None
    _parent: nn.Module | None = None
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._due = next_preview(0.0)

    @property
    def is_due(self) -> bool:
        """Whether a preview should be made now."""
        view = self.control.viewport
        if view is None:
            return False
        elapsed = self.clock() - self._began
        moved = self._view is not None and view != self._view and elapsed >= self._follow
        return moved or elapsed >= self._due

    def make(self, net: nn.Module, step: int) -> PreviewReady | Warned | None:
        """Try weights where the user looks.

        A training does not end because of what is looked at: what goes wrong, such as damage of the
        image there, is a warning.

        Parameters
        ----------
        net : torch.nn.Module
            Has the weights.
        step : int
            After which they were taken.

        Returns
        -------
        PreviewReady or Warned or None
            None = nothing of the image is looked at, or what goes wrong was said before.
        """
        began, view = self.clock() - self._began, self.control.viewport
        box = None if view is None else preview_box(view, Box.of_shape(self.scene.shape))
        event: PreviewReady | Warned | None = None
        try:
            event = None if box is None else self._made(net, step, box)
            self._box = box
        except UNetError as error:
            self._box = None
            event = self._complaint(f"there is no preview of what is looked at: {error}")
        self._view = view
        ended = self.clock() - self._began
        rest = ended + (ended - began) / PREVIEW_SHARE
        self._due, self._follow = max(next_preview(ended), rest), max(ended + FOLLOW_SECONDS, rest)
        return event

    def _made(self, net: nn.Module, step: int, box: Box) -> PreviewReady:
        if self.before is not None and box != self._box:
            parent = self._parent_net(net, self.before)
            write_preview(self.run / BEFORE, self.scene.predict(parent, box))
        write_preview(self.run / PREVIEW, self.scene.predict(net, box))
        before = "" if self.before is None else str(self.run / BEFORE)
        return PreviewReady(step, str(self.run / PREVIEW), box, before)

    def _complaint(self, message: str) -> Warned | None:
        said = message in self._said
        self._said.add(message)
        return None if said else Warned(message)

    def _parent_net(self, net: nn.Module, weights: Mapping[str, Any]) -> nn.Module:
        if self._parent is None:
            self._parent = copy.deepcopy(net)
            self._parent.load_state_dict(weights)
            self._parent.eval()
        return self._parent


def predict_preview(
    net: nn.Module,
    image: ImageInput,
    box: Box,
    where: tuple[NetGeometry, Backend],
    resampling: Resampling | None,
) -> npt.NDArray[np.uint8]:
    """Return the classes (z, y, x) of a box of an image as it is stored.

    Parameters
    ----------
    net : torch.nn.Module
        The network.
    image : ImageInput
        What it sees.
    box : Box
        What is wanted, one slice thick.
    where : (NetGeometry, Backend)
        Geometry of the network, and where it runs.
    resampling : Resampling or None
        From the image as it is stored to `image`.
    """
    if resampling is None:
        return predict_box(net, image, box, *where)
    return resampling.labels(predict_box(net, image, resampling.support(box), *where), box)


def write_preview(path: Path, labels: npt.NDArray[np.uint8]) -> None:
    """Replace a preview, at once.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    content = io.BytesIO()
    np.save(content, labels)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise StorageError(f"preview {path} cannot be written: {error.strerror}") from error
