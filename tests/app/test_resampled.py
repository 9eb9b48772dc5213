"""Images and labels at another voxel size stay on each other."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.app.resampled import ResampledImage, resample_annotation
from napari_unet.core.annotation import Annotation
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.resampling import Resampling
from napari_unet.io.image import Selection, wrap_array

SHAPE = (2, 60, 71)


@pytest.mark.parametrize("factors", [(0.5, 0.5), (0.37, 1.0), (2.0, 3.3), (1.0, 0.61)])
def test_labels_are_those_at_the_centers_and_lie_on_the_image(
    rng: np.random.Generator, factors: tuple[float, float]
) -> None:
    labels = rng.integers(0, 3, SHAPE, dtype=np.uint8)
    resampling = Resampling(SHAPE, factors)
    annotation = Annotation.from_array(labels, ("a", "b"), block_shape=(1, 16, 16))
    found = resample_annotation(annotation, resampling)
    index = np.ix_(
        range(SHAPE[0]),
        *(
            [min(int((j + 0.5) / f), n - 1) for j in range(m)]
            for m, f, n in zip(resampling.shape[1:], factors, SHAPE[1:], strict=True)
        ),
    )
    expected = labels[index]
    np.testing.assert_array_equal(found.read(Box.of_shape(found.shape)), expected)
    source = wrap_array(labels, Selection(axes="zyx"), voxel_size=VoxelSize(9, 4, 4, "nanometer"))
    image = ResampledImage(source, resampling, labels=True)
    box = Box((1, 3, 5), (2, 17, 19))
    np.testing.assert_array_equal(image.read(box)[0], expected[box.slices])
    assert image.levels[0].voxel_size.zyx == (9, 4 / factors[0], 4 / factors[1])


def test_gray_values_are_those_that_the_engine_shows(rng: np.random.Generator) -> None:
    values = rng.integers(0, 255, SHAPE, dtype=np.uint8)
    resampling = Resampling(SHAPE, (0.5, 0.5))
    image = ResampledImage(wrap_array(values, Selection(axes="zyx")), resampling)
    whole = image.read(Box.of_shape(image.shape))[0]
    means = values[:, :60, :70].reshape(2, 30, 2, 35, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(whole[:, :, :35], means, rtol=1e-6)
    box = Box((0, 7, 4), (1, 20, 30))
    np.testing.assert_array_equal(image.read(box)[0], whole[box.slices])
    assert image.identity()["rescale"] == [0.5, 0.5]
