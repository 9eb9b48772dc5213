"""The fit of the last layer, against scikit-learn, and what it must not do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from napari_unet.app.drafting import head as head_module
from napari_unet.app.drafting.head import (
    PULL_PER_FEATURE,
    Head,
    HeadMaker,
    StrokeFeatures,
)
from napari_unet.errors import ConfigError

WIDTHS = (4, 6)


def layer(rng: np.random.Generator, classes: int = 2) -> nn.Conv2d:
    made = nn.Conv2d(3, classes, 1)
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(rng.normal(0, 1, (classes, 3, 1, 1))))
    return made


def strokes(rng: np.random.Generator, classes: int, count: int = 400) -> StrokeFeatures:
    centers = rng.normal(0, 1, (classes, 10))
    labels = rng.integers(0, classes, count)
    rows = centers[labels] + rng.normal(0, 1, (count, 10))
    spread = torch.from_numpy(rng.uniform(0.5, 2, 10)).float()
    mean = torch.from_numpy(rng.normal(0, 1, 10)).float()
    return StrokeFeatures(
        torch.from_numpy(rows).float(), torch.from_numpy(labels), mean, spread, count
    )


def test_it_is_the_regression_of_scikit_learn(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "TOLERANCE", 1e-7)
    monkeypatch.setattr(head_module, "MAX_ITERATIONS", 1000)
    maker = HeadMaker(layer(rng, 3), "abc", WIDTHS)
    blank = Head(("x", "y", "z"), torch.zeros((3, 10)), torch.zeros(3), WIDTHS)
    given = strokes(rng, 3)
    found = maker.fit(blank, given)
    scaled = ((given.rows - given.mean) / given.spread).numpy()
    # Its penalty is half the squared norm; a column of ones is a bias that is penalized, too.
    inputs = np.hstack([scaled, np.ones((len(scaled), 1))])
    reference = LogisticRegression(
        C=1 / (2 * PULL_PER_FEATURE * 10), fit_intercept=False, tol=1e-8, max_iter=1000
    ).fit(inputs, given.labels.numpy())
    said = torch.softmax(given.rows @ found.matrix.T + found.bias, dim=1)
    np.testing.assert_allclose(said, reference.predict_proba(inputs), atol=1e-3)
    assert found.learned == 400


def test_it_starts_as_the_model_and_new_classes_start_low(rng: np.random.Generator) -> None:
    made = layer(rng)
    maker = HeadMaker(made, ("cell", "membrane"), WIDTHS)
    head = maker.start(("new", "wall", "cell"), {"membrane": "wall"})
    assert head.new == ("new",)
    features = torch.from_numpy(rng.normal(0, 3, (50, 10))).float()
    with torch.no_grad():
        of_model = made(features[:, :3].T[None, :, :, None])[0, :, :, 0].argmax(dim=0)
    np.testing.assert_array_equal(head.predict(features), np.where(of_model == 0, 3, 2))
    with pytest.raises(ConfigError, match="cannot be renamed"):
        maker.start(("cell",), {"nucleus": "cell"})


def test_a_head_without_known_classes_says_nothing_until_it_learns(
    rng: np.random.Generator,
) -> None:
    maker = HeadMaker(layer(rng), ("cell", "membrane"), WIDTHS)
    start = maker.start(("p", "q"), {})
    given = strokes(rng, 2)
    assert not start.predict(given.rows).any()
    right = maker.fit(start, given).predict(given.rows) == given.labels.numpy() + 1
    assert right.mean() > 0.8


def test_one_stroke_changes_what_is_like_it_and_little_else(rng: np.random.Generator) -> None:
    maker = HeadMaker(layer(rng), ("a", "b"), (4, 96))
    start = maker.start(("a", "b"), {})
    everywhere = torch.from_numpy(rng.normal(0, 1, (2000, 100))).float()
    before = start.predict(everywhere)
    wrong = everywhere[int(np.flatnonzero(before == 1)[0])]
    rows = wrong + 0.3 * torch.from_numpy(rng.normal(0, 1, (40, 100))).float()
    labels = torch.ones(40, dtype=torch.long)
    given = StrokeFeatures(rows, labels, torch.zeros(100), torch.ones(100), 40)
    head = maker.fit(start, given)
    assert (head.predict(rows) == 2).mean() > 0.9
    assert (head.predict(everywhere) != before).mean() < 0.15


def test_a_silent_feature_does_not_count_hundredfold(rng: np.random.Generator) -> None:
    maker = HeadMaker(layer(rng), ("a", "b"), WIDTHS)
    given = strokes(rng, 2)
    spread = given.spread.clone()
    spread[3] = 0
    silent = StrokeFeatures(given.rows, given.labels, given.mean, spread, given.total)
    head = maker.fit(maker.start(("a", "b"), {}), silent)
    weights = head.matrix[:, 3:].abs().amax(dim=0)
    assert weights[0] < 10 * weights[1:].max()
    flat = StrokeFeatures(
        given.rows * 0 + 1, given.labels, torch.ones(10), torch.zeros(10), given.total
    )
    assert bool(torch.isfinite(maker.fit(maker.start(("a", "b"), {}), flat).matrix).all())


def test_millions_of_pixels_that_are_all_alike_are_learnt(rng: np.random.Generator) -> None:
    maker = HeadMaker(layer(rng), ("a", "b"), (3, 237))
    # One direction in 240 features, as on an image of two gray values that was filled in.
    labels = rng.integers(0, 3, 8192)
    rows = torch.from_numpy(np.outer(labels - 1, rng.normal(0, 10, 240))).float()
    spread, mean = torch.std_mean(rows, dim=0)
    given = StrokeFeatures(rows, torch.from_numpy(labels), mean, spread, 33_000_000)
    head = maker.fit(maker.start(("a", "b", "new"), {}), given)
    assert (head.predict(rows) == labels + 1).all()


NAMES = ("a", "b")
MANY = (4, 26)


def corrections(rng: np.random.Generator, start: Head) -> tuple[StrokeFeatures, torch.Tensor]:
    """Return strokes that a head is wrong on, and features of other pixels."""
    everywhere = torch.from_numpy(rng.normal(0, 1, (3000, 30))).float()
    said = start.predict(everywhere)
    chosen = np.concatenate([np.flatnonzero(said == 1 + k)[:5] for k in range(2)])
    rows = everywhere[chosen].repeat_interleave(12, dim=0)
    rows += 0.1 * torch.from_numpy(rng.normal(0, 1, rows.shape)).float()
    labels = torch.from_numpy(np.where(start.predict(rows) == 1, 1, 0))
    beside, elsewhere = everywhere[1000:1500], everywhere[1500:]
    return StrokeFeatures(rows, labels, torch.zeros(30), torch.ones(30), 120, beside), elsewhere


def test_what_corrects_the_model_leaves_more_of_the_rest_as_it_was(
    rng: np.random.Generator,
) -> None:
    maker = HeadMaker(layer(rng), NAMES, MANY)
    start = maker.start(NAMES, {})
    given, elsewhere = corrections(rng, start)
    before, wanted = start.predict(elsewhere), given.labels.numpy() + 1
    changed = []
    for unpainted in (None, given.unpainted):
        head = maker.fit(start, replace(given, unpainted=unpainted))
        assert (head.predict(given.rows) == wanted).mean() > 0.6
        changed.append((head.predict(elsewhere) != before).mean())
    assert changed[1] < 0.85 * changed[0]


def test_strokes_that_mostly_agree_with_the_model_are_learnt_alone(
    rng: np.random.Generator,
) -> None:
    maker = HeadMaker(layer(rng), NAMES, MANY)
    start = maker.start(NAMES, {})
    given, _ = corrections(rng, start)
    said = torch.from_numpy(start.predict(given.rows).astype(np.int64) - 1)
    for wrong, is_alone in ((0, True), (len(said) // 7, True), (len(said) // 5, False)):
        labels = said.clone()
        labels[:wrong] = 1 - labels[:wrong]
        strokes = replace(given, labels=labels)
        alone = maker.fit(start, replace(strokes, unpainted=None))
        joined = maker.fit(start, strokes)
        assert torch.equal(alone.matrix, joined.matrix) == is_alone
    nothing = replace(given, unpainted=torch.zeros((0, 30)))
    alone = maker.fit(start, replace(given, unpainted=None))
    assert torch.equal(maker.fit(start, nothing).matrix, alone.matrix)


def test_unpainted_pixels_hold_no_class_that_the_model_does_not_know(
    rng: np.random.Generator,
) -> None:
    maker = HeadMaker(layer(rng), NAMES, MANY)
    start = maker.start((*NAMES, "new"), {})
    given, elsewhere = corrections(rng, start)
    stroke = elsewhere[:1] + 0.3 * torch.from_numpy(rng.normal(0, 1, (40, 30))).float()
    like_it = elsewhere[:1] + 0.3 * torch.from_numpy(rng.normal(0, 1, (200, 30))).float()
    rows, labels = torch.cat([given.rows, stroke]), torch.cat([given.labels, torch.full((40,), 2)])
    # Even where unpainted pixels look just like the new class.
    unpainted = torch.cat([elsewhere[200:400], like_it[:100]])
    strokes = StrokeFeatures(rows, labels, given.mean, given.spread, len(rows), unpainted)
    head = maker.fit(start, strokes)
    assert (head.predict(like_it[100:]) == 3).mean() > 0.95
    assert (head.predict(elsewhere[400:]) == 3).mean() < 0.1


def test_without_a_class_of_the_model_nothing_is_held(rng: np.random.Generator) -> None:
    maker = HeadMaker(layer(rng), NAMES, MANY)
    given, _ = corrections(rng, maker.start(NAMES, {}))
    start = maker.start(("p", "q"), {})
    alone = maker.fit(start, replace(given, unpainted=None))
    assert torch.equal(maker.fit(start, given).matrix, alone.matrix)
