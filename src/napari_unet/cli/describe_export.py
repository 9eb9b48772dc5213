"""The events of an export in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.core.export_events import ExportCancelled, ExportFinished, ExportProgress

if TYPE_CHECKING:
    from typing import TypeAlias

    OwnEvent: TypeAlias = ExportProgress | ExportFinished | ExportCancelled


def describe_export(event: OwnEvent) -> str | None:
    """Return an event of an export in a sentence, or None when it is not worth one."""
    match event:
        case ExportFinished():
            shape = " x ".join(str(n) for n in event.shape)
            return (
                f"{event.name} ({shape}, {event.dtype}) in {event.output}: "
                f"{event.nbytes / 1e6:.1f} MB after {event.seconds:.1f} s"
            )
        case ExportCancelled():
            return f"cancelled; nothing of {event.output} is left"
        case _:
            return None
