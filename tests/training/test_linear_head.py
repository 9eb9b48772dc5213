"""Fitting the last layer alone is a logistic regression, and finds its minimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from torch import nn

from napari_unet.errors import TrainingError
from napari_unet.training.linear_head import PULL, Retained, fit_head
from napari_unet.training.retention import divergence, log_shares

CHANNELS, CLASSES, PIXELS = 3, 3, 60


def problem() -> tuple[nn.Conv2d, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    head = nn.Conv2d(CHANNELS, CLASSES, 1)
    with torch.no_grad():
        head.weight.normal_(generator=generator)
        head.bias.normal_(generator=generator)  # type: ignore[union-attr]
    features = torch.randn(PIXELS, CHANNELS, generator=generator)
    labels = torch.randint(CLASSES, (PIXELS,), generator=generator)
    return head, features, labels


def parameters(head: nn.Conv2d) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    assert head.bias is not None
    parts = [head.weight.detach().flatten(), head.bias.detach()]
    return torch.cat(parts).double().numpy()


@pytest.mark.parametrize("held", [0.0, 2.0])
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("weights", [(), (1.0, 5.0, 0.5)])
def test_it_is_the_minimum_that_scipy_finds(
    weights: tuple[float, ...], is_open: bool, held: float
) -> None:
    """Where it is open, the labels of the second half of the pixels do not know the last class.

    Where it is held, other pixels keep the share of the first two classes.
    """
    head, features, labels = problem()
    known = np.ones((PIXELS, CLASSES), bool)
    if is_open:
        known[PIXELS // 2 :, -1] = labels.numpy()[PIXELS // 2 :] == CLASSES - 1
    start = parameters(head)
    x, y = features.double().numpy(), labels.numpy()
    balance = np.array(weights or (1.0,) * CLASSES)[y]
    bare = features.flip(1) * 2

    def shares(flat: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Any:
        w, b = flat[:-CLASSES].reshape(CLASSES, CHANNELS), flat[-CLASSES:]
        return log_softmax((bare.double().numpy() @ w.T + b)[:, :2], axis=1)

    def loss(flat: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        w, b = flat[:-CLASSES].reshape(CLASSES, CHANNELS), flat[-CLASSES:]
        logits = x @ w.T + b
        error = logsumexp(logits, axis=1, b=known) - logits[np.arange(PIXELS), y]
        before, now = shares(start), shares(flat)
        moved = held * (np.exp(before) * (before - now)).sum(axis=1).mean()
        return moved + float(
            (balance * error).sum() / balance.sum() + PULL / PIXELS * ((flat - start) ** 2).sum()
        )

    unknown = torch.from_numpy(~known)
    given = torch.from_numpy(balance) if weights else None
    retained = Retained(bare, (0, 1), held) if held else None
    fit_head(head, features, labels, given, unknown if is_open else None, retained)
    found = parameters(head)
    best = minimize(loss, start, method="BFGS", options={"gtol": 1e-7})
    assert loss(found) == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(found, best.x, atol=2e-3)
    assert loss(found) < loss(start) - 0.01


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    head, features, labels = problem()
    before = parameters(head)
    for wrong, given in ((features[:0], labels[:0]), (features[:, :2], labels)):
        with pytest.raises(TrainingError, match="do not fit a last layer"):
            fit_head(head, wrong, given)
    with pytest.raises(TrainingError, match="NaN or infinity"):
        fit_head(head, features * torch.nan, labels)
    np.testing.assert_array_equal(parameters(head), before)


def test_held_classes_stay_and_a_new_one_comes_up() -> None:
    """All labels are of the last class: nothing speaks against what the others were."""
    bare = torch.randn(200, CHANNELS, 1, 1, generator=torch.Generator().manual_seed(5))
    first = problem()[0](bare).detach()

    def fitted(retained: Retained | None) -> tuple[float, float]:
        """Return how far the others have moved, and the mean probability of the last class."""
        head, features, labels = problem()
        fit_head(head, features, torch.full_like(labels, 2), retained=retained)
        after = head(bare).detach()
        moved = divergence(log_shares(first, (0, 1)), after, (0, 1)).mean()
        return float(moved), float(after.softmax(1)[:, 2].mean())

    free, held = fitted(None), fitted(Retained(bare[..., 0, 0], (0, 1), 10.0))
    assert held[0] < 0.3 * free[0]
    assert held[1] > 0.9 * free[1] > 0.5 > float(first.softmax(1)[:, 2].mean())
