"""The arithmetic of the recipe of `em-membranes`, on small made volumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from types import ModuleType

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def em_volume(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script's module: recipes are no package."""
    monkeypatch.syspath_prepend(str(RECIPES))
    import em_volume  # type: ignore[import-not-found]  # on the path only here

    return sys.modules[em_volume.__name__]


def test_neighbors_are_channels_in_order_of_z_mirrored_at_the_ends(em_volume: ModuleType) -> None:
    image = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    channels = em_volume.with_neighbors(image, 1)
    assert channels.shape == (3, 4, 2, 3)
    assert channels[:, :, 0, 0].T.tolist() == [[1, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 2]]
    np.testing.assert_array_equal(em_volume.with_neighbors(image, 0), image[None])


def test_weights_are_those_of_classes_plus_borders_between_bodies(em_volume: ModuleType) -> None:
    bodies = np.zeros((1, 40, 40), np.uint16)
    bodies[0, :, :20], bodies[0, :, 20:] = 1, 2
    data = em_volume.DataSettings(
        train=(0, 1), validation=(0, 1), balance_power=0, border_weight=3, border_sigma=5
    )
    planes = em_volume.labeled_planes(np.zeros(bodies.shape, np.float32), bodies, 1.0, data)
    membrane = planes.labels == em_volume.MEMBRANE
    assert membrane[0].any(axis=0).nonzero()[0].tolist() == [19, 20]
    assert (planes.weights[~membrane] == 1).all()
    # Columns 19 and 20 are 1 and 2 pixels from the two bodies: d1 + d2 = 3.
    np.testing.assert_allclose(planes.weights[membrane], 1 + 3 * np.exp(-9 / 50), rtol=1e-6)


def test_a_slab_is_the_mean_of_its_slices_standardized(em_volume: ModuleType) -> None:
    image = np.random.default_rng(3).normal(size=(5, 6, 7)).astype(np.float32)
    slabs = em_volume.average_slabs(image, 3)
    middle = image[1:4].mean(axis=0)
    assert abs(float(slabs.mean())) < 1e-6
    assert float(slabs.std()) == pytest.approx(1, rel=1e-5)
    assert np.corrcoef(slabs[2].ravel(), middle.ravel())[0, 1] == pytest.approx(1, abs=1e-6)
