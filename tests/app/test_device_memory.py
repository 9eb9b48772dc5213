"""What fitted is used again, and a memory that is damaged or out of reach hurts nobody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
import pytest
import torch
import zarr
from tests.nets import save_lively_model

from napari_unet.app import device_memory
from napari_unet.app.device_memory import Fit, Occasion, memory_path, recall, remember
from napari_unet.app.job_files import read_record
from napari_unet.app.segment import run_job, segment
from napari_unet.app.segmenting.journal import ledger_path
from napari_unet.core.events import Finished, JobStarted, Warned
from napari_unet.core.job import SegmentJob
from napari_unet.inference.device import choose_backend
from napari_unet.io.ledger import read_ledger
from napari_unet.model.unet import UNet

if TYPE_CHECKING:
    import numpy.typing as npt

ON = Occasion(device="NVIDIA H100", memory_bytes=80 * 2**30, architecture="{}", precision="fp32")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder of the test's own."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: cache / "napari-unet")
    return cache


def test_what_fitted_last_is_recalled_for_its_occasion_alone() -> None:
    assert recall(ON) is None
    remember(ON, Fit(tile_edge=512, batch_size=2))
    remember(ON, Fit(tile_edge=256, batch_size=1))
    assert recall(ON) == Fit(tile_edge=256, batch_size=1)
    for field, value in (
        ("device", "NVIDIA A100"),
        ("memory_bytes", 40 * 2**30),
        ("architecture", '{"depth": 3}'),
        ("precision", "bf16"),
    ):
        assert recall(ON.model_copy(update={field: value})) is None


def test_the_newest_are_kept() -> None:
    for number in range(device_memory.MAX_KEPT + 5):
        remember(ON.model_copy(update={"memory_bytes": number}), Fit(tile_edge=64, batch_size=1))
    assert recall(ON.model_copy(update={"memory_bytes": 4})) is None
    assert recall(ON.model_copy(update={"memory_bytes": 5})) is not None
    assert memory_path().stat().st_size < device_memory.MAX_BYTES


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"[1, 2]",
        b'{"fits": 3}',
        b'{"fits": [null, 3, {}, {"occasion": {}, "fit": {}}]}',
        b'{"fits": [' + b" " * 2**20 + b"]}",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_damaged_memory_is_empty_and_mended(content: bytes) -> None:
    path = memory_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert recall(ON) is None
    remember(ON, Fit(tile_edge=128, batch_size=1))
    assert recall(ON) == Fit(tile_edge=128, batch_size=1)


def test_values_that_no_job_may_have_are_left_out() -> None:
    remember(ON, Fit(tile_edge=128, batch_size=1))
    content = json.loads(memory_path().read_bytes())
    for edge in (0, -5, 10**9, "large", None):
        content["fits"][0]["fit"]["tile_edge"] = edge
        memory_path().write_text(json.dumps(content))
        assert recall(ON) is None


def test_a_folder_that_cannot_be_made_is_passed_over(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    remember(ON, Fit(tile_edge=128, batch_size=1))
    assert recall(ON) is None


class Small:
    """The network's device has memory for so many pixels at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
        self.pixels = pixels
        self.largest = 0
        forward = UNet.forward

        def limited(net: UNet, image: torch.Tensor) -> torch.Tensor:
            count = image.shape[0] * image.shape[2] * image.shape[3]
            if count > self.pixels:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.largest = max(self.largest, count)
            return forward(net, image)

        monkeypatch.setattr(UNet, "forward", limited)


def edge_of(tile: int) -> int:
    return UNet(base_channels=4, depth=2).architecture.geometry().axes[1].input_size(tile)


@pytest.fixture
def job(tmp_path: Path, stack_path: str, model: str) -> SegmentJob:
    return SegmentJob(
        input=stack_path,
        model=model,
        output=str(tmp_path / "out.zarr"),
        name="found",
        block_size=64,
        batch_size=2,
        device="cpu",
    )


def again(job: SegmentJob, output_name: str, **options: Any) -> SegmentJob:
    output = str(Path(job.output).with_name(output_name))
    return job.model_copy(update={"output": output, "batch_size": None} | options)


def labels(job: SegmentJob) -> npt.NDArray[Any]:
    return np.asarray(zarr.open_array(Path(job.output) / "labels/found/0", mode="r")[:])


def outcome(job: SegmentJob) -> tuple[list[str], tuple[int, ...], dict[str, Any]]:
    """Run a job; return its warnings, its planned tile and its provenance."""
    events = list(run_job(job))
    assert isinstance(events[-1], Finished)
    (started,) = (event for event in events if isinstance(event, JobStarted))
    warned = [event.message for event in events if isinstance(event, Warned)]
    record = next(
        r
        for path in Path(job.output).parent.glob("*.unet.json")
        if (r := read_record(path)).output == job.output
    )
    return warned, started.tile_shape, record.provenance


