"""Events of the engine, read back from the JSON lines that it prints."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from napari_unet.core.boxes import Box
from napari_unet.core.draft_events import DraftEvent, DraftStopped
from napari_unet.core.events import AlreadyDone, Cancelled, Failed, Finished, JobEvent, event_name
from napari_unet.core.objects_events import ObjectsCancelled, ObjectsEvent
from napari_unet.core.train_events import TrainEvent, TrainingFinished

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

EngineEvent: TypeAlias = JobEvent | ObjectsEvent | TrainEvent | DraftEvent
"""What an engine's process can say, whatever its job."""

FINAL_EVENTS = (
    Finished,
    Cancelled,
    Failed,
    AlreadyDone,
    ObjectsCancelled,
    TrainingFinished,
    DraftStopped,
)
"""A job says exactly one of these, last."""


def _box(value: Any) -> Box:
    return Box(tuple(int(n) for n in value["start"]), tuple(int(n) for n in value["stop"]))


def _boxes(value: Any) -> tuple[Box, ...]:
    return tuple(_box(each) for each in value)


def _integers(value: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in value)


def _names(value: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in value)


def _classes(value: Any) -> Any:
    if isinstance(value, dict):
        # Scores of classes: name -> (before, after), or (pixels, before, after).
        return {str(name): tuple(scores) for name, scores in value.items()}
    if all(isinstance(each, str) for each in value):
        return tuple(value)
    return tuple((str(name), str(color)) for name, color in value)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "box": _box,
    "boxes": _boxes,
    "changed": tuple,
    "region": _box,
    "shape": _integers,
    "tile_shape": _integers,
    "classes": _classes,
    "new_classes": _names,
    "tables": _names,
}
"""JSON knows neither boxes nor tuples; every other field is a plain value."""

# event_name needs an instance only for its type's name.
_EVENTS: dict[str, Any] = {
    event_name(object.__new__(event_class)): event_class for event_class in get_args(EngineEvent)
}


def parse_event(line: bytes) -> EngineEvent | None:
    """Return the event that a line of the engine's output holds.

    Parameters
    ----------
    line : bytes
        One line of UTF-8.

    Returns
    -------
    EngineEvent or None
        None for a line that is no event that this version knows: libraries may print, and a newer
        engine may say more. It is logged, never fatal.

    Examples
    --------
    >>> parse_event(b'{"event": "paused", "paused": true}')
    Paused(paused=True)
    >>> parse_event(b"a library's own words") is None
    True
    """
    try:
        values = json.loads(line)
        event_class = _EVENTS[values["event"]]
        known = {field.name for field in fields(event_class)}
        arguments = {
            name: _CONVERTERS.get(name, lambda value: value)(value)
            for name, value in values.items()
            if name in known
        }
        event: EngineEvent = event_class(**arguments)
    except (ValueError, KeyError, TypeError) as error:
        logger.debug("not an event of the engine: %r (%r)", line[:200], error)
        return None
    return event
