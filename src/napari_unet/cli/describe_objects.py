"""The events of an object job in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.core.objects_events import (
    ObjectsCancelled,
    ObjectsFound,
    ObjectsProgress,
    ObjectsStarted,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    OwnEvent: TypeAlias = ObjectsStarted | ObjectsProgress | ObjectsFound | ObjectsCancelled


def describe_objects(event: OwnEvent) -> str | None:
    """Return an event of an object job in a sentence, or None when it is not worth one."""
    match event:
        case ObjectsStarted():
            return (
                f"{event.name}: {event.method} ({event.dimension}) of {event.source} in "
                f"{event.blocks} blocks"
            )
        case ObjectsFound():
            return (
                f"{event.objects} objects in {event.seconds:.1f} s; labels in {event.output} as "
                f"{event.name!r}, table in {event.tables[0]}"
            )
        case ObjectsCancelled():
            return f"cancelled while {event.stage}; {event.name!r} in {event.output} is incomplete"
        case _:
            return None
