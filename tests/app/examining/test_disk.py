"""The output folder is tried, and left as it was."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from napari_unet.app.examining import disk
from napari_unet.app.examining.disk import examine_folder, file_system_of

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SMALL = 4 * 2**20


def test_a_good_folder_is_measured_and_left_clean(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in examine_folder(tmp_path, SMALL)}
    assert list(findings) == ["output", "space", "locks"]
    assert {finding.state for finding in findings.values()} <= {"ok", "note"}
    values = findings["output"].values
    assert values["folder"] == str(tmp_path)
    assert values["write_bytes_per_second"] > 0
    assert values["read_bytes_per_second"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_to_come_is_judged_by_the_one_around_it(tmp_path: Path) -> None:
    (tmp_path / "taken.zarr").mkdir()
    findings = examine_folder(tmp_path / "new" / "out.zarr", SMALL)
    assert findings[0].values["folder"] == str(tmp_path)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    findings = examine_folder(tmp_path, SMALL)
    assert [(f.name, f.state) for f in findings] == [("output", "problem"), ("space", "ok")]
    assert "Permission denied" in findings[0].text


def test_a_disk_that_fails_on_the_way_is_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    assert examine_folder(tmp_path, SMALL)[0].state == "problem"
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SLOW_BYTES_PER_SECOND", 1e15)
    assert examine_folder(tmp_path, SMALL)[0].state == "note"


def test_a_file_system_without_locks_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(disk.FileLock, "acquire", refuse)
    finding = examine_folder(tmp_path, SMALL)[-1]
    assert (finding.name, finding.state) == ("locks", "problem")


def test_little_space_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10**7)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    by_name = {finding.name: finding for finding in examine_folder(tmp_path, SMALL)}
    assert by_name["space"].state == "problem"
    assert by_name["output"].state in {"ok", "note"}


def test_the_innermost_mount_decides(tmp_path: Path) -> None:
    folder = tmp_path / "my data" / "deep"
    folder.mkdir(parents=True)
    octal = str(tmp_path / "my data").replace(" ", "\\040")
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\nserver:/x {octal} nfs4 rw 0 0\ntmp /no tmpfs rw 0 0\n"
    )
    assert file_system_of(folder, mounts) == "nfs4"
    assert file_system_of(tmp_path, mounts) == "ext4"
    assert file_system_of(tmp_path, tmp_path / "none") is None
