"""The seam check finds no seam where there is none, and those of networks that break the law."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
from tests.nets import save_lively_model

from napari_unet.app import seam_check
from napari_unet.app.seam_check import check_seams
from napari_unet.core.job import SegmentJob
from napari_unet.errors import BackendError, InputError
from napari_unet.inference.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_unet.app.plan import SegmentPlan
    from napari_unet.inference.device import Backend


def job_of(image: Path | str, model: str, **options: Any) -> SegmentJob:
    fields = {"input": str(image), "model": model, "output": "", "threads": 1, "tile_size": 32}
    return SegmentJob.parse(fields | options, source="test")


class BatchStatistics(torch.nn.Module):
    """Adds the mean of all that it sees, as a network with batch statistics does."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(image)
        change = torch.stack([image.mean(), -image.mean()])
        return logits + 3 * change[None, :, None, None]


class PaddedConvolution(torch.nn.Module):
    """Smooths its answer with zeros beyond the edges of every tile."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(image)
        return torch.nn.functional.avg_pool2d(logits, 9, 1, 4, count_include_pad=True)


def broken(kind: type[torch.nn.Module]) -> Callable[[SegmentPlan, Backend], Predictor]:
    """Return what makes predictors of a network with a flaw."""
    make = seam_check.make_predictor

    def make_broken(plan: SegmentPlan, backend: Backend) -> Predictor:
        predictor = make(plan, backend)
        predictor._net = kind(predictor._net)  # type: ignore[assignment]  # a module is enough
        return predictor

    return make_broken


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"average": "d4"},
        {"rescale": 0.6},
        {"rescale": 1.7},
        {"region": "1:2,7:83,5:64"},
        {"normalization": "100,50"},
        {"batch_size": 3},
    ],
    ids=str,
)
def test_a_network_that_keeps_the_law_shows_no_seams(
    stack_path: str, model: str, options: dict[str, Any]
) -> None:
    report = check_seams(job_of(stack_path, model, **options))
    assert report.holds
    assert report.largest_difference < 1e-5
    assert report.differing_pixels == 0
    assert report.tiles >= 4
    assert report.region.shape[0] == 1


@pytest.mark.parametrize("kind", [BatchStatistics, PaddedConvolution])
@pytest.mark.parametrize("options", [{}, {"rescale": 0.6}], ids=str)
def test_seams_of_a_broken_network_are_found(
    stack_path: str,
    model: str,
    kind: type[torch.nn.Module],
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seam_check, "make_predictor", broken(kind))
    report = check_seams(job_of(stack_path, model, **options))
    assert not report.holds
    assert report.largest_difference > 1e-3
    # Rescaled, the small change of the padded one moves no class.
    assert report.differing_pixels > 0 or kind is PaddedConvolution
    assert report.region.contains(
        type(report.region)(report.place, tuple(n + 1 for n in report.place))
    )


def test_a_network_that_sees_neighbors_sees_the_true_ones(tmp_path: Path, stack: Any) -> None:
    save_lively_model(tmp_path / "deep.safetensors", in_channels=5, expects={"context": 2})
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, np.concatenate([stack, stack[::-1], stack]))
    report = check_seams(
        job_of(path, str(tmp_path / "deep.safetensors"), axes="zyx", region="4:5,:,:")
    )
    assert report.holds
    assert report.region.start[0] == 4


def test_the_part_is_the_middle_and_bounded(
    tmp_path: Path, model: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "wide.tif"
    tifffile.imwrite(path, rng.integers(0, 255, (300, 1000), dtype=np.uint8))
    monkeypatch.setattr(seam_check, "PART_EDGES", (160, 96, 64))
    report = check_seams(job_of(path, model))
    assert (report.region.start, report.region.stop) == ((0, 70, 420), (1, 230, 580))
    # A pass over 160 pixels would take more than that; one over 64 is tried whatever it takes.
    monkeypatch.setattr(seam_check, "MEMORY_BYTES", 0)
    report = check_seams(job_of(path, model))
    assert report.region.shape == (1, 64, 64)
    assert json.loads(json.dumps(report.to_json()))["region"] == "0:1,118:182,468:532"


def test_a_pass_that_was_divided_is_none(
    stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory is short the engine computes parts, and would be compared with itself."""
    forward = Predictor._forward

    def short(self: Predictor, batch: Any) -> Any:
        if batch.shape[-1] > 100:
            raise MemoryError
        return forward(self, batch)

    monkeypatch.setattr(Predictor, "_forward", short)
    with pytest.raises(BackendError, match="does not fit into the memory"):
        check_seams(job_of(stack_path, model))
    monkeypatch.setattr(seam_check, "PART_EDGES", (128, 48))
    assert check_seams(job_of(stack_path, model)).region.shape == (1, 48, 48)


def test_damage_is_named(stack_path: str, model: str, tmp_path: Path) -> None:
    from pathlib import Path as RealPath

    chunk = next(p for p in RealPath(stack_path).rglob("1") if p.is_dir())
    for file in chunk.rglob("*"):
        if file.is_file():
            file.write_bytes(b"torn")
    with pytest.raises(InputError):
        check_seams(job_of(stack_path, model, region="1:2,:,:", normalization="100,50"))


def test_tolerance_is_that_of_the_arithmetic(stack_path: str, model: str) -> None:
    assert check_seams(job_of(stack_path, model)).tolerance == 1e-4
    assert check_seams(job_of(stack_path, model, tf32=True)).tolerance == 1e-2
