"""Gray values change as documented; switched off, nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_unet.augment.chance import Chance
from napari_unet.augment.intensity import (
    IntensitySettings,
    bend,
    blur,
    jitter_intensity,
    white_noise,
)

OFF = IntensitySettings(gain_sigma=0, offset_sigma=0, gamma_sigma=0, noise_max=0, blur_max=0)


@pytest.fixture
def image(rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=(2, 40, 50)).astype(np.float32))


@pytest.mark.parametrize("sigma", [0.5, 0.8, 2.0])
def test_blur_is_scipys(image: torch.Tensor, sigma: float) -> None:
    radius = int(np.ceil(3 * sigma))
    expected = [gaussian_filter(c, sigma, radius=radius, mode="mirror") for c in image.numpy()]
    assert np.abs(blur(image, sigma).numpy() - np.stack(expected)).max() < 1e-5


def test_gamma_keeps_order_and_extremes(image: torch.Tensor) -> None:
    bent = bend(image, 1.7)
    assert torch.allclose(torch.stack(bent.aminmax()), torch.stack(image.aminmax()))
    order = image.flatten().argsort()
    assert bool((bent.flatten()[order].diff() >= 0).all())


def test_a_flat_image_stays_flat() -> None:
    assert torch.equal(bend(torch.full((1, 5, 5), 2.0), 0.5), torch.full((1, 5, 5), 2.0))


def test_switched_off_it_changes_nothing(image: torch.Tensor, rng: np.random.Generator) -> None:
    assert torch.allclose(jitter_intensity(image, Chance.shared(rng), OFF), image, atol=1e-5)


def test_the_same_generator_gives_the_same_values(image: torch.Tensor) -> None:
    settings = IntensitySettings(share=1)
    before = image.clone()
    chances = [Chance.spawned(np.random.default_rng(7)) for _ in range(2)]
    first, second = (jitter_intensity(image, chance, settings) for chance in chances)
    assert torch.equal(first, second)
    assert not torch.allclose(first, image, atol=0.01)
    assert torch.equal(image, before)


def test_gain_and_offset_are_as_wide_as_set(image: torch.Tensor, rng: np.random.Generator) -> None:
    settings = OFF.model_copy(update={"gain_sigma": 0.2, "offset_sigma": 0.3})
    drawn = [jitter_intensity(image, Chance.shared(rng), settings) for _ in range(500)]
    gains = np.array([float(d.std() / image.std()) for d in drawn])
    offsets = np.array([float(d.mean()) for d in drawn]) - gains * float(image.mean())
    assert np.log(gains).std() == pytest.approx(0.2, rel=0.15)
    assert offsets.std() == pytest.approx(0.3, rel=0.15)


def test_a_device_changes_its_own_images() -> None:
    """On the device "meta" every copy to the host would raise; noise needs a real generator."""
    settings = IntensitySettings(share=1, noise_max=0)
    image = torch.empty(2, 40, 50, device="meta")
    changed = jitter_intensity(image, Chance.spawned(np.random.default_rng(7)), settings)
    assert (changed.device.type, changed.shape) == ("meta", image.shape)


def test_noise_is_white_and_of_standard_deviation_one(rng: np.random.Generator) -> None:
    noise = white_noise(torch.zeros(2, 100, 100), rng)
    assert noise.dtype == torch.float32
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert abs(float((noise[:, 1:] * noise[:, :-1]).mean())) < 0.03
