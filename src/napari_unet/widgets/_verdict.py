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
        why = "" if started is None else f" {sentence(started.validation)}"
        return f"Runs without a claim: nothing was judged.{why}"
    return "\n".join(_sentence(each) for each in judged)


def sentence(words: str) -> str:
    """Return words as a sentence.

    Examples
    --------
    >>> sentence("the 60 s are used up")
    'The 60 s are used up.'
    """
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _sentence(judged: Judged) -> str:
    found = f"{judged.metric} {judged.after:.2f} on {judged.blocks} {judged.on}"
    if judged.before is None:
        return f"Runs without a claim: {found}; there are no scores before to compare with."
    if judged.low is None or judged.high is None:
        note = (judged.note or found).replace("->", "\N{RIGHTWARDS ARROW}")
        return f"Runs without a claim. {sentence(note)}"
    verdict = (judged.verdict or "no difference shown").capitalize()
    scores = f"{judged.before:.2f} \N{RIGHTWARDS ARROW} {judged.after:.2f}"
    interval = f"{judged.low:+.2f} to {judged.high:+.2f}"
    return (
        f"{verdict}: {judged.metric} {scores} on {judged.blocks} {judged.on}; 95 % interval of the "
        f"difference {interval}."
    )


def score_table(judged: Sequence[Judged], colors: Mapping[str, str]) -> str:
    """Return what is known of each class, as rich text; empty if nothing was judged.

    F1 before and after, and below them the verdict with the 95 % interval of the difference, where
    there are blocks enough for one.
    """
    if not judged:
        return ""
    rows = []
    for name, (before, after) in judged[0].classes.items():
        cells = "".join(f"<td align='right'>{_score(value)}</td>" for value in (before, after))
        mark = f"<span style='color:{escape(colors.get(name, '#888888'))}'>\N{BLACK SQUARE}</span>"
        rows.append(f"<tr><td>{mark} {escape(name)}</td>{cells}</tr>")
        if name in judged[0].differences:
            low, high, verdict = judged[0].differences[name]
            words = f"{verdict}, {low:+.2f} to {high:+.2f}"
            rows.append(f"<tr><td colspan='3' align='right'><small>{words}</small></td></tr>")
    head = "<tr><td></td><td align='right'>F1 before</td><td align='right'>after</td></tr>"
    return f"<table cellpadding='3'>{head}{''.join(rows)}</table>"


def _score(value: float | None) -> str:
    return "\N{EM DASH}" if value is None else f"{value:.2f}"
