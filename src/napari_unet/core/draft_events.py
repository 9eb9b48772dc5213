"""What a drafting engine says.

As JSON lines each is one object, as in `napari_unet.core.events`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from napari_unet.core.events import EngineReady, Failed, Paused, StageChanged, Warned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.core.boxes import Box


@dataclass(frozen=True, slots=True)
class DraftStarted:
    """Image and model are ready; viewports and strokes may come.

    Parameters
    ----------
    model : str
        Name of the model.
    classes : tuple of str
        The k-th class is k in strokes and drafts.
    features : int
        How many features of each pixel the last layer is fitted to.
    device : str
        Where the network runs.
    """

    model: str
    classes: tuple[str, ...]
    features: int
    device: str


@dataclass(frozen=True, slots=True)
class DraftReady:
    """What is looked at was predicted, or predicted anew after strokes.

    Parameters
    ----------
    path : str
        A ``.npy`` file, uint8, of the shape of `box` (z, y, x): the k-th class is k, 0 = not
        computed (yet). A file is replaced after the next few drafts.
    box : Box
        The part of the image, one slice thick: what is looked at, or its middle.
    learned : int
        Stroke pixels that the last layer was fitted to; 0 = the model as it is.
    seconds : float
        From the wish, such as a viewport or strokes, to here.
    classes : tuple of str
        What the labels mean; they are those of the wish before if classes were changed meanwhile.
    """

    path: str
    box: Box
    learned: int
    seconds: float
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StrokeScored:
    """New strokes were compared with the last layer before it learnt them, and after.

    Parameters
    ----------
    pixels : int
        Pixels that got another label, not counting erased ones.
    right_before, right_now : float
        Share of them that had, and has, the class that was painted; 0 to 1.
    classes : mapping
        Class name -> (pixels, right_before, right_now), of the classes that were painted.
    """

    pixels: int
    right_before: float
    right_now: float
    classes: Mapping[str, tuple[int, float, float]]


@dataclass(frozen=True, slots=True)
class DraftStopped:
    """The engine was told to stop, or nobody speaks to it any more; `drafts` were made."""

    drafts: int


DraftEvent: TypeAlias = (
    EngineReady
    | StageChanged
    | Warned
    | Paused
    | DraftStarted
    | DraftReady
    | StrokeScored
    | DraftStopped
    | Failed
)
"""Everything that a drafting engine says; it ends with `DraftStopped` or `Failed`."""
