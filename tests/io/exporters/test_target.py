"""A file has its name only when it is whole; what is there is kept unless it may go."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from napari_unet.errors import InputError, OutputExistsError, StorageError
from napari_unet.io.exporters.target import check_space, check_target, size_on_disk, unfinished

if TYPE_CHECKING:
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_and(target: Path, error: BaseException, *, overwrite: bool, folder: bool = False) -> None:
    """Begin to write, then fail."""
    with unfinished(target, overwrite=overwrite, folder=folder) as part:
        (part / "1.png" if folder else part).write_bytes(b"half")
        raise error


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_new_file_appears_at_the_end(overwrite: bool, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.tif"
    with unfinished(target, overwrite=overwrite) as part:
        part.write_bytes(b"abc")
        assert not target.exists()
    assert target.read_bytes() == b"abc"
    assert names(target.parent) == ["a.tif"]
    assert size_on_disk(target) == 3


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
        (InputError("damaged"), InputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_nothing_is_left_of_what_failed(
    raised: BaseException, expected: type[BaseException], folder: bool, tmp_path: Path
) -> None:
    target = tmp_path / "a"
    with pytest.raises(expected) as error:
        write_and(target, raised, overwrite=True, folder=folder)
    if isinstance(raised, OSError) and not isinstance(raised, InputError):
        assert "free some space" in str(error.value)
    assert names(tmp_path) == []


def test_a_disk_that_can_only_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with (
        pytest.raises(StorageError, match=r"out\.tif cannot be written: Read-only file system"),
        unfinished(tmp_path / "out.tif", overwrite=False),
    ):
        refuse()


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.tif"
    target.write_bytes(b"old")
    with pytest.raises(StorageError, match="half"):
        write_and(target, OSError("half"), overwrite=True)
    assert target.read_bytes() == b"old"
    with unfinished(target, overwrite=True) as part:
        part.write_bytes(b"new")
    assert target.read_bytes() == b"new"


def test_a_file_of_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "a.tif"

    def write_late() -> None:
        with unfinished(target, overwrite=False) as part:
            part.write_bytes(b"new")
            target.write_bytes(b"somebody's")

    with pytest.raises(OutputExistsError):
        write_late()
    assert target.read_bytes() == b"somebody's"
    assert names(tmp_path) == ["a.tif"]


def test_a_folder_of_slices_is_replaced_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a"
    for content in ("one.png", "two.png"):
        with unfinished(target, overwrite=True, folder=True) as part:
            (part / content).write_bytes(b"x")
        assert names(target) == [content]
    (target / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="other files"):
        check_target(target, overwrite=True, folder=True)
    with pytest.raises(StorageError, match="is a folder"):
        check_target(target, overwrite=True, folder=False)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        check_target(target, overwrite=False, folder=True)
    assert names(tmp_path) == ["a"]


def test_a_file_that_cannot_fit_is_refused_at_once(tmp_path: Path) -> None:
    check_space(tmp_path / "no" / "such" / "a.tif", 1)
    with pytest.raises(StorageError, match=r"needs 1000000000000\.000 GB"):
        check_space(tmp_path / "a.tif", 10**21)
