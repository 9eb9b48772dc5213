"""What the gate found, in words and as a small table."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_unet.core.train_events import Judged, TrainingStarted


def verdict_words(judged: Sequence[Judged], started: TrainingStarted | None) -> str:
    """Return the verdict in sentences, one line for each comparison.

    Parameters
    ----------
    judged : sequence of Judged
        What the gate found; empty = nothing was judged.
    started : TrainingStarted or None
        Knows why nothing was.
    """
    if not judged:
        why = "" if started is None else f" {started.validation}"
        return f"Runs without a claim: nothing was judged.{why}"
    return "\n".join(_sentence(each) for each in judged)


def _sentence(judged: Judged) -> str:
    where = f"on {judged.blocks} {judged.on}"
    note = f" {judged.note}" if judged.note else ""
    if judged.before is None:
        return (
            f"{judged.metric} {judged.after:.2f} {where}; there is nothing to compare with.{note}"
        )
    scores = f"{judged.metric} {judged.before:.2f} \N{RIGHTWARDS ARROW} {judged.after:.2f} {where}"
    if judged.low is None or judged.high is None:
        return f"Runs without a claim: {scores}, too few for an interval.{note}"
    verdict = (judged.verdict or "no difference shown").capitalize()
    return (
        f"{verdict}: {scores}; 95 % interval of the difference {judged.low:+.2f} to "
        f"{judged.high:+.2f}.{note}"
    )


def score_table(judged: Sequence[Judged], colors: Mapping[str, str]) -> str:
    """Return F1 before and after of each class, as rich text; empty if nothing was judged."""
    if not judged:
        return ""
    rows = []
    for name, (before, after) in judged[0].classes.items():
        cells = "".join(f"<td align='right'>{_score(value)}</td>" for value in (before, after))
        mark = f"<span style='color:{escape(colors.get(name, '#888888'))}'>\N{BLACK SQUARE}</span>"
        rows.append(f"<tr><td>{mark} {escape(name)}</td>{cells}</tr>")
    head = "<tr><td></td><td align='right'>F1 before</td><td align='right'>after</td></tr>"
    return f"<table cellpadding='3'>{head}{''.join(rows)}</table>"


def _score(value: float | None) -> str:
    return "\N{EM DASH}" if value is None else f"{value:.2f}"
