"""What a search for places to paint in says. As JSON lines each is one object (`core.events`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from napari_unet.core.events import StageChanged, Warned

if TYPE_CHECKING:
    from napari_unet.core.boxes import Box
    from napari_unet.core.suggest_job import Ranking


@dataclass(frozen=True, slots=True)
class SuggestedPlace:
    """A box of an image in which a person may paint next.

    Parameters
    ----------
    rank : int
        From 1; 0 = not ranked yet.
    box : Box
        The place, (z, y, x), one slice thick, in voxels of the image.
    sureness : float
        Mean probability, 0 to 1, of the class that the model chooses.
    entropy : float
        Mean entropy of the model's probabilities, 0 (sure) to 1 (all classes alike).
    margin : float
        Mean of 1 less the lead of the likeliest class over the second, 0 (sure) to 1.
    disagreement : float or None
        Share of voxels for which the two models choose different classes; None = one model alone.
    words : str
        How sure the model is, in words.
    """

    rank: int
    box: Box
    sureness: float
    entropy: float
    margin: float
    disagreement: float | None
    words: str


@dataclass(frozen=True, slots=True)
class SuggestStarted:
    """The search begins.

    Parameters
    ----------
    input, model : str
        Path of the image, name of the model.
    compared_with : str or None
        Name of the other model.
    ranking : str
        What decides the order.
    places : int
        Places that the image, or the part of it, is divided into.
    windows : int
        Parts, of a tile's size, that will be looked at if time allows.
    device : str
        Where the network runs.
    """

    input: str
    model: str
    compared_with: str | None
    ranking: Ranking
    places: int
    windows: int
    device: str


@dataclass(frozen=True, slots=True)
class PlaceFound:
    """The best place of a part that was just looked at; its rank is 0."""

    place: SuggestedPlace


@dataclass(frozen=True, slots=True)
class SuggestProgress:
    """Parts of the image looked at so far, of how many."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class PlacesRanked:
    """The search is over.

    Parameters
    ----------
    places : tuple of SuggestedPlace
        Ranked, the best first; they do not overlap. Fewer than asked for if there are no more.
    ranking : str
        What has decided the order.
    places_seen : int
        Places that were looked at.
    seconds : float
        How long the search took, without loading.
    """

    places: tuple[SuggestedPlace, ...]
    ranking: Ranking
    places_seen: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SuggestCancelled:
    """The search was stopped; `done` of `total` parts had been looked at."""

    done: int
    total: int


SuggestEvent: TypeAlias = (
    StageChanged
    | Warned
    | SuggestStarted
    | PlaceFound
    | SuggestProgress
    | PlacesRanked
    | SuggestCancelled
)
"""Everything that a search says."""
