"""Where strokes lie: found again by their image, painted by one napari at a time."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_unet.app.annotations import (
    STROKES_FOLDER,
    OpenStrokes,
    PaintedImage,
    create_strokes,
    find_strokes,
    look_at_strokes,
    open_strokes,
    strokes_root,
)
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.errors import InputError, LockedError, StorageError
from napari_unet.io.annotation_store import open_annotation_store

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = (ClassInfo(name="cell", color="#0000ff"), ClassInfo(name="membrane", color="#ffb000"))
IMAGE = PaintedImage(name="em", shape=(3, 300, 400), dtype="uint8", path="/data/em.tif")
DAB = Box((1, 10, 250), (2, 20, 260))


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Strokes lie in the test's folder."""
    monkeypatch.setenv(STROKES_FOLDER, str(tmp_path / "strokes"))
    return tmp_path / "strokes"


def painted(image: PaintedImage = IMAGE, label: int = 2) -> OpenStrokes:
    """Return new strokes with one dab that is on disk."""
    strokes = create_strokes(image, CLASSES, ["interior", None])
    strokes.buffer.write(DAB, np.full(DAB.shape, label, np.uint8))
    strokes.buffer.flush()
    return strokes


def test_strokes_are_found_by_their_image() -> None:
    painted().close()
    (found,) = find_strokes(IMAGE)
    assert (found.image, found.classes, found.blocks) == (IMAGE, CLASSES, 2)
    assert found.created <= found.changed
    strokes = open_strokes(found)
    assert (strokes.buffer.read(DAB) == 2).all()
    assert strokes.buffer.origins == ("interior", None)
    assert open_annotation_store(strokes.path).load().counts == (0, 100)
    strokes.close()


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ({"name": "renamed"}, True),
        ({"dtype": "uint16"}, True),
        ({"path": "/data/other.tif"}, False),
        ({"shape": (3, 300, 401)}, False),
        ({"channel": "1"}, False),
        ({"time": 1}, False),
        ({"level": 1}, False),
    ],
)
def test_an_image_is_told_by_its_file_and_what_of_it_is_shown(
    other: dict[str, Any], is_same: bool
) -> None:
    painted().close()
    assert len(find_strokes(IMAGE.model_copy(update=other))) == is_same


@pytest.mark.parametrize("other", [{"name": "b"}, {"checksum": 8}, {"dtype": "uint16"}])
def test_an_image_in_memory_is_told_by_its_name_and_values(other: dict[str, Any]) -> None:
    image = IMAGE.model_copy(update={"path": None, "checksum": 7})
    painted(image).close()
    assert len(find_strokes(image)) == 1
    assert find_strokes(image.model_copy(update=other)) == []


def test_what_changed_last_comes_first() -> None:
    first, second = painted(), painted(label=1)
    for strokes, time in ((first, 2_000_000_000), (second, 1_000_000_000)):
        for path in strokes.path.rglob("*"):
            os.utime(path, (time, time))
        os.utime(strokes.path, (time, time))
        strokes.close()
    assert [each.folder for each in find_strokes(IMAGE)] == [first.folder, second.folder]


PAINT_AND_HANG = """
import sys, time
from napari_unet.app.annotations import PaintedImage, find_strokes, open_strokes
image = PaintedImage.model_validate_json(sys.argv[1])
strokes = open_strokes(find_strokes(image)[0])
print("open", flush=True)
time.sleep(600)
"""


def test_one_program_paints_at_a_time_and_a_killed_one_holds_nothing() -> None:
    painted().close()
    (found,) = find_strokes(IMAGE)
    command = [sys.executable, "-c", PAINT_AND_HANG, IMAGE.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"open\n"
            with pytest.raises(LockedError, match="open already, in another napari"):
                open_strokes(found)
            seen = look_at_strokes(found)
            assert not seen.is_writable
            assert (seen.buffer.read(DAB) == 2).all()
            seen.close()
        finally:
            other.kill()
    strokes = open_strokes(found)
    # Also within one program.
    with pytest.raises(LockedError):
        open_strokes(found)
    strokes.close()
    open_strokes(found).close()


def test_strokes_without_any_label_leave_nothing(root: Path) -> None:
    strokes = create_strokes(IMAGE, CLASSES)
    assert strokes.path.is_dir()
    assert find_strokes(IMAGE) == []
    strokes.close()
    assert list(root.iterdir()) == []
    # Undone: nothing again, on disk.
    strokes = painted()
    strokes.buffer.write(DAB, np.zeros(DAB.shape, np.uint8))
    strokes.buffer.flush()
    strokes.close()
    assert list(root.iterdir()) == []


def test_what_a_crash_left_before_the_first_stroke_is_swept() -> None:
    in_use, crashed, kept = (
        create_strokes(IMAGE, CLASSES),
        create_strokes(IMAGE, CLASSES),
        painted(),
    )
    assert crashed._lock is not None
    crashed._lock.release()
    fresh = create_strokes(IMAGE, CLASSES)
    there = [each.folder.exists() for each in (in_use, crashed, kept, fresh)]
    assert there == [True, False, True, True]
    for strokes in (in_use, kept, fresh):
        strokes.close()


def test_what_cannot_be_read_is_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    damaged, sound, later = painted(), painted(), painted()
    for strokes in (damaged, sound, later):
        strokes.close()
    (damaged.path / "zarr.json").write_text("{", encoding="utf-8")
    record = later.folder / "strokes.json"
    text = record.read_text(encoding="utf-8").replace(
        '"strokes_version": 1', '"strokes_version": 2'
    )
    record.write_text(text, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert [each.folder for each in find_strokes(IMAGE)] == [sound.folder]
    assert str(damaged.folder) in caplog.text
    assert "it has version 2, this program reads 1" in caplog.text


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.write_text("a file, where a folder should be")
    with pytest.raises(StorageError, match=f"name another folder in .* {STROKES_FOLDER}"):
        create_strokes(IMAGE, CLASSES)
    monkeypatch.delenv(STROKES_FOLDER)
    monkeypatch.setenv("XDG_DATA_HOME", str(root.parent))
    if sys.platform == "linux":
        assert strokes_root() == root.parent / "napari-unet" / "strokes"


def test_strokes_that_cannot_be_listed_are_not_taken_for_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted().close()
    (found,) = find_strokes(IMAGE)
    scandir = os.scandir

    def broken(path: Any) -> Any:
        if str(path).endswith(os.path.join("c", "1")):
            raise OSError(errno.EIO, "Input/output error", path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", broken)
        assert find_strokes(IMAGE) == []
        with pytest.raises(InputError, match="the chunks cannot be listed"):
            look_at_strokes(found)
        # It sweeps what a crash has left before the first stroke.
        create_strokes(IMAGE, CLASSES).close()
    assert find_strokes(IMAGE) == [found]


def test_strokes_of_a_later_version_or_whose_disk_is_gone_are_not_swept(root: Path) -> None:
    later, gone = painted(), painted()
    later.close()
    gone.close()
    record = later.folder / "strokes.json"
    record.write_text(record.read_text().replace('"strokes_version": 1', '"strokes_version": 2'))
    (later.path / "c").rename(later.path / "data")
    gone.path.rename(root / "elsewhere.zarr")
    create_strokes(IMAGE, CLASSES).close()
    assert later.folder.is_dir()
    (root / "elsewhere.zarr").rename(gone.path)
    assert [found.folder for found in find_strokes(IMAGE)] == [gone.folder]
