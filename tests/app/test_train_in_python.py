"""Training from arrays: what is kept of them, and what a mistake leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import napari_unet
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_after_a_mistake_the_corrected_call_runs_on_its_own_arrays(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    labels = rng.integers(1, 3, (4, 4), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    image = (90 * labels + rng.normal(0, 9, labels.shape)).astype(np.float32)
    options: dict[str, Any] = {
        "label_kind": "annotation",
        "steps": 1,
        "threads": 1,
        "precision": "fp32",
        "network": {"base_channels": 4, "depth": 2},
        "sampler": {"output_edge": 24},
    }
    output = tmp_path / "new.safetensors"
    with pytest.raises(ConfigError, match="the classes have no names"):
        napari_unet.train(-image, labels, output, **options)
    assert (tmp_path / "new.run" / "given" / "image0.npy").exists()
    result = napari_unet.train(image, labels, output, classes=("dark", "bright"), **options)
    assert result.finished.steps == 1
    np.testing.assert_array_equal(np.load(tmp_path / "new.run/given/image0.npy"), image)
