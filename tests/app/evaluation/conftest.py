"""Small predictions and truths on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_unet.app.evaluate import evaluate
from napari_unet.core.evaluate_job import EvaluateJob

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.app.evaluation.result import Evaluation

Measure = Callable[..., "Evaluation"]


@pytest.fixture
def measure() -> Measure:
    """Evaluate two paths, with few resamples."""

    def run(prediction: Any, truth: Any, **fields: Any) -> Evaluation:
        values = {"predictions": [str(prediction)], "truths": [str(truth)], "resamples": 20}
        return evaluate(EvaluateJob.parse(values | fields, source="test"))

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write an array as TIFF with axes and give its path."""

    def save(name: str, array: npt.NDArray[Any]) -> Path:
        path = tmp_path / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        axes = "ZYX"[-array.ndim :]
        tifffile.imwrite(path, array, metadata={"axes": axes}, photometric="minisblack")
        return path

    return save


def blobs(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> npt.NDArray[np.uint16]:
    """Return numbered boxes at random places; later ones cover earlier ones."""
    labels = np.zeros(shape, np.uint16)
    for number in range(1, count + 1):
        start = [int(rng.integers(0, n)) for n in shape]
        size = [int(rng.integers(1, max(n // 3, 2))) for n in shape]
        labels[tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))] = number
    return labels
