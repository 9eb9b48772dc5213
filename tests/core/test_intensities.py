"""Gray values are compared as the network sees them: around their mean, in standard deviations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.inference.conftest import MemoryImage

from napari_unet.core.header import InputExpectation
from napari_unet.core.intensities import (
    IntensityRange,
    describe_far,
    intensity_ranges,
    measure_quantiles,
)

if TYPE_CHECKING:
    import numpy.typing as npt


def quantiles(array: npt.NDArray[Any]) -> Any:
    return measure_quantiles(MemoryImage(array))


def test_quantiles_are_those_of_scipy_s_scores(rng: np.random.Generator) -> None:
    from scipy.stats import zscore

    array = rng.gamma(2, 30, (2, 3, 40, 50)).astype(np.float32)
    expected = [np.quantile(zscore(c.astype(float).ravel()), (0.05, 0.95)) for c in array]
    np.testing.assert_allclose(quantiles(array), expected, rtol=1e-6)


def test_brightness_and_contrast_do_not_matter_and_nan_does_not_count(
    rng: np.random.Generator,
) -> None:
    array = rng.normal(100, 20, (1, 2, 30, 30))
    other = 7 * array - 400
    np.testing.assert_allclose(quantiles(array), quantiles(other))
    with_holes = np.concatenate([array, np.full_like(array, np.nan)], axis=1)
    np.testing.assert_allclose(quantiles(array), quantiles(with_holes))
    assert quantiles(np.full((1, 1, 4, 4), np.nan)) == ()
    assert quantiles(np.full((1, 1, 4, 4), 9.0)) == ((0.0, 0.0),)


def test_what_is_far(rng: np.random.Generator) -> None:
    micrograph = rng.normal(120, 25, (1, 4, 64, 64)).clip(0, 255)
    ranges = intensity_ranges([quantiles(micrograph), quantiles(micrograph + 3), ()])
    assert ranges is not None
    assert describe_far(ranges, quantiles(micrograph * 0.5 + 100)) is None
    assert describe_far(ranges, ()) is None
    half_black = np.concatenate([micrograph, 0 * micrograph], axis=1)
    fluorescence = rng.exponential(10, micrograph.shape)
    for image in (half_black, fluorescence):
        words = describe_far(ranges, quantiles(image))
        assert words is not None
        assert "in training -1.6 and +1.6" in words
    # A model that was trained on both is at home in both.
    both = intensity_ranges([quantiles(micrograph), quantiles(fluorescence)])
    assert both is not None
    assert describe_far(both, quantiles(fluorescence)) is None
    assert "-1.6 to -" in str(describe_far(both, ((-4.0, 2.0),)))
    assert intensity_ranges([(), ()]) is None


@pytest.mark.parametrize("known", [None, (IntensityRange(low=(-2, -1), high=(1, 2)),)])
def test_a_header_without_them_is_written_as_before(known: Any) -> None:
    expected = InputExpectation(channels=("EM",), intensities=known)
    dumped = expected.model_dump(mode="json")
    assert ("intensities" in dumped) == (known is not None)
    assert InputExpectation.parse(dumped, source="test") == expected
