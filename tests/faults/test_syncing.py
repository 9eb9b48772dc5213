"""What a disk could not sync is stored again before the next try."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from napari_unet.app.segment import run_job
from napari_unet.app.verify import run_verify
from napari_unet.core.events import Finished
from napari_unet.core.job import SegmentJob
from napari_unet.core.verify_events import Verified
from napari_unet.errors import StorageError
from napari_unet.files import sync_folder
from napari_unet.io.ome_zarr_writer import OutputImage

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.boxes import Box

CHUNK = "labels/found/0/c/1/0/1"


def refusing(monkeypatch: pytest.MonkeyPatch, path: Path, times: int) -> None:
    """Let the disk refuse to sync a file, so many times."""
    fsync, left = os.fsync, [times]

    def refuse(descriptor: int) -> None:
        if left[0] and path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            left[0] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.fixture
def job(tmp_path: Path, stack_path: str, model: str) -> SegmentJob:
    fields = {"input": stack_path, "model": model, "name": "found", "block_size": 48}
    return SegmentJob(**fields, output=str(tmp_path / "out.zarr"), tile_size=48, threads=1)


def test_a_block_is_stored_again_when_it_could_not_be_synced(
    job: SegmentJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, write = list[Any](), OutputImage.write_labels

    def watched(self: OutputImage, box: Box, labels: npt.NDArray[Any]) -> None:
        stored.append(box.start)
        write(self, box, labels)

    monkeypatch.setattr(OutputImage, "write_labels", watched)
    refusing(monkeypatch, Path(job.output) / CHUNK, 1)
    assert isinstance(list(run_job(job))[-1], Finished)
    assert {start: stored.count(start) for start in stored if stored.count(start) > 1} == {
        (1, 0, 48): 2
    }
    verified = list(run_verify(job.output))[-1]
    assert isinstance(verified, Verified)
    assert verified.is_right


def test_a_block_that_cannot_be_synced_is_not_done(
    job: SegmentJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, Path(job.output) / CHUNK, 100)
    monkeypatch.setattr("napari_unet.inference.patience.PAUSES_S", (0.0,))
    with pytest.raises(StorageError, match=r"cannot be made durable.*5 of 12 blocks are done"):
        list(run_job(job))
    monkeypatch.undo()
    assert isinstance(list(run_job(job))[-1], Finished)


def test_a_folder_that_fails_is_told_apart_from_one_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, raises in ((errno.EIO, True), (errno.ENOSPC, True), (errno.EINVAL, False)):

        def refuse(_: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refuse)
        if raises:
            with pytest.raises(OSError, match=os.strerror(number)):
                sync_folder(tmp_path)
        else:
            sync_folder(tmp_path)
