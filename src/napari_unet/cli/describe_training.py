"""The events of a training in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.core.train_events import Judged, TrainingFinished, TrainingStarted
from napari_unet.training.events import Stopped, Validated

if TYPE_CHECKING:
    from napari_unet.app.train import TrainEvent
    from napari_unet.core.events import JobEvent


def describe_training(event: JobEvent | TrainEvent) -> str | None:
    """Return an event of a training in a sentence or a few, or None when it is not worth one."""
    match event:
        case TrainingStarted():
            return _started(event)
        case Validated(step=step, metrics=metrics, is_best=is_best):
            scores = [f"{name} {value:.3f}" for name, value in sorted(metrics.items())]
            return f"step {step}: {', '.join(scores)}{' (best so far)' if is_best else ''}"
        case Stopped(step=step, reason=reason):
            return f"stopped after step {step}: {reason}"
        case Judged():
            return _judged(event)
        case TrainingFinished():
            return (
                f"{event.detail}; the weights of step {event.best_step} of {event.steps} are kept "
                f"in {event.model} after {event.seconds:.0f} s; log and curves in {event.run}"
            )
        case _:
            return None


def _started(event: TrainingStarted) -> str:
    known = ", ".join(f"{name} {count}" for name, count in event.annotated.items())
    start = f"from {event.parent}" if event.parent else "from random weights"
    length = f"{event.steps} steps" if event.steps else f"{event.seconds:.3g} s"
    sentences = [
        f"training {start} for {length} on {event.device}, patches of {event.output_edge} pixels"
    ]
    if event.first_step:
        sentences.append(f"goes on after step {event.first_step}")
    if event.parent and event.new_classes:
        sentences.append(f"new classes: {', '.join(event.new_classes)}")
    sentences.append(f"labeled pixels to learn from: {known}")
    if event.rehearsed:
        sentences.append(f"rehearses {event.rehearsed} crops of {event.parent}")
    # Where nothing is held out, a warning has said so before.
    if any(event.held_out.values()):
        sentences.append(event.validation)
    return "; ".join(sentences)


def _judged(event: Judged) -> str:
    each = ", ".join(
        f"{name} {_change(before, after)}" for name, (before, after) in event.classes.items()
    )
    return f"judged on {event.on}: {event.note}; F1 of classes: {each}"


def _change(before: float | None, after: float | None) -> str:
    new = "unknown" if after is None else f"{after:.3f}"
    return new if before is None else f"{before:.3f} -> {new}"
