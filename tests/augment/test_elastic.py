"""Elastic deformation is the cubic spline that SciPy computes, and as strong as it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from napari_unet.augment.elastic import elastic_displacement, spread_displacement
from napari_unet.errors import ConfigError


@pytest.mark.parametrize("points", [(3, 3), (2, 5), (7, 4)])
@pytest.mark.parametrize("shape", [(61, 61), (40, 97)])
def test_spread_is_scipys_bicubic_spline(
    rng: np.random.Generator, points: tuple[int, int], shape: tuple[int, int]
) -> None:
    control = rng.normal(0, 10, (2, *points))
    axes = [np.linspace(0, p - 1, n) for p, n in zip(points, shape, strict=True)]
    positions = np.stack(np.meshgrid(*axes, indexing="ij"))
    expected = [map_coordinates(c, positions, order=3, mode="mirror") for c in control]
    assert np.abs(spread_displacement(control, shape).numpy() - expected).max() < 1e-4


def test_control_points_keep_their_displacement(rng: np.random.Generator) -> None:
    control = rng.normal(0, 10, (2, 3, 3))
    spread = spread_displacement(control, (41, 81)).numpy()
    assert np.allclose(spread[:, ::20, ::40], control, atol=1e-4)


def test_sigma_is_the_standard_deviation_at_control_points(rng: np.random.Generator) -> None:
    drawn = np.stack([elastic_displacement((9, 9), rng, sigma=4).numpy() for _ in range(2000)])
    assert np.abs(drawn[..., ::4, ::4].std(axis=0) - 4).max() < 0.4
    assert np.abs(drawn[..., ::4, ::4].mean(axis=0)).max() < 0.4


def test_the_same_generator_gives_the_same_displacement() -> None:
    first, second = (elastic_displacement((20, 30), np.random.default_rng(3)) for _ in range(2))
    assert first.shape == (2, 20, 30)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)


def test_no_sigma_moves_nothing(rng: np.random.Generator) -> None:
    assert not elastic_displacement((20, 30), rng, sigma=0).any()


@pytest.mark.parametrize(("sigma", "points"), [(-1.0, 3), (10.0, 1)])
def test_what_is_not_defined_is_refused(
    rng: np.random.Generator, sigma: float, points: int
) -> None:
    with pytest.raises(ConfigError, match="at least 2 control points"):
        elastic_displacement((9, 9), rng, sigma=sigma, points=points)