def test_the_next_run_begins_with_what_fitted(
    job: SegmentJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = again(job, "whole.zarr")
    warned, tile, provenance = outcome(whole)
    assert (warned, tile) == ([], (1, 64, 64))
    assert provenance["shrunk_from"] is None
    assert not memory_path().exists(), (
        "nothing is to be remembered of a device that is large enough"
    )

    small = Small(monkeypatch, edge_of(32) ** 2)
    warned, tile, provenance = outcome(job)
    assert len(warned) == 2, "one for the batch, one for the tile"
    assert tile == (1, 64, 64)
    assert provenance["tile_shape"] == [1, 32, 32]
    assert provenance["batch_size"] == 1
    assert provenance["shrunk_from"] == {"tile_shape": [1, 64, 64], "batch_size": 2}
    np.testing.assert_array_equal(labels(job), labels(whole))

    warned, tile, provenance = outcome(again(job, "third.zarr"))
    assert len(warned) == 1
    assert "tiles of 32 instead of 512 pixels" in warned[0]
    assert "--tile-size 512 tries again" in warned[0]
    assert (tile, provenance["shrunk_from"]) == ((1, 32, 32), None)
    assert small.largest == small.pixels

    small.pixels = 10**9
    warned, tile, provenance = outcome(again(job, "fourth.zarr", tile_size=64))
    assert (warned, tile) == ([], (1, 64, 64))
    warned, tile, _ = outcome(again(job, "fifth.zarr"))
    assert tile == (1, 64, 64), "the memory grows with what is tried"


def test_notebooks_begin_with_it_too(
    stack: npt.NDArray[np.uint8], model: str, monkeypatch: pytest.MonkeyPatch, job: SegmentJob
) -> None:
    expected = segment(stack, model, axes="zyx", block_size=64)
    small = Small(monkeypatch, edge_of(32) ** 2)
    outcome(job)
    asked: list[int] = []
    forward = UNet.forward

    def counted(net: UNet, image: torch.Tensor) -> torch.Tensor:
        asked.append(image.shape[-1])
        return forward(net, image)

    monkeypatch.setattr(UNet, "forward", counted)
    np.testing.assert_array_equal(segment(stack, model, axes="zyx", block_size=64), expected)
    assert max(asked) == edge_of(32)
    assert small.largest == small.pixels


def test_another_network_is_not_held_back(
    job: SegmentJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Small(monkeypatch, edge_of(32) ** 2)
    outcome(job)
    monkeypatch.undo()
    monkeypatch.setattr(
        platformdirs,
        "user_cache_path",
        lambda *_, **__: tmp_path / "cache/napari-unet",
    )
    save_lively_model(tmp_path / "other.safetensors", base_channels=6)
    warned, tile, _ = outcome(again(job, "other.zarr", model=str(tmp_path / "other.safetensors")))
    assert (warned, tile) == ([], (1, 64, 64))


def test_a_rescaled_image_remembers_pixels_as_the_network_sees_them(
    job: SegmentJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    Small(monkeypatch, edge_of(64) ** 2)
    rescaled = again(job, "rescaled.zarr", rescale=2.0)
    _, tile, provenance = outcome(rescaled)
    assert tile == (1, 64, 64)
    assert provenance["tile_shape"] == [1, 32, 32] or provenance["tile_shape"] == [1, 16, 16]
    (entry,) = json.loads(memory_path().read_bytes())["fits"]
    assert entry["fit"]["tile_edge"] == 2 * provenance["tile_shape"][-1]
    _, tile, provenance = outcome(again(job, "next.zarr", rescale=2.0))
    assert provenance["shrunk_from"] is None


def test_a_run_that_shrank_goes_on_after_a_crash(
    job: SegmentJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncut = again(job, "uncut.zarr", tile_size=32)
    outcome(uncut)
    Small(monkeypatch, edge_of(32) ** 2)
    events = run_job(job)
    while not memory_path().exists():
        next(events)
    events.close()
    content = read_ledger(ledger_path(Path(job.output), "found"))
    assert content is not None
    assert 0 < len(content.done) < 12
    warned, _, _ = outcome(again(job, "out.zarr"))
    assert any("blocks of found are done already" in text for text in warned)
    np.testing.assert_array_equal(labels(job), labels(uncut))


def test_the_processor_has_a_name_and_a_memory() -> None:
    backend = choose_backend("cpu")
    assert backend.name == "cpu"
    assert backend.total_memory > 2**28
