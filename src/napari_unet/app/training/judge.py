"""The gate: old and new weights on the same held-out blocks, and what may be said of them.

The score is the mean F1 over the classes that the parent knows, on pixels whose true class it
knows: there the parent could be right everywhere, and a new class that the new weights see where
there is none counts against them. What a new class itself achieves is reported beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_unet.core.train_events import Judged
from napari_unet.metrics.bootstrap import Difference, f1_of, paired_difference
from napari_unet.metrics.classes import Confusion

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from napari_unet.app.training.held_out import Scores
    from napari_unet.core.train_events import Verdict

CLASS_RESAMPLES = 1000
"""For each class by itself: enough for two digits, and half a second for ten classes."""

Ground = Literal["judging blocks", "regression crops"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is compared.

    Parameters
    ----------
    on : {"judging blocks", "regression crops"}
        Where.
    classes : tuple of str
        Of the new weights.
    known : frozenset of str
        Those that the parent knows.
    seed : int
        Of the bootstrap.
    """

    on: Ground
    classes: tuple[str, ...]
    known: frozenset[str]
    seed: int

    @property
    def metric(self) -> str:
        """What is compared, in words."""
        return f"mean F1 of {', '.join(self.comparable or self.classes)}"

    @property
    def comparable(self) -> tuple[str, ...]:
        """Classes that both can tell apart; one alone cannot be told from anything."""
        names = tuple(name for name in self.classes if name in self.known)
        return names if len(names) > 1 else ()


def judge(before: Scores | None, after: Scores, question: Question) -> Judged:
    """Return what may be said of new weights.

    Parameters
    ----------
    before : Scores or None
        Of the parent, with its classes in the order of the new ones; None = there is none.
    after : Scores
        Of the new weights, on the same blocks in the same order.
    question : Question
        What is compared.
    """
    total = Confusion.total(after.blocks)
    if before is None or not question.comparable:
        classes = _by_class(question.classes, None, total, frozenset())
        mean = total.mean_f1 or 0.0
        blocks = len(after.blocks)
        note = f"{question.metric} is {mean:.3f} on {blocks} held-out block(s)"
        return Judged(
            question.on, blocks, question.metric, None, mean, None, None, None, classes, note
        )
    found = paired_difference(
        before.blocks, after.blocks, _known_f1(question.classes, question.known), seed=question.seed
    )
    old = Confusion.total(before.blocks)
    return Judged(
        on=question.on,
        blocks=found.blocks,
        metric=question.metric,
        before=found.before,
        after=found.after or 0.0,
        low=found.low,
        high=found.high,
        verdict=found.verdict,
        classes=_by_class(question.classes, old, total, question.known),
        note=_in_words(found, question),
        differences=_differences(before, after, question),
    )


def _differences(
    before: Scores, after: Scores, question: Question
) -> dict[str, tuple[float, float, Verdict]]:
    """Return interval and verdict of each class that has them."""
    found: dict[str, tuple[float, float, Verdict]] = {}
    for number, name in enumerate(question.classes, start=1):
        if name not in question.known:
            continue
        each = paired_difference(
            before.blocks,
            after.blocks,
            f1_of(number),
            resamples=CLASS_RESAMPLES,
            seed=question.seed,
        )
        if each.low is not None and each.high is not None:
            found[name] = each.low, each.high, each.verdict
    return found


def _known_f1(
    classes: Sequence[str], known: Collection[str]
) -> Callable[[Confusion], float | None]:
    """Return the score of the gate."""
    inside = np.array([name in known for name in classes])

    def statistic(counts: Confusion) -> float | None:
        table = np.where(inside[:, np.newaxis], counts.counts, 0)
        scores = [f1 for f1, of in zip(Confusion(table).f1, inside, strict=True) if of]
        present = [f1 for f1 in scores if f1 is not None]
        return sum(present) / len(present) if present else None

    return statistic


def _by_class(
    classes: Sequence[str], before: Confusion | None, after: Confusion, known: Collection[str]
) -> dict[str, tuple[float | None, float | None]]:
    old = [None] * len(classes) if before is None else before.f1
    rows = zip(classes, old, after.f1, strict=True)
    return {name: (b if name in known else None, a) for name, b, a in rows}


def _in_words(found: Difference, question: Question) -> str:
    if found.before is None or found.after is None:
        return f"{found.verdict}: {found.reason}"
    text = f"{found.verdict}: {question.metric} {found.before:.3f} -> {found.after:.3f}"
    if found.low is None or found.high is None:
        return f"{text}; {found.reason}"
    return (
        f"{text} on {found.blocks} blocks, 95 % interval of the difference {found.low:+.3f} to "
        f"{found.high:+.3f}"
    )
