"""The gate says better or worse only where the blocks show it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.app.training.held_out import Scores
from napari_unet.app.training.judge import Question, judge
from napari_unet.metrics.classes import Confusion


def scores(*tables: list[list[int]]) -> Scores:
    return Scores(tuple(Confusion(np.array(table)) for table in tables), 0.5)


def question(*classes: str, known: str = "ab") -> Question:
    return Question("judging blocks", classes, frozenset(known), seed=0)


GOOD, BAD = [[9, 1], [1, 9]], [[5, 5], [5, 5]]


def test_a_clear_gain_on_every_block_is_better_and_mirrored_it_is_worse() -> None:
    old, new = scores(*[BAD] * 8), scores(*[GOOD] * 8)
    better = judge(old, new, question("a", "b"))
    assert (better.verdict, better.blocks) == ("better", 8)
    assert better.before == pytest.approx(0.5)
    assert better.after == pytest.approx(0.9)
    assert better.low is not None
    assert better.low > 0
    assert better.classes == {
        "a": (pytest.approx(0.5), pytest.approx(0.9)),
        "b": (pytest.approx(0.5), pytest.approx(0.9)),
    }
    low, high, verdict = better.differences["b"]
    assert (low, high) == (pytest.approx(0.4), pytest.approx(0.4))
    assert verdict == "better"
    assert judge(new, old, question("a", "b")).verdict == "worse"
    assert judge(new, new, question("a", "b")).verdict == "no difference shown"


def test_few_blocks_claim_nothing_and_say_why() -> None:
    result = judge(scores(BAD, BAD), scores(GOOD, GOOD), question("a", "b"))
    assert (result.verdict, result.low, result.high) == ("no difference shown", None, None)
    assert "too few" in result.note
    assert result.differences == {}


def test_a_new_class_counts_only_where_it_is_seen_in_place_of_an_old_one() -> None:
    """Finding the new class is no gain of the old ones; seeing it where it is not is a loss."""
    blind = [[9, 1, 0], [1, 9, 0], [10, 0, 0]]
    finds = [[9, 1, 0], [1, 9, 0], [0, 0, 10]]
    everywhere = [[5, 1, 4], [1, 5, 4], [0, 0, 10]]
    asked = question("a", "b", "new")
    same = judge(scores(*[blind] * 6), scores(*[finds] * 6), asked)
    assert (same.before, same.verdict) == (same.after, "no difference shown")
    assert same.classes["new"] == (None, 1.0)
    worse = judge(scores(*[blind] * 6), scores(*[everywhere] * 6), asked)
    assert worse.verdict == "worse"
    # By itself, a gains where the new class is no longer called a: 0.6 before, 0.625 now.
    assert {name: each[2] for name, each in worse.differences.items()} == {
        "a": "better", "b": "worse",
    }  # fmt: skip
    assert asked.metric == "mean F1 of a, b"


def test_without_a_parent_only_the_new_score_is_said() -> None:
    result = judge(None, scores(GOOD), question("a", "b", known=""))
    assert (result.before, result.verdict, result.low) == (None, None, None)
    assert result.after == pytest.approx(0.9)
    assert result.classes == {"a": (None, pytest.approx(0.9)), "b": (None, pytest.approx(0.9))}
