"""A full disk under HDF5 is an error, not the end of the process."""

from __future__ import annotations

import io
import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.io.exporters import calm_file
from napari_unet.io.exporters.calm_file import CalmFile

if TYPE_CHECKING:
    from pathlib import Path

STEPS = st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=30)), max_size=12)


class SmallDisk(io.FileIO):
    """Takes 40 bytes."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        room = 40 - self.tell()
        if room <= 0:
            raise OSError(28, "No space left on device")
        return super().write(data[:room])


@given(steps=STEPS, small=st.booleans())
def test_what_is_written_is_read_whether_or_not_the_disk_took_it(
    steps: list[tuple[int, bytes]], small: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, memory, refused = tmp_path_factory.mktemp("calm") / "a", io.BytesIO(), False
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(calm_file, "open", lambda p, *_, **__: SmallDisk(p, "x+"), raising=False)
        file = CalmFile(path)
    with closing(file):
        for at, data in steps:
            for target in (file, memory):
                target.seek(at)
                assert target.write(memoryview(data)) == len(data)
                assert target.tell() == at + len(data)
            refused |= small and bool(data) and at + len(data) > 40
            end = memory.seek(0, os.SEEK_END)
            assert file.seek(0, os.SEEK_END) == end
            file.seek(0)
            assert file.read(end) == memory.getvalue()
        if refused:
            with pytest.raises(OSError, match="No space left"):
                file.check()
        else:
            file.check()
            assert path.read_bytes() == memory.getvalue()


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        CalmFile(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"mine"
