"""The events of a training in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.core.train_events import (
    Judged,
    Stopped,
    TrainingFinished,
    TrainingStarted,
    Validated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.app.train import TrainEvent
    from napari_unet.core.events import JobEvent


def describe_training(event: JobEvent | TrainEvent) -> str | None:
    """Return an event of a training in a sentence or a few, or None when it is not worth one."""
    match event:
        case TrainingStarted():
            return _started(event)
        case Validated(step=step, metrics=metrics, is_best=is_best):
            return f"step {step}: {_scores(metrics)}{' (kept so far)' if is_best else ''}"
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


def _scores(metrics: Mapping[str, float]) -> str:
    """Return what people look at; programs get the rest, such as IoU."""
    each = ", ".join(
        f"{name.removeprefix('f1/')} {value:.3f}"
        for name, value in metrics.items()
        if name.startswith("f1/")
    )
    mean = f"mean F1 {metrics['score']:.3f}" if "score" in metrics else "no score"
    error = f" +- {metrics['score_error']:.3f}" if metrics.get("score_error") else ""
    loss = f", loss {metrics['loss']:.3f}" if "loss" in metrics else ""
    return f"{mean}{error} ({each}){loss}" if each else f"{mean}{error}{loss}"


def _judged(event: Judged) -> str:
    each = ", ".join(
        f"{name} {_change(before, after)}" for name, (before, after) in event.classes.items()
    )
    return f"judged on {event.on}: {event.note}; F1 of classes: {each}"


def _change(before: float | None, after: float | None) -> str:
    new = "unknown" if after is None else f"{after:.3f}"
    return new if before is None else f"{before:.3f} -> {new}"
