"""The events of a search for places to paint in, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.core.boxes import format_region
from napari_unet.core.suggest_events import PlacesRanked, SuggestCancelled, SuggestStarted

if TYPE_CHECKING:
    from typing import TypeAlias

    from napari_unet.core.suggest_events import PlaceFound, SuggestedPlace, SuggestProgress

    OwnEvent: TypeAlias = (
        SuggestStarted | PlaceFound | SuggestProgress | PlacesRanked | SuggestCancelled
    )


def describe_suggest(event: OwnEvent) -> str | None:
    """Return an event of a search in a sentence, or None when it is not worth one."""
    match event:
        case SuggestStarted():
            against = f", compared with {event.compared_with}" if event.compared_with else ""
            parts = "1 part" if event.windows == 1 else f"{event.windows} parts"
            return (
                f"{event.places:,} places; {event.model}{against} looks at {parts} of the image "
                f"on {event.device}; ranking: {event.ranking}"
            )
        case PlacesRanked():
            return f"looked at {event.places_seen:,} places in {event.seconds:.1f} s"
        case SuggestCancelled():
            return f"cancelled after {event.done} of {event.total} parts"
        case _:
            return None


def describe_place(place: SuggestedPlace) -> str:
    """Return a ranked place as a line for people."""
    return f"{place.rank:3d}  {format_region(place.box)}  {place.words}"
