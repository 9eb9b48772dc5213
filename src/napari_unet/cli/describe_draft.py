"""The events of a drafting engine in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.core.boxes import format_region
from napari_unet.core.draft_events import DraftReady, DraftStarted, DraftStopped, StrokeScored

if TYPE_CHECKING:
    from typing import TypeAlias

    OwnEvent: TypeAlias = DraftStarted | DraftReady | StrokeScored | DraftStopped


def describe_draft(event: OwnEvent) -> str:
    """Return an event of a drafting engine in a sentence."""
    match event:
        case DraftStarted():
            return (
                f"drafts with {event.model} on {event.device}: {', '.join(event.classes)}, from "
                f"{event.features} features"
            )
        case DraftReady():
            learned = f", {event.learned} stroke pixels learned" if event.learned else ""
            region = format_region(event.box)
            return f"draft of {region} in {event.seconds:.2f} s{learned}: {event.path}"
        case StrokeScored():
            return (
                f"{event.pixels} new pixels: right on {event.right_before:.0%} before, "
                f"{event.right_now:.0%} now"
            )
        case DraftStopped():
            return f"stopped after {event.drafts} drafts"
