"""The learning rate rises, peaks and falls to zero."""

from __future__ import annotations

import itertools

import pytest

from napari_unet.training.schedule import LEAST_RISE, learning_rate, learning_rate_at


def test_it_rises_to_the_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(k, steps=100, peak=2.0, warmup=10) for k in range(101)]
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == 0


def test_without_warmup_it_starts_at_the_peak() -> None:
    assert learning_rate(0, steps=1, peak=3.0, warmup=0) == 3.0


def test_constant_stays_at_the_peak_after_the_rise() -> None:
    rates = [learning_rate(k, steps=9, peak=2.0, warmup=3, schedule="constant") for k in range(9)]
    assert rates[:3] == [learning_rate(k, steps=9, peak=2.0, warmup=3) for k in range(3)]
    assert rates[3:] == [2.0] * 6
    late = [learning_rate_at(s, peak=2.0, warmup_share=0.1, schedule="constant") for s in (0.1, 1)]
    assert late == [2.0, 2.0]


def test_shares_of_the_time_are_shares_of_the_steps() -> None:
    for step in range(20, 100):
        expected = learning_rate(step, steps=100, peak=3.0, warmup=20)
        share = learning_rate_at(step / 100, peak=3.0, warmup_share=0.2)
        assert share == pytest.approx(expected)
    rise = [learning_rate_at(s / 100, peak=3.0, warmup_share=0.2) for s in range(21)]
    assert rise[0] == 3.0 * LEAST_RISE
    assert rise[20] == 3.0
    assert all(a < b for a, b in itertools.pairwise(rise))
    assert learning_rate_at(0.0, peak=3.0, warmup_share=0.0) == 3.0
    assert learning_rate_at(1.0, peak=3.0, warmup_share=0.0) == 0
