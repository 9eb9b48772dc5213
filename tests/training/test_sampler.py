"""Patches fit the network, show what they are labeled as, and are reproducible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_unet.augment.geometric import GeometricSettings
from napari_unet.augment.intensity import IntensitySettings
from napari_unet.core.receptive import unet_geometry
from napari_unet.errors import TrainingError
from napari_unet.training.sampler import Batch, LabeledPlanes, PatchSampler, SamplerSettings

GEOMETRY = unet_geometry(2)
STILL = IntensitySettings(gain_sigma=0, offset_sigma=0, gamma_sigma=0, noise_max=0, blur_max=0)


def stack(rng: np.random.Generator, shape: tuple[int, ...] = (3, 50, 60)) -> LabeledPlanes:
    """Return planes whose gray value is their label."""
    labels = rng.integers(1, 3, shape).astype(np.uint8)
    return LabeledPlanes(labels[None].astype(np.float32), labels)


def settings(edge: int = 30, free_share: float = 0.0) -> SamplerSettings:
    geometric = GeometricSettings(free_share=free_share)
    return SamplerSettings(output_edge=edge, batch_size=2, geometric=geometric, intensity=STILL)


def test_patches_have_the_sizes_of_the_network(rng: np.random.Generator) -> None:
    sampler = PatchSampler([stack(rng)], GEOMETRY, settings(30))
    batch = sampler.draw(rng)
    (halo,) = set(GEOMETRY.halo[1:])
    assert batch.image.shape == (2, 1, *sampler.input_shape)
    assert GEOMETRY.axes[1].is_legal(sampler.input_shape[0])
    assert batch.labels.shape == (2, *(n - 2 * halo for n in sampler.input_shape))
    assert (batch.image.dtype, batch.labels.dtype) == (torch.float32, torch.int64)
    assert batch.weights is None


def test_labels_lie_under_their_pixels(rng: np.random.Generator) -> None:
    sampler = PatchSampler([stack(rng)], GEOMETRY, settings())
    (halo,) = set(GEOMETRY.halo[1:])
    for _ in range(10):
        batch = sampler.draw(rng)
        inner = batch.image[:, 0, halo:-halo, halo:-halo]
        labeled = batch.labels > 0
        assert float(labeled.float().mean()) > 0.7
        assert torch.allclose(inner[labeled], batch.labels[labeled].float(), atol=1e-3)


def test_small_planes_are_mirrored_and_unlabeled_outside(rng: np.random.Generator) -> None:
    sampler = PatchSampler([stack(rng, (1, 7, 9))], GEOMETRY, settings())
    batch = sampler.draw(rng)
    assert (batch.labels > 0).sum() <= 2 * 7 * 9
    assert 0.99 < float(batch.image.min()) < float(batch.image.max()) < 2.01


def test_weights_go_with_their_labels(rng: np.random.Generator) -> None:
    plain = stack(rng)
    weights = plain.labels.astype(np.float32) * 2
    weighted = LabeledPlanes(plain.image, plain.labels, weights=weights)
    batch = PatchSampler([weighted, plain], GEOMETRY, settings(free_share=1)).draw(rng)
    assert batch.weights is not None
    for labels, found in zip(batch.labels, batch.weights, strict=True):
        labeled = labels > 0
        assert torch.equal(found[labeled], labels[labeled] * 2.0) or bool((found == 1).all())


def test_the_same_generator_gives_the_same_batch(rng: np.random.Generator) -> None:
    sampler = PatchSampler([stack(rng)], GEOMETRY, settings(free_share=0.5))

    def draw(seed: int) -> Batch:
        return sampler.draw(np.random.default_rng(seed))

    assert torch.equal(draw(1).image, draw(1).image)
    assert not torch.equal(draw(1).image, draw(2).image)


def test_all_parts_of_a_large_plane_are_seen(rng: np.random.Generator) -> None:
    labels = np.arange(1, 41 * 47 + 1).reshape(1, 41, 47)
    planes = LabeledPlanes(np.zeros((1, 1, 41, 47), np.float32), labels)
    sampler = PatchSampler([planes], GEOMETRY, settings())
    seen = np.unique(np.concatenate([sampler.draw(rng).labels.numpy().ravel() for _ in range(60)]))
    assert np.isin(labels[0, [0, 0, -1, -1, 20], [0, -1, 0, -1, 20]], seen).all()


def test_shares_are_kept(rng: np.random.Generator) -> None:
    ones = np.ones((1, 50, 50), np.uint8)
    stacks = [
        LabeledPlanes(np.zeros((1, 1, 50, 50), np.float32), k * ones, share=share)
        for k, share in ((1, 3.0), (2, 1.0), (3, 0.0))
    ]
    sampler = PatchSampler(stacks, GEOMETRY, settings(4))
    drawn = [int(label.max()) for _ in range(100) for label in sampler.draw(rng).labels]
    assert drawn.count(1) / len(drawn) == pytest.approx(0.75, abs=0.1)
    assert 3 not in drawn


def test_what_cannot_be_learnt_from_is_refused(rng: np.random.Generator) -> None:
    image = np.zeros((1, 2, 9, 9), np.float32)
    with pytest.raises(TrainingError, match="paint some pixels"):
        LabeledPlanes(image, np.zeros((2, 9, 9), np.uint8))
    with pytest.raises(TrainingError, match="do not fit"):
        LabeledPlanes(image, np.ones((2, 9, 8), np.uint8))
    for shares in ([], [0.0], [1.0, -1.0]):
        stacks = [LabeledPlanes(image, np.ones((2, 9, 9), np.uint8), s) for s in shares]
        with pytest.raises(TrainingError, match="positive share"):
            PatchSampler(stacks, GEOMETRY, settings())


def drawn_in_order(
    planes: LabeledPlanes, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return image and labels of a patch, by SciPy, with chance in the order of the recipes."""
    rng.choice(1, p=[1.0])
    plane = int(rng.integers(len(planes.labels)))
    center = []
    for size, edge in zip(planes.labels.shape[1:], shape, strict=True):
        (halo,), (stride,) = set(GEOMETRY.halo[1:]), set(GEOMETRY.stride[1:])
        play = max((size - edge + 2 * halo) // 2, 0) + stride // 2
        center.append((size - 1) // 2 + int(rng.integers(-play, play + 1)) + (edge - 1) % 2 / 2)
    symmetry = int(rng.integers(8))
    matrix = np.diag([-1.0, 1.0]) if symmetry > 3 else np.eye(2)
    matrix = np.linalg.matrix_power([[0, -1], [1, 0]], symmetry % 4) @ matrix
    rng.random()
    angle, scale = rng.uniform(0, 2 * np.pi), np.exp(rng.normal(0, 0.1))
    matrix = (
        scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ matrix
    )
    control = rng.normal(0, 10, (2, 3, 3))
    knots = np.stack(np.meshgrid(*(np.linspace(0, 2, n) for n in shape), indexing="ij"))
    moved = np.stack([map_coordinates(c, knots, order=3, mode="mirror") for c in control])
    moved += np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij"))
    at = np.tensordot(matrix, moved, 1) + np.reshape(center, (2, 1, 1))
    image = map_coordinates(planes.image[0, plane], at, order=1, mode="mirror")
    inner = np.rint(at[:, halo:-halo, halo:-halo]).astype(int)
    labels = map_coordinates(planes.labels[plane], inner, order=0, mode="constant", cval=0)

    sigma = rng.uniform(0, 1.5) if rng.random() < 1 else 0.0
    noise = rng.uniform(0, 0.3) if rng.random() < 1 else 0.0
    gamma, gain = (np.exp(rng.normal(0, s)) for s in (0.2, 0.15))
    offset = rng.normal(0, 0.2)
    image = gaussian_filter(image, sigma, radius=int(np.ceil(3 * sigma)), mode="mirror")
    low, extent = image.min(), np.ptp(image)
    image = (((image - low) / extent) ** gamma * extent + low) * gain + offset
    return image + noise * rng.standard_normal((1, *shape), dtype=np.float32)[0], labels


@pytest.mark.parametrize("seed", range(3))
def test_recipes_draw_the_same_patches_for_ever(seed: int) -> None:
    """Bundled models repeat from their seeds, so what is drawn, and in which order, is fixed."""
    rng = np.random.default_rng(100 + seed)
    labels = gaussian_filter(rng.normal(size=(3, 50, 60)), (0, 4, 4)) > 0
    image = gaussian_filter(rng.normal(size=(1, 3, 50, 60)), (0, 0, 1, 1))
    planes = LabeledPlanes(image.astype(np.float32), labels.astype(np.uint8))
    drawn = SamplerSettings(
        output_edge=30,
        geometric=GeometricSettings(free_share=1, scale_sigma=0.1, interpolation="linear"),
        intensity=IntensitySettings(blur_max=1.5, share=1),
    )
    sampler = PatchSampler([planes], GEOMETRY, drawn)
    batch = sampler.draw(np.random.default_rng(seed))
    shape = (sampler.input_shape[0], sampler.input_shape[1])
    expected, expected_labels = drawn_in_order(planes, shape, np.random.default_rng(seed))
    assert np.abs(batch.image[0, 0].numpy() - expected).max() < 1e-3
    # A position half way between two pixels may be rounded to either.
    assert np.mean(batch.labels[0].numpy() != expected_labels) < 1e-3
