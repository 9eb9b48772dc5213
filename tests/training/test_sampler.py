"""Patches fit the network, show what they are labeled as, and are reproducible."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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
