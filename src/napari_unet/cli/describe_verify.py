"""The events of a verification in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.core.verify_events import BlockDamaged, Repaired, Verified, VerifyCancelled

if TYPE_CHECKING:
    from typing import TypeAlias

    from napari_unet.core.verify_events import VerifyProgress

    OwnEvent: TypeAlias = VerifyProgress | BlockDamaged | Verified | Repaired | VerifyCancelled


def describe_verify(event: OwnEvent) -> str | None:
    """Return an event of a verification in a sentence, or None when it is not worth one."""
    match event:
        case BlockDamaged(level=level, box=box, cause=cause):
            what = "block" if level == 0 else f"part of level {level}"
            return f"damaged: {what} {box.start}..{box.stop}: {cause}"
        case Verified():
            return _describe_counts(event)
        case Repaired():
            return (
                f"{event.name} in {event.output}: {event.blocks} blocks were computed again; it is "
                "complete"
            )
        case VerifyCancelled():
            return (
                f"cancelled after {event.done} of {event.blocks} blocks of {event.name} in "
                f"{event.output}"
            )
        case _:
            return None


def _describe_counts(event: Verified) -> str:
    """Return how many blocks are right, and what to do about the others."""
    text = (
        f"{event.name} in {event.output}: {event.right} of {event.blocks} blocks are right, "
        f"{event.damaged} damaged, {event.missing} not done"
    )
    if event.coarse:
        text += f"; {event.coarse} parts of the coarser levels are damaged"
    if event.is_right:
        return f"{text} ({event.seconds:.1f} s)"
    if event.right == event.blocks and not event.coarse:
        text += "; the run did not come to its end"
    return f"{text}; --repair computes what is missing"
