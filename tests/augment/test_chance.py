"""One generator per kind of change: switching one change off leaves all others as they are."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from napari_unet.augment.chance import Chance
from napari_unet.augment.geometric import GeometricSettings, draw_coordinates
from napari_unet.augment.intensity import IntensitySettings, jitter_intensity

NAMES = [field.name for field in fields(Chance)]
GEOMETRIC: dict[str, Any] = {"free_share": 1.0, "scale_sigma": 0.1}
INTENSITY: dict[str, Any] = {"share": 1.0}


def states(geometric: dict[str, Any], intensity: dict[str, Any]) -> dict[str, str]:
    """Return the state of each generator after a patch was drawn."""
    chance = Chance.spawned(np.random.default_rng(5))
    draw_coordinates((20, 20), (9.5, 9.5), chance, GeometricSettings(**GEOMETRIC | geometric))
    jitter_intensity(torch.zeros(1, 20, 20), chance, IntensitySettings(**INTENSITY | intensity))
    return {name: str(getattr(chance, name).bit_generator.state) for name in NAMES}


@pytest.mark.parametrize(
    ("geometric", "intensity", "may_change"),
    [
        ({"symmetries": False}, {}, {"symmetry"}),
        ({"elastic_sigma": 0}, {}, {"elastic"}),
        ({"scale_sigma": 0}, {}, {"scale"}),
        ({"free_share": 0}, {}, {"rotation", "scale", "elastic"}),
        ({}, {"noise_max": 0}, {"noise"}),
        ({}, {"blur_max": 0}, {"blur"}),
        ({}, {"gamma_sigma": 0}, {"gamma"}),
        ({}, {"gain_sigma": 0}, {"gain"}),
        ({}, {"offset_sigma": 0}, {"offset"}),
        ({}, {"share": 0}, {"noise", "blur"}),
    ],
)
def test_a_change_that_is_off_uses_up_no_chance_of_others(
    geometric: dict[str, Any], intensity: dict[str, Any], may_change: set[str]
) -> None:
    before, after = states({}, {}), states(geometric, intensity)
    assert {name for name in NAMES if before[name] != after[name]} <= may_change


def test_spawned_generators_differ_and_repeat() -> None:
    def numbers(rng: np.random.Generator) -> list[float]:
        chance = Chance.spawned(rng)
        return [getattr(chance, name).random() for name in NAMES]

    rng = np.random.default_rng(5)
    first, second = numbers(rng), numbers(rng)
    assert len(set(first + second)) == 2 * len(NAMES)
    assert first == numbers(np.random.default_rng(5))


def test_the_parent_keeps_its_own_numbers() -> None:
    rng = np.random.default_rng(5)
    Chance.spawned(rng)
    assert rng.random() == np.random.default_rng(5).random()
