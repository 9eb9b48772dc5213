"""The learning rate rises, peaks and falls to zero."""

from __future__ import annotations

import itertools

from napari_unet.training.schedule import learning_rate


def test_it_rises_to_the_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(k, steps=100, peak=2.0, warmup=10) for k in range(101)]
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == 0


def test_without_warmup_it_starts_at_the_peak() -> None:
    assert learning_rate(0, steps=1, peak=3.0, warmup=0) == 3.0
