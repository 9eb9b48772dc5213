"""Image, labels and weights move together; what comes from outside is no label."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from napari_unet.augment.chance import Chance
from napari_unet.augment.geometric import (
    SYMMETRIES,
    GeometricSettings,
    affine_coordinates,
    draw_coordinates,
    resample_image,
    resample_labels,
    symmetry_matrix,
)
from napari_unet.errors import ConfigError

FREE = GeometricSettings(free_share=1, elastic_sigma=4, scale_sigma=0.1)
GRID_ONLY = GeometricSettings(free_share=0)


@pytest.fixture
def plane(rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=(1, 50, 70)).astype(np.float32))


def test_the_symmetries_are_those_of_a_square(rng: np.random.Generator) -> None:
    image = rng.integers(1, 1000, (12, 12))
    turns = [np.rot90(m, k) for m in (image, image[::-1]) for k in range(4)]
    expected = {m.tobytes() for m in turns}
    moved = set()
    for index in range(SYMMETRIES):
        coordinates = affine_coordinates((12, 12), (5.5, 5.5), symmetry_matrix(index))
        moved.add(resample_labels(torch.from_numpy(image), coordinates).numpy().tobytes())
    assert moved == expected
    assert len(moved) == SYMMETRIES


def test_there_is_no_ninth_symmetry() -> None:
    with pytest.raises(ConfigError, match="0 to 7"):
        symmetry_matrix(SYMMETRIES)


def test_the_identity_copies_and_mirrors(plane: torch.Tensor) -> None:
    coordinates = affine_coordinates((90, 90), (24.5, 34.5), np.eye(2))
    expected = np.pad(plane[0].numpy(), ((20, 20), (10, 10)), mode="reflect")
    for interpolation in ("linear", "cubic"):
        found = resample_image(plane, coordinates, interpolation)[0].numpy()
        assert np.abs(found - expected).max() < 1e-4


def test_linear_interpolation_is_scipys(plane: torch.Tensor, rng: np.random.Generator) -> None:
    coordinates = draw_coordinates((64, 64), (20, 30), Chance.shared(rng), FREE)
    expected = map_coordinates(plane[0].numpy(), coordinates.numpy(), order=1, mode="mirror")
    found = resample_image(plane, coordinates, "linear")[0].numpy()
    assert np.abs(found - expected).max() < 1e-3


def test_labels_are_the_nearest_and_zero_outside(rng: np.random.Generator) -> None:
    labels = rng.integers(1, 4, (50, 70))
    coordinates = draw_coordinates((64, 64), (20, 30), Chance.shared(rng), FREE)
    found = resample_labels(torch.from_numpy(labels), coordinates).numpy()
    y, x = np.rint(coordinates.numpy()).astype(int)
    outside = (y < 0) | (y > 49) | (x < 0) | (x > 69)
    assert outside.any()
    assert not found[outside].any()
    assert np.array_equal(found[~outside], labels[y[~outside], x[~outside]])


@pytest.mark.parametrize("settings", [FREE, GRID_ONLY])
@pytest.mark.parametrize("seed", range(4))
def test_image_and_labels_stay_aligned(settings: GeometricSettings, seed: int) -> None:
    """The image shows its own label, in stripes; so a moved image must show the moved label."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:80, :80]
    labels = torch.from_numpy(1 + ((y // 10 + 2 * (x // 10)) % 3))
    image = labels.float()[None]
    coordinates = draw_coordinates((60, 60), (39.5, 39.5), Chance.shared(rng), settings)
    moved_image = resample_image(image, coordinates, settings.interpolation)[0]
    moved_labels = resample_labels(labels, coordinates)
    # Within half a pixel of an edge, interpolation and the nearest label may differ.
    flat = (resample_image(image, coordinates, "linear")[0] - moved_labels).abs() < 1e-3
    inside = moved_labels > 0
    assert float((flat & inside).sum() / inside.sum()) > 0.7
    assert float((moved_image - moved_labels).abs()[inside].mean()) < 0.15


def test_patches_that_are_not_deformed_lie_on_the_pixel_grid(rng: np.random.Generator) -> None:
    for _ in range(8):
        coordinates = draw_coordinates((44, 44), (100.5, 80.5), Chance.shared(rng), GRID_ONLY)
        assert torch.equal(coordinates, coordinates.round())


def test_weights_are_ignored_outside() -> None:
    coordinates = affine_coordinates((6, 6), (0.5, 0.5), np.eye(2))
    weights = resample_labels(torch.full((4, 4), 2.5), coordinates)
    assert weights.dtype == torch.float32
    assert float(weights.sum()) == pytest.approx(2.5 * 16)
    assert not weights[:2].any()


def test_one_pixel_wide_planes_can_be_read() -> None:
    coordinates = affine_coordinates((5, 5), (0, 3), np.eye(2))
    found = resample_image(torch.full((1, 1, 7), 3.0), coordinates)
    assert torch.allclose(found, torch.tensor(3.0), atol=1e-5)


def test_what_is_on_a_device_stays_there() -> None:
    """Tensors of the device "meta" hold no numbers: every copy to the host would raise."""
    chance = Chance.spawned(np.random.default_rng(1))
    coordinates = draw_coordinates((30, 40), (20, 30), chance, FREE, "meta")
    image = resample_image(torch.empty(2, 50, 70, device="meta"), coordinates)
    labels = resample_labels(torch.empty(50, 70, dtype=torch.uint8, device="meta"), coordinates)
    assert (coordinates.device.type, coordinates.shape) == ("meta", (2, 30, 40))
    assert (image.device.type, image.shape) == ("meta", (2, 30, 40))
    assert (labels.device.type, labels.shape, labels.dtype) == ("meta", (30, 40), torch.uint8)


def test_switching_elastic_off_keeps_angle_and_scale() -> None:
    def corners(sigma: float) -> np.ndarray:
        settings = GeometricSettings(free_share=1, elastic_sigma=sigma, scale_sigma=0.3)
        chance = Chance.spawned(np.random.default_rng(3))
        return draw_coordinates((41, 41), (20, 20), chance, settings)[:, ::40, ::40].numpy()

    small, none = corners(1e-3), corners(0.0)
    assert np.abs(small - none).max() < 0.01
    assert np.linalg.norm(none[:, 0, 0] - none[:, 0, 1]) != pytest.approx(40)
